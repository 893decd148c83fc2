//! The queues, declared by code and idempotently, by whoever connects.

use super::Error;
use lapin::{
    Channel,
    options::QueueDeclareOptions,
    types::{AMQPValue, FieldTable, ShortString},
};

/// How often the broker gives out one message before it goes to the dead letters: the net under a handler that kills its
/// process. Our own count of attempts, in the row, is the one that decides.
const DELIVERY_LIMIT: i32 = 20;

/// The queues' names: `<prefix>.notify` and its dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueNames {
    /// Ids of notifications to handle.
    pub notify: String,
    /// Messages that the broker gave up on.
    pub notify_dead: String,
}

impl QueueNames {
    /// The names under `prefix` (`QUEUE_PREFIX`).
    pub fn under(prefix: &str) -> Self {
        Self { notify: format!("{prefix}.notify"), notify_dead: format!("{prefix}.notify.dead") }
    }
}

pub(super) async fn declare(channel: &Channel, names: &QueueNames) -> Result<(), Error> {
    let mut dead = FieldTable::default();
    dead.insert("x-queue-type".into(), text("quorum"));
    queue(channel, &names.notify_dead, dead).await?;

    let mut notify = FieldTable::default();
    notify.insert("x-queue-type".into(), text("quorum"));
    notify.insert("x-delivery-limit".into(), AMQPValue::LongInt(DELIVERY_LIMIT));
    notify.insert("x-dead-letter-exchange".into(), text(""));
    notify.insert("x-dead-letter-routing-key".into(), text(&names.notify_dead));
    // A dead letter leaves the queue only when its new queue has confirmed it; that needs reject-publish.
    notify.insert("x-dead-letter-strategy".into(), text("at-least-once"));
    notify.insert("x-overflow".into(), text("reject-publish"));
    queue(channel, &names.notify, notify).await
}

async fn queue(channel: &Channel, name: &str, arguments: FieldTable) -> Result<(), Error> {
    channel.queue_declare(ShortString::from(name), QueueDeclareOptions::durable(), arguments).await?;
    Ok(())
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_is_the_first_word_of_every_name() {
        let names = QueueNames::under("payment");
        assert_eq!((names.notify.as_str(), names.notify_dead.as_str()), ("payment.notify", "payment.notify.dead"));
    }
}
