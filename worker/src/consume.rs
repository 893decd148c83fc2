//! The normal path: RabbitMQ says which rows to handle.

use crate::notify::{Care, Handler, Work};
use shared::{
    crash, metrics,
    notify::NotifyId,
    queue::{BrokerConfig, Consumer, Line, Link},
};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The pause before the same batch is tried again while the database is away.
const OUTAGE_PAUSE: Duration = Duration::from_millis(500);

/// Consumes until `stop`.
pub async fn run(handler: Handler, broker: BrokerConfig, link: Link, stop: CancellationToken) {
    let queue = broker.names.of(Line::Notify).main.clone();
    let mut consumer = Consumer::new(broker, &queue, link);
    while let Some(mut batch) = consumer.next(&stop).await {
        batch.ids.sort_unstable();
        batch.ids.dedup();
        let care = if batch.is_repeated { Care::Again } else { Care::Fresh };
        if !handle_until_done(&handler, &batch.ids, care, &stop).await {
            return;
        }
        let acked = batch.ack().await;
        crash::point("acked", "");
        if let Err(error) = acked {
            consumer.lost(&error, &stop).await;
        }
    }
}

/// Looks after what the broker gave up, until `stop`: the rows are done by now, or each is handled alone.
pub async fn run_dead(handler: Handler, broker: BrokerConfig, link: Link, stop: CancellationToken) {
    let queue = broker.names.of(Line::Notify).dead.clone();
    let mut consumer = Consumer::<NotifyId>::new(broker, &queue, link);
    while let Some(batch) = consumer.next(&stop).await {
        tracing::warn!(
            rows = batch.ids.len(),
            "the broker gave up on notifications: what is left of them is handled one by one"
        );
        metrics::broker_gave_up(batch.ids.len());
        while let Err(error) = handler.suspect(&batch.ids).await {
            tracing::warn!("the database is away; dead letters wait for it: {error}");
            if !pause(&stop).await {
                return;
            }
        }
        if !handle_until_done(&handler, &batch.ids, Care::Again, &stop).await {
            return;
        }
        if let Err(error) = batch.ack().await {
            consumer.lost(&error, &stop).await;
        }
    }
}

/// Commit before ack: answers false when the batch is not done, because the process stops. The broker keeps it then.
async fn handle_until_done(handler: &Handler, ids: &[NotifyId], care: Care, stop: &CancellationToken) -> bool {
    let mut told = false;
    loop {
        match handler.handle(Work::Ids(ids.to_vec()), care).await {
            Ok(_) => return true,
            Err(error) if !told => {
                tracing::warn!("the database is away; consuming pauses until it is back: {error}");
                told = true;
            }
            Err(_) => {}
        }
        if !pause(stop).await {
            return false;
        }
    }
}

/// False when the process stops.
async fn pause(stop: &CancellationToken) -> bool {
    tokio::select! {
        () = tokio::time::sleep(OUTAGE_PAUSE) => true,
        () = stop.cancelled() => false,
    }
}
