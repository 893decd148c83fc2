//! Ceilings of the broker: a loop that publishes ids to a quorum queue with confirms, and takes them out again.

use crate::{broker::connect, figures::float, installation::Installation};
use anyhow::ensure;
use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel, Confirmation,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
        ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable, ShortString},
};
use serde::{Deserialize, Serialize};
use std::{collections::VecDeque, time::Instant};

/// Messages that wait for their confirm.
const UNCONFIRMED: usize = 256;
/// Messages that are given out before one is acknowledged.
const PREFETCH: u16 = 256;
/// An id as it stands in a message, with what separates it from the next: `"01a2050a-7e80-7554-abcb-3d65f0eab086",`
const ID_BYTES: usize = 39;

/// What one loop has done.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Loop {
    /// Ids in one message.
    pub ids: u64,
    /// Messages that one ack is for.
    pub acked_together: u64,
    /// Messages in a second, from the first publish to the last ack.
    pub messages_per_second: f64,
    /// Ids in a second.
    pub ids_per_second: f64,
}

/// Sends `messages` of `ids` ids each through a queue of its own.
pub async fn measure(
    installation: &Installation,
    messages: u64,
    ids: u64,
    acked_together: u64,
) -> anyhow::Result<Loop> {
    let queue = format!("{}.ceiling", installation.name);
    let (sending, receiving) = (connect(&installation.amqp_url).await?, connect(&installation.amqp_url).await?);
    let (publisher, consumer) = (sending.create_channel().await?, receiving.create_channel().await?);
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    publisher.queue_declare(ShortString::from(queue.as_str()), options, arguments).await?;

    let begun = Instant::now();
    let body = vec![b'x'; usize::try_from(ids)? * ID_BYTES];
    let passed = tokio::try_join!(
        publish(&publisher, &queue, &body, messages),
        consume(&consumer, &queue, messages, acked_together)
    );
    let seconds = begun.elapsed().as_secs_f64();
    passed?;
    publisher.queue_delete(ShortString::from(queue.as_str()), QueueDeleteOptions::default()).await?;
    sending.close(200, "done".into()).await?;
    receiving.close(200, "done".into()).await?;
    let rate = float(messages) / seconds;
    say!("ceiling, broker with {ids} ids in a message: {:.0} messages/s, {:.0} ids/s", rate, rate * float(ids));
    Ok(Loop { ids, acked_together, messages_per_second: rate, ids_per_second: rate * float(ids) })
}

async fn publish(channel: &Channel, queue: &str, body: &[u8], messages: u64) -> anyhow::Result<()> {
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    // Persistent, as the service's are.
    let properties = BasicProperties::default().with_delivery_mode(2);
    let mut unconfirmed = VecDeque::with_capacity(UNCONFIRMED);
    for _ in 0..messages {
        if unconfirmed.len() == UNCONFIRMED {
            confirmed(unconfirmed.pop_front()).await?;
        }
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let confirm =
            channel.basic_publish("".into(), ShortString::from(queue), options, body, properties.clone()).await?;
        unconfirmed.push_back(confirm);
    }
    while !unconfirmed.is_empty() {
        confirmed(unconfirmed.pop_front()).await?;
    }
    Ok(())
}

async fn confirmed(confirm: Option<lapin::PublisherConfirm>) -> anyhow::Result<()> {
    let Some(confirm) = confirm else { return Ok(()) };
    ensure!(matches!(confirm.await?, Confirmation::Ack(None)), "the broker has refused a message");
    Ok(())
}

async fn consume(channel: &Channel, queue: &str, messages: u64, acked_together: u64) -> anyhow::Result<()> {
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let mut stream = channel
        .basic_consume(ShortString::from(queue), "".into(), BasicConsumeOptions::default(), FieldTable::default())
        .await?;
    for n in 1..=messages {
        let Some(delivery) = stream.next().await.transpose()? else { anyhow::bail!("the broker has ended the loop") };
        if n.is_multiple_of(acked_together) || n == messages {
            delivery.ack(BasicAckOptions { multiple: acked_together > 1 }).await?;
        }
    }
    // A consumer that is only dropped is cancelled behind our back, and its answer breaks a connection that is being closed.
    channel.basic_cancel(stream.tag(), BasicCancelOptions::default()).await?;
    Ok(())
}
