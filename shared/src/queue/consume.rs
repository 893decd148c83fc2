//! Consuming, in batches that form by themselves: what is there is one batch, and nobody waits for more.

use super::{BrokerConfig, Error, Link, connect, decode, reconnect_pause, topology};
use crate::notify::NotifyId;
use futures_util::{FutureExt, StreamExt};
use lapin::{
    Connection,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::{FieldTable, ShortString},
};
use tokio_util::sync::CancellationToken;

/// Messages that a worker may hold unacknowledged. Each carries the ids of one group commit.
const PREFETCH_MESSAGES: u16 = 64;
/// Ids after which a batch is closed. One message may take it over, by what a group commit holds at most.
const MAX_BATCH_IDS: usize = 256;

/// What was waiting when it was asked for.
#[derive(Debug)]
pub struct Batch {
    /// The notifications to handle; may repeat.
    pub ids: Vec<NotifyId>,
    last: Delivery,
}

impl Batch {
    /// Tells the broker that the whole batch is done. Only after its work is committed.
    ///
    /// # Errors
    /// When the connection is gone; the broker then delivers it again, which is harmless.
    pub async fn ack(self) -> Result<(), Error> {
        self.last.ack(BasicAckOptions { multiple: true }).await?;
        Ok(())
    }
}

/// A consumer of the notify queue that comes back by itself.
#[derive(Debug)]
pub struct Consumer {
    config: BrokerConfig,
    link: Link,
    session: Option<Session>,
    failures: u32,
}

#[derive(Debug)]
struct Session {
    stream: lapin::Consumer,
    // Closes when dropped.
    _connection: Connection,
}

impl Consumer {
    /// A consumer that is not connected yet.
    pub fn new(config: BrokerConfig, link: Link) -> Self {
        Self { config, link, session: None, failures: 0 }
    }

    /// The next batch, or `None` once `stop` is cancelled. Connects, and connects again, as needed.
    pub async fn next(&mut self, stop: &CancellationToken) -> Option<Batch> {
        loop {
            let batch = tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                batch = self.try_next() => batch,
            };
            match batch {
                Ok(batch) => return Some(batch),
                Err(error) => self.lost(&error, stop).await,
            }
        }
    }

    /// Gives up the connection after `error`, and pauses before the next one.
    pub async fn lost(&mut self, error: &Error, stop: &CancellationToken) {
        let was_up = self.session.take().is_some();
        self.link.set(false);
        self.failures = if was_up { 1 } else { self.failures + 1 };
        if was_up || self.failures == 1 {
            tracing::warn!("{error}; the rescue loop works alone until it is back");
        }
        tokio::select! {
            () = tokio::time::sleep(reconnect_pause(self.failures)) => {}
            () = stop.cancelled() => {}
        }
    }

    async fn try_next(&mut self) -> Result<Batch, Error> {
        let session = match &mut self.session {
            Some(session) => session,
            empty => {
                let session = open(&self.config).await?;
                self.link.set(true);
                tracing::info!("RabbitMQ connected for consuming");
                empty.insert(session)
            }
        };
        let first = session.stream.next().await.ok_or(Error::Closed)??;
        let mut batch = Batch { ids: read(&first), last: first };
        while batch.ids.len() < MAX_BATCH_IDS {
            let Some(waiting) = session.stream.next().now_or_never() else { break };
            let delivery = waiting.ok_or(Error::Closed)??;
            batch.ids.extend(read(&delivery));
            batch.last = delivery;
        }
        Ok(batch)
    }
}

async fn open(config: &BrokerConfig) -> Result<Session, Error> {
    let connection = connect(config, "recharge worker").await?;
    let channel = connection.create_channel().await?;
    topology::declare(&channel, &config.names).await?;
    channel.basic_qos(PREFETCH_MESSAGES, BasicQosOptions::default()).await?;
    let stream = channel
        .basic_consume(
            ShortString::from(config.names.notify.as_str()),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    Ok(Session { stream, _connection: connection })
}

/// A message that is not ours holds no ids: it is acknowledged and forgotten, because the rows are what counts.
fn read(delivery: &Delivery) -> Vec<NotifyId> {
    decode(&delivery.data).unwrap_or_else(|error| {
        tracing::warn!(%error, "a message in the notify queue is no list of ids; it is dropped");
        Vec::new()
    })
}
