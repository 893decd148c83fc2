//! Housekeeping that any worker may do, and several at once without harm.

use shared::{
    checkout::{ABANDONED_AFTER_SECONDS, idempotency},
    notify, orders,
};
use sqlx::PgPool;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const PERIOD: Duration = Duration::from_secs(15);
/// Sweeps between two looks at the partitions: about an hour.
const SWEEPS_PER_PARTITIONS: u32 = 240;
/// Partitions of the notify log that are made ahead.
const MONTHS_AHEAD: i32 = 3;

/// Sweeps until `stop`.
pub async fn run(db: PgPool, stop: CancellationToken) {
    let mut sweep = 0_u32;
    while !stop.is_cancelled() {
        if let Err(error) = once(&db, sweep.is_multiple_of(SWEEPS_PER_PARTITIONS)).await {
            tracing::warn!("housekeeping is put off: {error}");
        }
        sweep = sweep.wrapping_add(1);
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = stop.cancelled() => {}
        }
    }
}

async fn once(db: &PgPool, partitions: bool) -> sqlx::Result<()> {
    if partitions {
        notify::sql::make_partitions(db, MONTHS_AHEAD).await?;
    }
    let abandoned = orders::sql::fail_abandoned(db, ABANDONED_AFTER_SECONDS).await?;
    idempotency::forget_old(db).await?;
    if abandoned > 0 {
        tracing::warn!(
            "{abandoned} orders never got their code, because the process that made them is gone; they are failed"
        );
    }
    Ok(())
}
