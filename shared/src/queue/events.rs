//! Announcing which orders have changed, to every `api` that may have someone watching. Only a hint, and nothing is kept
//! for it: not persistent, not confirmed, dropped while the broker is away. Whoever watches also looks by itself.

use super::{
    BrokerConfig, Error, Link, connect, publish::wait_until_closed, reconnect_pause, topology, within_timeout,
};
use crate::orders::OrderNo;
use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel,
    options::{BasicConsumeOptions, BasicPublishOptions},
    types::{FieldTable, ShortString},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Groups of order numbers that may wait for the broker.
const MAX_WAITING_GROUPS: usize = 1_024;
/// Order numbers in one message, but for what the last group adds: about 10 KiB.
const MAX_MESSAGE_ORDERS: usize = 256;

/// Tells every `api` which orders have changed. Clones feed the same connection. The default one tells nobody: for
/// embedded mode, where those who watch look by themselves.
#[derive(Clone, Debug, Default)]
pub struct Announcer(Option<Sender>);

#[derive(Clone, Debug)]
struct Sender {
    groups: mpsc::Sender<Vec<OrderNo>>,
    link: Link,
}

impl Announcer {
    /// An announcer, and the task that keeps its connection until `stop`; then it sends what is waiting and ends.
    pub fn new(config: BrokerConfig, stop: CancellationToken) -> (Self, impl Future<Output = ()>) {
        let (groups, receiver) = mpsc::channel(MAX_WAITING_GROUPS);
        let link = Link::default();
        (Self(Some(Sender { groups, link: link.clone() })), announce(config, receiver, link, stop))
    }

    /// Whether the broker is connected; `None` in embedded mode.
    pub fn link(&self) -> Option<Link> {
        self.0.as_ref().map(|sender| sender.link.clone())
    }

    /// Says that these orders have changed. After the commit, once for all that it changed; never waits.
    pub fn announce(&self, orders: Vec<OrderNo>) {
        if let Some(sender) = &self.0
            && !orders.is_empty()
            && sender.link.is_up()
        {
            // Full: the broker is slow, and those who watch look by themselves.
            let _ = sender.groups.try_send(orders);
        }
    }
}

/// What a listener hears.
#[derive(Debug)]
pub enum Heard {
    /// The connection stands now. What was said before was missed.
    Connected,
    /// These orders have changed; one may come twice.
    Changed(Vec<OrderNo>),
}

/// Listens until `stop`, and comes back by itself. `hear` must not wait for anything.
pub async fn listen(config: BrokerConfig, link: Link, stop: CancellationToken, hear: impl Fn(Heard) + Send) {
    let mut failures = 0;
    while !stop.is_cancelled() {
        let session = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            session = listening_session(&config, &link, &hear) => session,
        };
        let Err(error) = session;
        pause_after(&error, &link, &mut failures, &stop, "live orders are looked up until it is back").await;
    }
}

async fn listening_session(
    config: &BrokerConfig,
    link: &Link,
    hear: &impl Fn(Heard),
) -> Result<std::convert::Infallible, Error> {
    let set_up = async |channel: &Channel| {
        let queue = topology::declare_listener(channel, &config.names).await?;
        let options = BasicConsumeOptions { no_ack: true, exclusive: true, ..BasicConsumeOptions::default() };
        Ok(channel.basic_consume(queue, "".into(), options, FieldTable::default()).await?)
    };
    let (_connection, _, mut messages) = connect(config, "recharge listener", set_up).await?;
    link.set(true);
    tracing::debug!("listening for changed orders");
    hear(Heard::Connected);
    loop {
        let message = messages.next().await.ok_or(Error::Closed)??;
        match decode(&message.data) {
            Ok(orders) => hear(Heard::Changed(orders)),
            Err(error) => tracing::warn!(%error, "a message about changed orders is no list of numbers; it is dropped"),
        }
    }
}

async fn announce(config: BrokerConfig, mut groups: mpsc::Receiver<Vec<OrderNo>>, link: Link, stop: CancellationToken) {
    let mut failures = 0;
    while !stop.is_cancelled() {
        let Err(error) = announcing_session(&config, &mut groups, &link, &stop).await else { return };
        pause_after(&error, &link, &mut failures, &stop, "changed orders are not announced until it is back").await;
        while groups.try_recv().is_ok() {}
    }
}

async fn announcing_session(
    config: &BrokerConfig,
    groups: &mut mpsc::Receiver<Vec<OrderNo>>,
    link: &Link,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let set_up = async |channel: &Channel| topology::declare_events(channel, &config.names).await;
    let connecting = stop.run_until_cancelled(connect(config, "recharge announcer", set_up)).await;
    let Some(connected) = connecting else { return Ok(()) };
    let (connection, channel, ()) = connected?;
    link.set(true);
    loop {
        let orders = tokio::select! {
            biased;
            orders = groups.recv() => orders,
            () = wait_until_closed(&channel) => return Err(Error::Closed),
            () = stop.cancelled() => None,
        };
        let Some(mut orders) = orders else { break };
        while orders.len() < MAX_MESSAGE_ORDERS
            && let Ok(more) = groups.try_recv()
        {
            orders.extend(more);
        }
        let exchange = ShortString::from(config.names.events.as_str());
        let properties = BasicProperties::default().with_content_type("application/json".into());
        let message = encode(&orders);
        let sent = channel.basic_publish(exchange, "".into(), BasicPublishOptions::default(), &message, properties);
        // Nothing to confirm: what is lost is looked up.
        drop(within_timeout(sent).await?);
    }
    let _ = within_timeout(connection.close(200, "stopping".into())).await;
    Ok(())
}

async fn pause_after(error: &Error, link: &Link, failures: &mut u32, stop: &CancellationToken, meanwhile: &str) {
    let was_up = link.is_up();
    link.set(false);
    *failures = if was_up { 1 } else { *failures + 1 };
    if *failures == 1 {
        tracing::warn!("{error}; {meanwhile}");
    }
    tokio::select! {
        () = tokio::time::sleep(reconnect_pause(*failures)) => {}
        () = stop.cancelled() => {}
    }
}

fn encode(orders: &[OrderNo]) -> Vec<u8> {
    serde_json::to_vec(orders).expect("a list of order numbers is JSON")
}

/// What is no order number is left out: nobody can be watching it.
fn decode(message: &[u8]) -> Result<Vec<OrderNo>, serde_json::Error> {
    let orders: Vec<String> = serde_json::from_slice(message)?;
    Ok(orders.iter().filter_map(|order| order.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_carries_order_numbers_and_nothing_else() {
        let orders: Vec<_> = (0..3).map(|_| OrderNo::generate()).collect();
        assert_eq!(decode(&encode(&orders)).expect("our own message"), orders);
        assert_eq!(decode(br#"["x","no order!"]"#).expect("a list"), []);
        assert!(decode(b"nonsense").is_err());
        assert!(decode(b"[1]").is_err());
    }

    #[tokio::test]
    async fn without_a_broker_nobody_is_told_and_nobody_waits() {
        Announcer::default().announce(vec![OrderNo::generate()]);
        let stop = CancellationToken::new();
        let config = BrokerConfig { url: "amqp://127.0.0.1:1".into(), names: topology::QueueNames::under("x") };
        let (announcer, task) = Announcer::new(config, stop.clone());
        for _ in 0..=2 * MAX_WAITING_GROUPS {
            announcer.announce(vec![OrderNo::generate()]);
        }
        stop.cancel();
        task.await;
    }
}
