//! The only place that speaks AMQP. RabbitMQ carries the ids of stored work and makes things fast; that nothing
//! is lost is the notify log's work. So a message that cannot be sent is dropped, and the rescue loop finds its row.
//!
//! A broken connection is replaced whole, by a loop of ours that declares everything again: there is no state to recover.

mod consume;
mod events;
mod publish;
mod topology;

pub use consume::{Batch, Consumer};
pub use events::{Announcer, Heard, listen};
pub use publish::Publisher;
pub use topology::{Line, QueueNames, WorkQueues};

use lapin::{Channel, Connection, ConnectionProperties};
use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::timeout;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For declaring everything: a node that has just started takes seconds for each queue.
const SET_UP_TIMEOUT: Duration = Duration::from_secs(30);
/// A broker that says nothing for twice this long is taken for dead.
const HEARTBEAT_SECONDS: u16 = 10;
/// The largest frame, in bytes. Our messages fit in one, and the client holds room for 64 of them for each connection: with
/// the broker's usual 128 KiB that is 8 MiB.
const MAX_FRAME_BYTES: u32 = 16 * 1_024;
/// For the broker to take one message, and again to confirm it.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause before the next try to connect grows up to this.
const MAX_RECONNECT_PAUSE: Duration = Duration::from_secs(5);

/// Where the broker is, and under which names.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// `amqp://…`; holds a password.
    pub url: SecretString,
    /// The queues' names.
    pub names: QueueNames,
}

/// Whether a connection to the broker stands, for readiness.
#[derive(Clone, Debug, Default)]
pub struct Link(Arc<AtomicBool>);

impl Link {
    /// Whether it stands now.
    pub fn is_up(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, up: bool) {
        self.0.store(up, Ordering::Relaxed);
    }
}

/// What a message says: the ids of one group commit, as a JSON array of texts.
fn encode<T: Serialize>(ids: &[T]) -> Vec<u8> {
    serde_json::to_vec(ids).expect("a list of ids is JSON")
}

fn decode<T: DeserializeOwned>(message: &[u8]) -> Result<Vec<T>, serde_json::Error> {
    serde_json::from_slice(message)
}

/// A connection, and a channel on it that `set_up` has prepared. All within a time: a node that is starting may take a
/// connection and then answer nothing.
async fn connect<T>(
    config: &BrokerConfig,
    name: &str,
    set_up: impl AsyncFnOnce(&Channel) -> Result<T, Error>,
) -> Result<(Connection, Channel, T), Error> {
    let url = with_defaults(config.url.expose_secret());
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let connecting = timeout(CONNECT_TIMEOUT, Connection::connect(&url, properties));
    let connection = connecting.await.map_err(|_| Error::TimedOut)??;
    let set_up = async {
        let channel = connection.create_channel().await?;
        let made = set_up(&channel).await?;
        Ok((channel, made))
    };
    let (channel, made) = timeout(SET_UP_TIMEOUT, set_up).await.unwrap_or(Err(Error::TimedOut))?;
    Ok((connection, channel, made))
}

async fn within_timeout<T>(step: impl Future<Output = lapin::Result<T>>) -> Result<T, Error> {
    match timeout(PUBLISH_TIMEOUT, step).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Error::TimedOut),
    }
}

/// What the URL does not say itself.
fn with_defaults(url: &str) -> String {
    let mut url = url.to_owned();
    for (name, value) in [("heartbeat", HEARTBEAT_SECONDS.into()), ("frame_max", MAX_FRAME_BYTES)] {
        if !url.contains(&format!("{name}=")) {
            let separator = if url.contains('?') { '&' } else { '?' };
            url = format!("{url}{separator}{name}={value}");
        }
    }
    url
}

/// What went wrong between us and the broker.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What the client library says.
    #[error("RabbitMQ: {0}")]
    Amqp(#[from] lapin::Error),
    /// No answer in time.
    #[error("RabbitMQ does not answer")]
    TimedOut,
    /// The stream of messages ended without an error.
    #[error("RabbitMQ closed the consumer")]
    Closed,
}

/// The pause before try number `failures` (1 or more) to connect again.
fn reconnect_pause(failures: u32) -> Duration {
    Duration::from_millis(100).saturating_mul(1 << failures.min(10)).min(MAX_RECONNECT_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::NotifyId;

    #[test]
    fn a_message_carries_one_id_or_several() {
        for count in [1, 3] {
            let ids: Vec<_> = (0..count).map(|_| NotifyId::generate()).collect();
            assert_eq!(decode::<NotifyId>(&encode(&ids)).expect("our own message"), ids);
        }
        assert!(decode::<NotifyId>(b"nonsense").is_err());
    }

    #[test]
    fn a_heartbeat_and_small_frames_are_asked_for_unless_the_url_says_otherwise() {
        assert_eq!(with_defaults("amqp://h/%2f"), "amqp://h/%2f?heartbeat=10&frame_max=16384");
        assert_eq!(with_defaults("amqp://h?frame_max=9999"), "amqp://h?frame_max=9999&heartbeat=10");
        assert_eq!(with_defaults("amqp://h?heartbeat=3&x=1"), "amqp://h?heartbeat=3&x=1&frame_max=16384");
    }

    #[test]
    fn the_pause_grows_to_a_bound() {
        assert_eq!(reconnect_pause(1), Duration::from_millis(200));
        assert_eq!(reconnect_pause(u32::MAX), MAX_RECONNECT_PAUSE);
    }
}
