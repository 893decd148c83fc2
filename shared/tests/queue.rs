//! The broker's adapter, against the real broker.

use chrono::TimeDelta;
use secrecy::SecretString;
use shared::{
    notify::NotifyId,
    queue::{Batch, BrokerConfig, Consumer, Line, Link, Publisher, QueueNames},
};
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(30);

#[expect(clippy::disallowed_methods, reason = "a test has no configuration of its own")]
fn broker() -> BrokerConfig {
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@127.0.0.1:5672/%2f".into());
    let names = QueueNames::under(&format!("recharge_test_{}", NotifyId::generate()));
    BrokerConfig { url: SecretString::from(url), names }
}

async fn publisher(broker: &BrokerConfig, stop: &CancellationToken) -> (Publisher, tokio::task::JoinHandle<()>) {
    let (publisher, task) = Publisher::new(broker.clone(), stop.clone());
    let task = tokio::spawn(task);
    let link = publisher.link();
    timeout(SOON, async {
        while !link.is_up() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the broker is there");
    (publisher, task)
}

fn consume(broker: &BrokerConfig) -> Consumer<NotifyId> {
    Consumer::new(broker.clone(), &broker.names.of(Line::Notify).main, Link::default())
}

fn ids(count: usize) -> Vec<NotifyId> {
    (0..count).map(|_| NotifyId::generate()).collect()
}

/// Batches until `count` ids have come, in the order of their arrival.
async fn receive(consumer: &mut Consumer<NotifyId>, count: usize) -> (Vec<NotifyId>, Vec<Batch<NotifyId>>) {
    let (mut ids, mut batches) = (Vec::new(), Vec::new());
    while ids.len() < count {
        let batch = timeout(SOON, consumer.next(&CancellationToken::new())).await.expect("in time").expect("a batch");
        ids.extend(&batch.ids);
        batches.push(batch);
    }
    (ids, batches)
}

async fn delete(broker: &BrokerConfig) {
    use secrecy::ExposeSecret;
    let connection = lapin::Connection::connect(broker.url.expose_secret(), lapin::ConnectionProperties::default());
    let channel = connection.await.expect("the broker").create_channel().await.expect("a channel");
    for queues in [Line::Notify, Line::Refund].map(|line| broker.names.of(line)) {
        for name in [&queues.main, &queues.dead].into_iter().chain(&queues.retries) {
            let options = lapin::options::QueueDeleteOptions::default();
            channel.queue_delete(name.as_str().into(), options).await.expect("deleted");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acked_is_gone_and_what_is_not_comes_again() {
    let (broker, stop) = (broker(), CancellationToken::new());
    let (publisher, task) = publisher(&broker, &stop).await;
    let sent = ids(40);
    for group in sent.chunks(4) {
        publisher.publish(Line::Notify, group);
    }
    let mut consumer = consume(&broker);
    let (received, batches) = receive(&mut consumer, 40).await;
    assert_eq!(received, sent, "in the order in which they were published");
    drop((batches, consumer));

    let mut consumer = consume(&broker);
    let (mut received, batches) = receive(&mut consumer, 40).await;
    received.sort_unstable();
    assert_eq!(received, sent, "nothing was acked, so all of it comes again");
    // One ack tells the broker of everything up to it.
    batches.into_iter().next_back().expect("the last").ack().await.expect("acked");
    publisher.publish(Line::Notify, &ids(1));
    let (received, batches) = receive(&mut consumer, 1).await;
    assert_eq!(received.len(), 1);
    for batch in batches {
        batch.ack().await.expect("acked");
    }
    drop(consumer);

    let mut consumer = consume(&broker);
    let last = ids(3);
    publisher.publish(Line::Notify, &last);
    let (received, _batches) = receive(&mut consumer, 3).await;
    assert_eq!(received, last, "what was acked does not come again");
    stop.cancel();
    timeout(SOON, task).await.expect("it stops").expect("no panic");
    delete(&broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_sends_what_is_waiting() {
    let (broker, stop) = (broker(), CancellationToken::new());
    let (publisher, task) = publisher(&broker, &stop).await;
    // In fewer messages than a consumer may hold.
    let sent = ids(200);
    for group in sent.chunks(4) {
        publisher.publish(Line::Notify, group);
    }
    stop.cancel();
    timeout(SOON, task).await.expect("it stops").expect("no panic");
    let mut consumer = consume(&broker);
    let (received, _batches) = receive(&mut consumer, 200).await;
    assert_eq!(received, sent);
    delete(&broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_broker_publishing_waits_for_nothing_and_consuming_for_the_stop() {
    let broker = BrokerConfig { url: SecretString::from("amqp://127.0.0.1:1/%2f".to_owned()), ..broker() };
    let stop = CancellationToken::new();
    let (publisher, task) = Publisher::new(broker.clone(), stop.clone());
    let task = tokio::spawn(task);
    for _ in 0..5_000 {
        publisher.publish(Line::Notify, &ids(1));
    }
    let mut consumer = consume(&broker);
    let waiting = stop.clone();
    let consuming = tokio::spawn(async move { consumer.next(&waiting).await.is_none() });
    stop.cancel();
    assert!(timeout(SOON, consuming).await.expect("it stops").expect("no panic"));
    timeout(SOON, task).await.expect("it stops").expect("no panic");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_for_later_comes_when_it_is_due_and_not_before() {
    let (broker, stop) = (broker(), CancellationToken::new());
    let (publisher, task) = publisher(&broker, &stop).await;
    let mut consumer = consume(&broker);
    let (soon, late, begun) = (ids(1), ids(1), Instant::now());
    // On different steps, so that the one that is due first does not stand behind the other.
    publisher.publish_later(Line::Notify, 1, TimeDelta::milliseconds(1_500), &late);
    publisher.publish_later(Line::Notify, 0, TimeDelta::milliseconds(300), &soon);
    for (expected, after) in [(soon, 300), (late, 1_500)] {
        let (received, batches) = receive(&mut consumer, 1).await;
        assert_eq!(received, expected);
        assert!(begun.elapsed() >= Duration::from_millis(after), "{:?}", begun.elapsed());
        for batch in batches {
            assert!(!batch.is_repeated, "the ladder's queues gave it out, and not to a process");
            batch.ack().await.expect("acked");
        }
    }
    stop.cancel();
    timeout(SOON, task).await.expect("it stops").expect("no panic");
    delete(&broker).await;
}
