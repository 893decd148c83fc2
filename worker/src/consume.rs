//! The normal path: RabbitMQ says which rows to handle.

use crate::notify::{Handler, Work};
use shared::{
    notify::NotifyId,
    queue::{BrokerConfig, Consumer, Link},
};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The pause before the same batch is tried again while the database is away.
const OUTAGE_PAUSE: Duration = Duration::from_millis(500);

/// Consumes until `stop`.
pub async fn run(handler: Handler, broker: BrokerConfig, link: Link, stop: CancellationToken) {
    let mut consumer = Consumer::new(broker, link);
    while let Some(mut batch) = consumer.next(&stop).await {
        batch.ids.sort_unstable();
        batch.ids.dedup();
        if !handle_until_done(&handler, &batch.ids, &stop).await {
            return;
        }
        if let Err(error) = batch.ack().await {
            consumer.lost(&error, &stop).await;
        }
    }
}

/// Commit before ack: answers false when the batch is not done, because the process stops. The broker keeps it then.
async fn handle_until_done(handler: &Handler, ids: &[NotifyId], stop: &CancellationToken) -> bool {
    let mut told = false;
    loop {
        match handler.handle(Work::Ids(ids.to_vec())).await {
            Ok(_) => return true,
            Err(error) if !told => {
                tracing::warn!("the database is away; consuming pauses until it is back: {error}");
                told = true;
            }
            Err(_) => {}
        }
        tokio::select! {
            () = tokio::time::sleep(OUTAGE_PAUSE) => {}
            () = stop.cancelled() => return false,
        }
    }
}
