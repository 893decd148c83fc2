//! The queries of retries.

use super::Filter;
use crate::{
    notify::{NotifyId, NotifyType, ProcessStatus, window::Window},
    orders::OrderNo,
    users::UserId,
};
use chrono::{DateTime, Utc};
use sqlx::{PgExecutor, PgTransaction};

/// How many rows pass `filter`, up to its limit.
pub async fn count(db: impl PgExecutor<'_>, filter: &Filter) -> sqlx::Result<i64> {
    let window = Window::of(filter.from, filter.to);
    sqlx::query_scalar!(
        r#"
        select count(*) as "count!"
        from (
            select from payment_notify_logs
            -- As the index's own condition has it: the planner must see that before it knows the parameters.
            where process_status in ('duplicate', 'retrying', 'dead', 'rejected') and process_status = $1
              and ($2::text is null or notify_type = $2)
              and ($3::text is null or error_code = $3)
              and ($4::text is null or order_no = $4)
              and created_at >= coalesce($5, '-infinity'::timestamptz)
              and created_at < coalesce($6, 'infinity'::timestamptz)
              and id >= $7 and id < $8
            limit $9
        ) as matched
        "#,
        filter.status.as_str(),
        filter.notify_type.map(NotifyType::as_str),
        filter.error_code,
        filter.order_no.as_ref().map(OrderNo::as_str),
        filter.from,
        filter.to,
        window.first,
        window.end,
        filter.limit,
    )
    .fetch_one(db)
    .await
}

/// Locks the oldest rows that pass `filter` and come after `after`, at most `most`, until the transaction ends. One that
/// somebody else has locked is skipped.
pub async fn lock(
    tx: &mut PgTransaction<'_>,
    filter: &Filter,
    after: Option<NotifyId>,
    most: i64,
) -> sqlx::Result<Vec<NotifyId>> {
    let window = Window::of(filter.from, filter.to).behind(after);
    sqlx::query_scalar!(
        r#"
        select id as "id: NotifyId" from payment_notify_logs
        -- As the index's own condition has it: the planner must see that before it knows the parameters.
        where process_status in ('duplicate', 'retrying', 'dead', 'rejected') and process_status = $1
          and ($2::text is null or notify_type = $2)
          and ($3::text is null or error_code = $3)
          and ($4::text is null or order_no = $4)
          and created_at >= coalesce($5, '-infinity'::timestamptz)
          and created_at < coalesce($6, 'infinity'::timestamptz)
          and id >= $7 and id < $8
        order by id
        limit $9
        for no key update skip locked
        "#,
        filter.status.as_str(),
        filter.notify_type.map(NotifyType::as_str),
        filter.error_code,
        filter.order_no.as_ref().map(OrderNo::as_str),
        filter.from,
        filter.to,
        window.first,
        window.end,
        most,
    )
    .fetch_all(&mut **tx)
    .await
}

/// A row that can be tried again, locked.
#[derive(Debug)]
pub struct Locked {
    /// What it is.
    pub status: ProcessStatus,
    /// Why.
    pub error_code: Option<String>,
    /// Tries again so far, by itself and by hand.
    pub retry_count: i32,
}

/// Locks one row until the transaction ends, if it can be tried again and nobody else has locked it.
pub async fn lock_one(tx: &mut PgTransaction<'_>, id: NotifyId) -> sqlx::Result<Option<Locked>> {
    sqlx::query_as!(
        Locked,
        r#"
        select process_status as "status: ProcessStatus", error_code, retry_count
        from payment_notify_logs
        where id = $1 and process_status in ('retrying', 'dead', 'rejected')
        for no key update skip locked
        "#,
        id as _,
    )
    .fetch_optional(&mut **tx)
    .await
}

/// Whether there is such a row.
pub async fn exists(db: impl PgExecutor<'_>, id: NotifyId) -> sqlx::Result<bool> {
    sqlx::query_scalar!(r#"select exists (select from payment_notify_logs where id = $1) as "exists!""#, id as _)
        .fetch_one(db)
        .await
}

/// The database's time.
pub async fn now(db: impl PgExecutor<'_>) -> sqlx::Result<DateTime<Utc>> {
    sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#).fetch_one(db).await
}

/// Takes the next `seconds` in which no other retry in bulk lets rows come due; answers when they begin. Until the
/// transaction ends others wait for theirs.
pub async fn take_pace(tx: &mut PgTransaction<'_>, seconds: f64) -> sqlx::Result<DateTime<Utc>> {
    sqlx::query_scalar!(
        r#"
        update payment_notify_retry_pace
        set free_at = greatest(free_at, clock_timestamp()) + make_interval(secs => $1)
        returning free_at - make_interval(secs => $1) as "begins!"
        "#,
        seconds,
    )
    .fetch_one(&mut **tx)
    .await
}

/// Gives locked rows back to the workers: the first at `first`, each of the others `pause_seconds` after the one before.
/// What they failed for stays in them and goes to their attempts, and they leave the figures of what has ended.
pub async fn give_back(
    tx: &mut PgTransaction<'_>,
    ids: &[NotifyId],
    first: DateTime<Utc>,
    pause_seconds: f64,
    actor: &UserId,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        with failed as materialized (
            select l.id, l.created_at, l.notify_type, l.process_status, l.retry_count, l.error_code, l.error_message, due.place
            from unnest($1::uuid[]) with ordinality as due (id, place) join payment_notify_logs l on l.id = due.id
        ), given_back as (
            update payment_notify_logs l
            set process_status = 'received',
                next_attempt_at = $2::timestamptz + make_interval(secs => (failed.place - 1) * $3::float8),
                ladder_step = 0, crashes = 0, retry_count = l.retry_count + 1, processed_at = null
            from failed where l.id = failed.id
        ), told as (
            insert into payment_notify_attempts (id, worker, outcome, error_code, error_message)
            select id, $4, 'received', error_code, error_message from failed
        )
        insert into payment_notify_statistics_deltas
        select date_bin('1 hour', created_at, 'epoch'), notify_type, process_status, -1, -count(*), -sum(retry_count)
        from failed where process_status in ('dead', 'rejected')
        group by 1, 2, 3
        "#,
        ids as &[NotifyId],
        first,
        pause_seconds,
        actor as _,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
