//! Housekeeping that any worker may do, and several at once without harm.

use shared::{
    checkout::{ABANDONED_AFTER_SECONDS, idempotency},
    notify, orders, statistics,
};
use sqlx::PgPool;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const PERIOD: Duration = Duration::from_secs(15);
/// Sweeps between two looks at the partitions: about an hour.
const SWEEPS_PER_PARTITIONS: u32 = 240;
/// Partitions of the notify log that are made ahead.
const MONTHS_AHEAD: i32 = 3;
/// Additions to the figures that one sweep merges, several times what a sweep's time brings.
const MERGED_PER_SWEEP: i32 = 100_000;

/// Sweeps until `stop`.
pub async fn run(db: PgPool, stop: CancellationToken) {
    let mut sweeps_until_partitions = 0_u32;
    while !stop.is_cancelled() {
        if sweeps_until_partitions == 0 {
            // It gives way to whoever reads the log; then the next sweep tries again.
            let made = notify::sql::make_partitions(&db, MONTHS_AHEAD).await;
            sweeps_until_partitions = if made.is_ok() { SWEEPS_PER_PARTITIONS } else { 1 };
            put_off("the next months' partitions", made);
        }
        sweeps_until_partitions -= 1;
        put_off("orders without a code", fail_abandoned(&db).await);
        put_off("old idempotency keys", idempotency::forget_old(&db).await.map(drop));
        put_off("statistics", statistics::sql::merge(&db, MERGED_PER_SWEEP).await.map(drop));
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// One job that fails must not keep the others from being done.
fn put_off(what: &str, done: sqlx::Result<()>) {
    if let Err(error) = done {
        tracing::warn!("housekeeping is put off ({what}): {error}");
    }
}

async fn fail_abandoned(db: &PgPool) -> sqlx::Result<()> {
    let abandoned = orders::sql::fail_abandoned(db, ABANDONED_AFTER_SECONDS).await?;
    if abandoned > 0 {
        tracing::warn!(
            "{abandoned} orders never got their code, because the process that made them is gone; they are failed"
        );
    }
    Ok(())
}
