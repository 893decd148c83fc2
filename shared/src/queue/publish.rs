//! Publishing, in the background and with confirms. Nobody waits for it: the row is committed before its id comes here.

use super::{
    BrokerConfig, Error, Line, Link, PUBLISH_TIMEOUT, QueueNames, connect, encode, reconnect_pause, topology,
    within_timeout,
};
use chrono::TimeDelta;
use lapin::{
    BasicProperties, Channel, Confirmation,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::ShortString,
};
use serde::Serialize;
use std::{collections::HashSet, sync::Arc, time::Duration};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Messages that may wait for the broker. What does not fit is left to the rescue loop.
const MAX_WAITING_MESSAGES: usize = 1_024;
/// Messages that may wait for their confirm.
const MAX_UNCONFIRMED: usize = 256;

/// The publishing end. Clones feed the same connection.
#[derive(Clone, Debug)]
pub struct Publisher {
    messages: mpsc::Sender<Message>,
    link: Link,
}

/// The ids of one group, and when they are to be worked on.
#[derive(Debug)]
struct Message {
    line: Line,
    later: Option<Later>,
    body: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Later {
    step: usize,
    after: TimeDelta,
}

impl Message {
    fn queue<'a>(&self, names: &'a QueueNames) -> &'a str {
        let queues = names.of(self.line);
        self.later.map_or(&queues.main, |later| queues.retry(later.step))
    }
}

impl Publisher {
    /// A publisher, and the task that keeps its connection until `stop`; then it sends what is waiting and ends.
    pub fn new(config: BrokerConfig, stop: CancellationToken) -> (Self, impl Future<Output = ()>) {
        let (sender, receiver) = mpsc::channel(MAX_WAITING_MESSAGES);
        let link = Link::default();
        (Self { messages: sender, link: link.clone() }, run(config, receiver, link, stop))
    }

    /// Hands over the ids of one group commit. Never waits; when the broker is away they are left to the rescue loop.
    pub fn publish<T: Serialize>(&self, line: Line, ids: &[T]) {
        self.send(line, None, ids);
    }

    /// The same, for work that is due after `after`; `step` is the ladder's. They come when they are due, or a little later.
    pub fn publish_later<T: Serialize>(&self, line: Line, step: usize, after: TimeDelta, ids: &[T]) {
        self.send(line, Some(Later { step, after }), ids);
    }

    fn send<T: Serialize>(&self, line: Line, later: Option<Later>, ids: &[T]) {
        if ids.is_empty() || !self.link.is_up() {
            return;
        }
        if self.messages.try_send(Message { line, later, body: encode(ids) }).is_err() {
            tracing::debug!("the broker is slower than its publisher; a group of ids is left to the rescue loop");
        }
    }

    /// Whether the broker is connected, for readiness.
    pub fn link(&self) -> Link {
        self.link.clone()
    }
}

async fn run(config: BrokerConfig, mut messages: mpsc::Receiver<Message>, link: Link, stop: CancellationToken) {
    let mut failures = 0;
    while !stop.is_cancelled() {
        let result = session(&config, &mut messages, &link, &stop).await;
        let was_up = link.is_up();
        link.set(false);
        let Err(error) = result else { return };
        failures = if was_up { 1 } else { failures + 1 };
        if was_up || failures == 1 {
            tracing::warn!("{error}; notifications are handled by the rescue loop until it is back");
        }
        // What waits is older than the rescue loop's patience by the time the broker is back.
        while messages.try_recv().is_ok() {}
        tokio::select! {
            () = tokio::time::sleep(reconnect_pause(failures)) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// One connection's life.
async fn session(
    config: &BrokerConfig,
    messages: &mut mpsc::Receiver<Message>,
    link: &Link,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let set_up = async |channel: &Channel| {
        topology::declare(channel, &config.names).await?;
        Ok(channel.confirm_select(ConfirmSelectOptions::default()).await?)
    };
    // Until it is connected nothing was handed over, so a stop has nothing to wait for.
    let connecting = stop.run_until_cancelled(connect(config, "recharge publisher", set_up)).await;
    let Some(connected) = connecting else { return Ok(()) };
    let (connection, channel, ()) = connected?;
    link.set(true);
    tracing::info!("RabbitMQ connected for publishing");

    let unconfirmed = Arc::new(Semaphore::new(MAX_UNCONFIRMED));
    let broken = CancellationToken::new();
    let mut retries = HashSet::new();
    loop {
        let message = tokio::select! {
            biased;
            () = broken.cancelled() => return Err(Error::Closed),
            message = messages.recv() => message,
            () = wait_until_closed(&channel) => return Err(Error::Closed),
            () = stop.cancelled() => messages.try_recv().ok(),
        };
        let Some(message) = message else { break };
        if let Some(Later { step, .. }) = message.later
            && retries.insert((message.line, step))
        {
            topology::declare_retry(&channel, &config.names, message.line, step).await?;
        }
        let permit = tokio::select! {
            permit = Arc::clone(&unconfirmed).acquire_owned() => permit.expect("the semaphore is never closed"),
            () = broken.cancelled() => return Err(Error::Closed),
        };
        let confirm = within_timeout(channel.basic_publish(
            "".into(),
            ShortString::from(message.queue(&config.names)),
            BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() },
            &message.body,
            properties(&message),
        ))
        .await?;
        let broken = broken.clone();
        tokio::spawn(async move {
            match within_timeout(confirm).await {
                Ok(Confirmation::Ack(None)) => {}
                Ok(_) => tracing::warn!("RabbitMQ did not take a message; the rescue loop handles it"),
                Err(_) => broken.cancel(),
            }
            drop(permit);
        });
    }
    let all = u32::try_from(MAX_UNCONFIRMED).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(PUBLISH_TIMEOUT, unconfirmed.acquire_many(all)).await;
    let _ = tokio::time::timeout(PUBLISH_TIMEOUT, connection.close(200, "stopping".into())).await;
    Ok(())
}

fn properties(message: &Message) -> BasicProperties {
    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_content_type("application/json".into())
        .with_message_id(ShortString::from(Uuid::now_v7().to_string()));
    match message.later {
        Some(Later { after, .. }) => {
            let milliseconds = after.num_milliseconds().max(0).to_string();
            properties.with_expiration(ShortString::from(milliseconds))
        }
        None => properties,
    }
}

/// An idle publisher hears of a lost connection only by asking.
pub(super) async fn wait_until_closed(channel: &Channel) {
    let mut tick = tokio::time::interval(Duration::from_millis(250));
    while channel.status().connected() {
        tick.tick().await;
    }
}
