//! The queues, declared by code and idempotently, by whoever connects.

use super::Error;
use crate::notify::ladder;
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

/// A kind of work, and the queues that carry its ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Line {
    /// Notifications to handle.
    Notify,
    /// Refunds to take a step further.
    Refund,
}

/// The queues of one [`Line`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkQueues {
    /// Ids to work on now.
    pub main: String,
    /// Ids to work on later, a queue for each step of the ladder. A message leaves it for the main queue when its time is
    /// up. All in one of them wait about equally long, so none stands behind another that waits for longer.
    pub retries: [String; ladder::STEPS.len()],
    /// Messages that the broker gave up on.
    pub dead: String,
}

impl WorkQueues {
    fn under(prefix: &str, line: &str) -> Self {
        Self {
            main: format!("{prefix}.{line}"),
            retries: ladder::STEPS.map(|step| format!("{prefix}.{line}.retry.{}", step.name)),
            dead: format!("{prefix}.{line}.dead"),
        }
    }

    /// The queue of a step of the ladder, from 0; of the last one for those beyond it.
    pub fn retry(&self, step: usize) -> &str {
        &self.retries[step.min(self.retries.len() - 1)]
    }
}

/// The names: `<prefix>.notify` and `<prefix>.refund`, each with its ladder and its dead letters, and the exchange
/// `<prefix>.events`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueNames {
    notify: WorkQueues,
    refund: WorkQueues,
    /// Order numbers of changed orders, for every listener: an exchange.
    pub events: String,
}

impl QueueNames {
    /// The names under `prefix` (`QUEUE_PREFIX`).
    pub fn under(prefix: &str) -> Self {
        Self {
            notify: WorkQueues::under(prefix, "notify"),
            refund: WorkQueues::under(prefix, "refund"),
            events: format!("{prefix}.events"),
        }
    }

    /// Those of one kind of work.
    pub const fn of(&self, line: Line) -> &WorkQueues {
        match line {
            Line::Notify => &self.notify,
            Line::Refund => &self.refund,
        }
    }
}

pub(super) async fn declare(channel: &Channel, names: &QueueNames) -> Result<(), Error> {
    for queues in [&names.notify, &names.refund] {
        queue(channel, &queues.dead, quorum()).await?;
        let mut main = giving_up_to(&queues.dead);
        main.insert("x-delivery-limit".into(), AMQPValue::LongInt(DELIVERY_LIMIT));
        queue(channel, &queues.main, main).await?;
    }
    Ok(())
}

/// One of the ladder's queues; only who is about to use it needs it. How long a message waits there is said by the
/// message, so that the ladder's scale may change.
pub(super) async fn declare_retry(channel: &Channel, names: &QueueNames, line: Line, step: usize) -> Result<(), Error> {
    let queues = names.of(line);
    queue(channel, queues.retry(step), giving_up_to(&queues.main)).await
}

fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments
}

/// What the queue gives up goes to `next`, and leaves it only when `next` has confirmed it; that needs reject-publish.
fn giving_up_to(next: &str) -> FieldTable {
    let mut arguments = quorum();
    arguments.insert("x-dead-letter-exchange".into(), text(""));
    arguments.insert("x-dead-letter-routing-key".into(), text(next));
    arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
    arguments.insert("x-overflow".into(), text("reject-publish"));
    arguments
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
        let notify = names.of(Line::Notify);
        assert_eq!((notify.main.as_str(), notify.dead.as_str()), ("payment.notify", "payment.notify.dead"));
        assert_eq!(notify.retries[0], "payment.notify.retry.5s");
        assert_eq!(names.of(Line::Refund).retries[6], "payment.refund.retry.6h");
        assert_eq!(names.events, "payment.events");
    }
}
