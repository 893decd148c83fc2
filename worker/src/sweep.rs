//! Housekeeping that any worker may do, and several at once without harm.

use shared::{
    checkout::{ABANDONED_AFTER_SECONDS, idempotency},
    metrics,
    notify::{self, suspects, upkeep},
    orders, statistics,
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
/// How often the backlog is looked at, for the metrics.
const LOOK_PERIOD: Duration = Duration::from_secs(10);
/// For one look.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// Keeps house until `stop`.
pub async fn run(db: PgPool, retention_days: u32, stop: CancellationToken) {
    tokio::join!(sweep(&db, retention_days, &stop), look_at_backlog(&db, &stop));
}

async fn sweep(db: &PgPool, retention_days: u32, stop: &CancellationToken) {
    let mut sweeps_until_partitions = 0_u32;
    while !stop.is_cancelled() {
        if sweeps_until_partitions == 0 {
            // Both give way to whoever reads the log; then the next sweep tries again.
            let made = notify::sql::make_partitions(db, MONTHS_AHEAD).await;
            let dropped = drop_old_months(db, retention_days).await;
            sweeps_until_partitions = if made.is_ok() && dropped.is_ok() { SWEEPS_PER_PARTITIONS } else { 1 };
            put_off("the next months' partitions", made);
            put_off("the months that are no longer kept", dropped);
        }
        sweeps_until_partitions -= 1;
        put_off("orders without a code", fail_abandoned(db).await);
        put_off("what workers held long ago", suspects::forget_old(db).await);
        put_off("old idempotency keys", idempotency::forget_old(db).await.map(drop));
        put_off("statistics", statistics::sql::merge(db, MERGED_PER_SWEEP).await.map(drop));
        put_off("statistics of notifications", upkeep::merge_statistics(db, MERGED_PER_SWEEP).await.map(drop));
        stop.run_until_cancelled(tokio::time::sleep(PERIOD)).await;
    }
}

/// What is still to be done, for the metrics.
async fn look_at_backlog(db: &PgPool, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        match look(db).await {
            Some(backlog) => metrics::backlog(&backlog),
            None => metrics::backlog_unknown(),
        }
        stop.run_until_cancelled(tokio::time::sleep(LOOK_PERIOD)).await;
    }
}

async fn look(db: &PgPool) -> Option<upkeep::Backlog> {
    let mut connection = db.acquire().await.ok()?;
    let looked = tokio::time::timeout(LOOK_TIMEOUT, upkeep::backlog(&mut *connection)).await.ok().and_then(Result::ok);
    if looked.is_none() {
        // Its server may be gone without a word.
        connection.close_on_drop();
    }
    looked
}

/// One job that fails must not keep the others from being done.
fn put_off(what: &str, done: sqlx::Result<()>) {
    if let Err(error) = done {
        tracing::warn!("housekeeping is put off ({what}): {error}");
    }
}

async fn drop_old_months(db: &PgPool, retention_days: u32) -> sqlx::Result<()> {
    for upkeep::DroppedMonth { month, dead_letters } in upkeep::drop_old_months(db, retention_days).await? {
        tracing::info!("the notifications of {month} are dropped (NOTIFY_LOG_RETENTION_DAYS)");
        if dead_letters > 0 {
            tracing::warn!("{dead_letters} dead letters of {month} went with it; nobody had worked through them");
        }
    }
    Ok(())
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
