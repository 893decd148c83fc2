//! Consuming, in batches that form by themselves: what is there is one batch, and nobody waits for more.

use super::{BrokerConfig, Error, Link, connect, decode, reconnect_pause, topology};
use futures_util::{FutureExt, StreamExt};
use lapin::{
    Channel, Connection,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::{FieldTable, ShortString},
};
use serde::de::DeserializeOwned;
use std::marker::PhantomData;
use tokio_util::sync::CancellationToken;

/// Messages that a worker may hold unacknowledged. Each carries the ids of one group commit.
const PREFETCH_MESSAGES: u16 = 64;
/// Ids after which a batch is closed. One message may take it over, by what a group commit holds at most.
const MAX_BATCH_IDS: usize = 256;

/// What was waiting when it was asked for.
#[derive(Debug)]
pub struct Batch<T> {
    /// What to work on; may repeat.
    pub ids: Vec<T>,
    /// Some of it was given out before, to a process that did not finish it.
    pub is_repeated: bool,
    last: Delivery,
}

impl<T: DeserializeOwned> Batch<T> {
    fn of(delivery: Delivery) -> Self {
        Self { ids: read(&delivery), is_repeated: delivery.redelivered, last: delivery }
    }

    fn add(&mut self, delivery: Delivery) {
        self.ids.extend(read::<T>(&delivery));
        self.is_repeated |= delivery.redelivered;
        self.last = delivery;
    }

    /// Tells the broker that the whole batch is done. Only after its work is committed.
    ///
    /// # Errors
    /// When the connection is gone; the broker then delivers it again, which is harmless.
    pub async fn ack(self) -> Result<(), Error> {
        self.last.ack(BasicAckOptions { multiple: true }).await?;
        Ok(())
    }
}

/// A consumer of one queue of ids that comes back by itself.
#[derive(Debug)]
pub struct Consumer<T> {
    config: BrokerConfig,
    queue: String,
    link: Link,
    session: Option<Session>,
    failures: u32,
    ids: PhantomData<T>,
}

#[derive(Debug)]
struct Session {
    stream: lapin::Consumer,
    // Closes when dropped.
    _connection: Connection,
}

impl<T: DeserializeOwned> Consumer<T> {
    /// A consumer of `queue` that is not connected yet.
    pub fn new(config: BrokerConfig, queue: &str, link: Link) -> Self {
        Self { config, queue: queue.to_owned(), link, session: None, failures: 0, ids: PhantomData }
    }

    /// The next batch, or `None` once `stop` is cancelled. Connects, and connects again, as needed.
    pub async fn next(&mut self, stop: &CancellationToken) -> Option<Batch<T>> {
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

    async fn try_next(&mut self) -> Result<Batch<T>, Error> {
        let session = match &mut self.session {
            Some(session) => session,
            empty => {
                let session = open(&self.config, &self.queue).await?;
                self.link.set(true);
                tracing::info!("RabbitMQ connected for consuming {}", self.queue);
                empty.insert(session)
            }
        };
        let first = session.stream.next().await.ok_or(Error::Closed)??;
        let mut batch = Batch::of(first);
        while batch.ids.len() < MAX_BATCH_IDS {
            let Some(waiting) = session.stream.next().now_or_never() else { break };
            batch.add(waiting.ok_or(Error::Closed)??);
        }
        Ok(batch)
    }
}

async fn open(config: &BrokerConfig, queue: &str) -> Result<Session, Error> {
    let set_up = async |channel: &Channel| {
        topology::declare(channel, &config.names).await?;
        channel.basic_qos(PREFETCH_MESSAGES, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        Ok(channel.basic_consume(ShortString::from(queue), "".into(), options, FieldTable::default()).await?)
    };
    let (connection, _, stream) = connect(config, "recharge worker", set_up).await?;
    Ok(Session { stream, _connection: connection })
}

/// A message that is not ours holds no ids: it is acknowledged and forgotten, because the rows are what counts.
fn read<T: DeserializeOwned>(delivery: &Delivery) -> Vec<T> {
    decode(&delivery.data).unwrap_or_else(|error| {
        tracing::warn!(%error, "a message is no list of ids; it is dropped");
        Vec::new()
    })
}
