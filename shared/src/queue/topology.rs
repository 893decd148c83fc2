//! The queues, declared by code and idempotently, by whoever connects.

use super::Error;
use lapin::{
    Channel, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use uuid::Uuid;

/// How often the broker gives out one message before it goes to the dead letters: the net under a handler that kills its
/// process. Our own count of attempts, in the row, is the one that decides.
const DELIVERY_LIMIT: i32 = 20;
/// Messages about changed orders that the broker keeps for one listener; older ones give way.
const MAX_UNHEARD: i32 = 10_000;

/// The names: `<prefix>.notify` and its dead letters, and the exchange `<prefix>.events`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueNames {
    /// Ids of notifications to handle.
    pub notify: String,
    /// Messages that the broker gave up on.
    pub notify_dead: String,
    /// Order numbers of changed orders, for every listener: an exchange.
    pub events: String,
}

impl QueueNames {
    /// The names under `prefix` (`QUEUE_PREFIX`).
    pub fn under(prefix: &str) -> Self {
        Self {
            notify: format!("{prefix}.notify"),
            notify_dead: format!("{prefix}.notify.dead"),
            events: format!("{prefix}.events"),
        }
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

/// The exchange by which changed orders are announced. Durable, so that it is there for whoever comes first.
pub(super) async fn declare_events(channel: &Channel, names: &QueueNames) -> Result<(), Error> {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let name = ShortString::from(names.events.as_str());
    channel.exchange_declare(name, ExchangeKind::Fanout, options, FieldTable::default()).await?;
    Ok(())
}

/// A listener's own queue behind that exchange, which goes when its connection does; answers its name. A new one each
/// time: the broker may not have noticed yet that the connection before is gone.
pub(super) async fn declare_listener(channel: &Channel, names: &QueueNames) -> Result<ShortString, Error> {
    declare_events(channel, names).await?;
    let name = ShortString::from(format!("{}.{}", names.events, Uuid::now_v7().simple()));
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(MAX_UNHEARD));
    channel.queue_declare(name.clone(), QueueDeclareOptions::exclusive().auto_delete(), arguments).await?;
    let exchange = ShortString::from(names.events.as_str());
    channel.queue_bind(name.clone(), exchange, "".into(), QueueBindOptions::default(), FieldTable::default()).await?;
    Ok(name)
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
        assert_eq!(names.events, "payment.events");
    }
}
