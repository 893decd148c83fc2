//! What becomes of notifications that were given back to the workers, for whoever waits for that.

use super::{NotifyId, NotifyType, ProcessStatus, retry::Filter, window::Window};
use crate::orders::OrderNo;
use sqlx::PgExecutor;

/// A notification that was tried since it was given back.
#[derive(Clone, Debug)]
pub struct Tried {
    /// Its key.
    pub id: NotifyId,
    /// What it is now.
    pub status: ProcessStatus,
    /// Why, if it failed.
    pub error_code: Option<String>,
    /// The same in words.
    pub error_message: Option<String>,
    /// It failed for a passing cause, and its next attempt is more than a minute off.
    pub put_off: bool,
}

/// Those of `ids` that were tried.
pub async fn tried(db: impl PgExecutor<'_>, ids: &[NotifyId]) -> sqlx::Result<Vec<Tried>> {
    sqlx::query_as!(
        Tried,
        r#"
        select id as "id: NotifyId", process_status as "status: ProcessStatus", error_code, error_message,
               coalesce(next_attempt_at > now() + interval '1 minute', false) as "put_off!"
        from payment_notify_logs
        where id = any($1) and process_status <> 'received'
        "#,
        ids as &[NotifyId],
    )
    .fetch_all(db)
    .await
}

/// How many of `ids` nobody has tried although their time came half a minute ago.
pub async fn overdue(db: impl PgExecutor<'_>, ids: &[NotifyId]) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"
        select count(*) as "count!" from payment_notify_logs
        where id = any($1) and process_status = 'received' and next_attempt_at < now() - interval '30 seconds'
        "#,
        ids as &[NotifyId],
    )
    .fetch_one(db)
    .await
}

/// Those that were given back and wait for their turn, and that pass `filter` but for its status and its limit, the oldest
/// first. What they failed for stands in them until they are tried.
pub async fn given_back(db: impl PgExecutor<'_>, filter: &Filter) -> sqlx::Result<Vec<NotifyId>> {
    let window = Window::of(filter.from, filter.to);
    sqlx::query_scalar!(
        r#"
        select id as "id: NotifyId" from payment_notify_logs
        where process_status in ('received', 'retrying') and process_status = 'received' and error_code is not null
          and ($1::text is null or notify_type = $1)
          and ($2::text is null or error_code = $2)
          and ($3::text is null or order_no = $3)
          and created_at >= coalesce($4, '-infinity'::timestamptz)
          and created_at < coalesce($5, 'infinity'::timestamptz)
          and id >= $6 and id < $7
        order by id
        limit $8
        "#,
        filter.notify_type.map(NotifyType::as_str),
        filter.error_code,
        filter.order_no.as_ref().map(OrderNo::as_str),
        filter.from,
        filter.to,
        window.first,
        window.end,
        *Filter::LIMITS.end(),
    )
    .fetch_all(db)
    .await
}
