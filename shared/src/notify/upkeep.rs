//! Keeping the notify log: what is left of it to do, how long it is kept, and adding up its figures.

use sqlx::PgExecutor;

/// What is still to be done. Counts end at 10000, so that asking costs the same whatever the backlog.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backlog {
    /// Stored, and not handled yet.
    pub received: i64,
    /// Failed for a passing cause, to be tried again.
    pub retrying: i64,
    /// The age of the oldest `received`, in seconds; 0 when there is none.
    pub oldest_received_seconds: f64,
    /// The age of the oldest `retrying`, the same.
    pub oldest_retrying_seconds: f64,
    /// Dead letters that wait for an operator.
    pub dead: i64,
}

/// A month that is no longer kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DroppedMonth {
    /// Such as `2026_01`, in UTC.
    pub month: String,
    /// How many dead letters went with it.
    pub dead_letters: i64,
}

/// Looks at what is still to be done, by way of the indexes that hold nothing else.
pub async fn backlog(db: impl PgExecutor<'_>) -> sqlx::Result<Backlog> {
    sqlx::query_as!(
        Backlog,
        r#"
        with due as materialized (
            select process_status, created_at from payment_notify_logs
            where process_status in ('received', 'retrying')
            order by next_attempt_at
            limit 10000
        ), dead as materialized (
            select from payment_notify_logs where process_status = 'dead' limit 10000
        ), oldest as (
            select (select min(created_at) from due where process_status = 'received') as received,
                   -- It may be the last to come due.
                   (select created_at from payment_notify_logs where process_status = 'retrying' order by id limit 1)
                       as retrying
        )
        select (select count(*) from due where process_status = 'received') as "received!",
               (select count(*) from due where process_status = 'retrying') as "retrying!",
               greatest(extract(epoch from now() - received), 0)::float8 as "oldest_received_seconds!",
               greatest(extract(epoch from now() - retrying), 0)::float8 as "oldest_retrying_seconds!",
               (select count(*) from dead) as "dead!"
        from oldest
        "#,
    )
    .fetch_one(db)
    .await
}

/// Drops the months that ended more than `days` ago, but for those in which something is still to be done. Several
/// processes may do this at once.
///
/// # Errors
/// Also when somebody reads the log for longer than half a second: to be tried again.
pub async fn drop_old_months(db: impl PgExecutor<'_>, days: u32) -> sqlx::Result<Vec<DroppedMonth>> {
    let days = i32::try_from(days).unwrap_or(i32::MAX);
    sqlx::query_as!(
        DroppedMonth,
        r#"select month as "month!", dead_letters as "dead_letters!" from payment_notify_drop_partitions($1)"#,
        days,
    )
    .fetch_all(db)
    .await
}

/// Merges up to `most` additions into the figures of the hours. Answers how many there were; none, when another process is
/// at it.
pub async fn merge_statistics(db: impl PgExecutor<'_>, most: i32) -> sqlx::Result<i64> {
    sqlx::query_scalar!(r#"select payment_notify_statistics_merge($1) as "merged!""#, most).fetch_one(db).await
}
