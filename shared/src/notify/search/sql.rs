//! The queries of the lists, one for each index that a list can be read from; and those of one notification.

use super::{Attempt, Entry, Filter};
use crate::{
    notify::{NotifyHeaders, NotifyId, NotifyType, ProcessStatus, window::Window},
    orders::OrderNo,
};
use chrono::{DateTime, Utc};
use sqlx::PgExecutor;

/// A page of a list.
#[derive(Debug)]
pub struct Page {
    status: Option<&'static str>,
    notify_type: Option<&'static str>,
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
    window: Window,
    limit: i64,
}

impl Page {
    /// The `limit` newest that pass `filter` and come after `after`.
    pub fn of(filter: &Filter, after: Option<NotifyId>, limit: i64) -> Self {
        let &Filter { status, notify_type, from, to, .. } = filter;
        let window = Window::of(from, to).before(after);
        let (status, notify_type) = (status.map(ProcessStatus::as_str), notify_type.map(NotifyType::as_str));
        Self { status, notify_type, from, to, window, limit }
    }

    /// The families, each a stretch of its own.
    fn notify_types(&self) -> Vec<&'static str> {
        self.notify_type.map_or_else(|| NotifyType::ALL.map(NotifyType::as_str).into(), |kind| vec![kind])
    }
}

/// Of any kind: read from the primary key. For what is the usual case, so that few rows are passed over.
pub async fn any(db: impl PgExecutor<'_>, page: &Page) -> sqlx::Result<Vec<Entry>> {
    sqlx::query_as!(
        Entry,
        r#"
        select id as "id: NotifyId", payment_method, notify_type as "notify_type: NotifyType", order_no,
               process_status as "status: ProcessStatus", error_code, error_message, retry_count,
               next_attempt_at, client_ip, created_at, processed_at
        from payment_notify_logs
        where ($1::text is null or process_status = $1) and ($2::text is null or notify_type = $2)
          and created_at >= coalesce($3, '-infinity'::timestamptz)
          and created_at < coalesce($4, 'infinity'::timestamptz)
          and id >= $5 and id < $6
        order by id desc
        limit $7
        "#,
        page.status,
        page.notify_type,
        page.from,
        page.to,
        page.window.first,
        page.window.end,
        page.limit,
    )
    .fetch_all(db)
    .await
}

/// Refunds: they have an index of their own, being rare.
pub async fn refunds(db: impl PgExecutor<'_>, page: &Page) -> sqlx::Result<Vec<Entry>> {
    sqlx::query_as!(
        Entry,
        r#"
        select id as "id: NotifyId", payment_method, notify_type as "notify_type: NotifyType", order_no,
               process_status as "status: ProcessStatus", error_code, error_message, retry_count,
               next_attempt_at, client_ip, created_at, processed_at
        from payment_notify_logs
        where notify_type = 'refund' and ($1::text is null or process_status = $1)
          and created_at >= coalesce($2, '-infinity'::timestamptz)
          and created_at < coalesce($3, 'infinity'::timestamptz)
          and id >= $4 and id < $5
        order by id desc
        limit $6
        "#,
        page.status,
        page.from,
        page.to,
        page.window.first,
        page.window.end,
        page.limit,
    )
    .fetch_all(db)
    .await
}

/// Those that name an order: never many.
pub async fn of_order(db: impl PgExecutor<'_>, order_no: &OrderNo, page: &Page) -> sqlx::Result<Vec<Entry>> {
    sqlx::query_as!(
        Entry,
        r#"
        select id as "id: NotifyId", payment_method, notify_type as "notify_type: NotifyType", order_no,
               process_status as "status: ProcessStatus", error_code, error_message, retry_count,
               next_attempt_at, client_ip, created_at, processed_at
        from payment_notify_logs
        where order_no = $1 and ($2::text is null or process_status = $2) and ($3::text is null or notify_type = $3)
          and created_at >= coalesce($4, '-infinity'::timestamptz)
          and created_at < coalesce($5, 'infinity'::timestamptz)
          and id >= $6 and id < $7
        order by id desc
        limit $8
        "#,
        order_no as _,
        page.status,
        page.notify_type,
        page.from,
        page.to,
        page.window.first,
        page.window.end,
        page.limit,
    )
    .fetch_all(db)
    .await
}

/// Those in one of the states that an index of their own holds: a stretch for each family.
pub async fn set_aside(db: impl PgExecutor<'_>, page: &Page) -> sqlx::Result<Vec<Entry>> {
    sqlx::query_as!(
        Entry,
        r#"
        select l.id as "id: NotifyId", l.payment_method, l.notify_type as "notify_type: NotifyType", l.order_no,
               l.process_status as "status: ProcessStatus", l.error_code, l.error_message, l.retry_count,
               l.next_attempt_at, l.client_ip, l.created_at, l.processed_at
        from unnest($1::text[]) as wanted (notify_type)
        cross join lateral (
            select * from payment_notify_logs
            -- As the index's own condition has it: the planner must see that before it knows the parameters.
            where process_status in ('duplicate', 'retrying', 'dead', 'rejected') and process_status = $2
              and notify_type = wanted.notify_type
              and created_at >= coalesce($3, '-infinity'::timestamptz)
              and created_at < coalesce($4, 'infinity'::timestamptz)
              and id >= $5 and id < $6
            order by id desc
            limit $7
        ) as l
        order by l.id desc
        limit $7
        "#,
        &page.notify_types() as &[&str],
        page.status,
        page.from,
        page.to,
        page.window.first,
        page.window.end,
        page.limit,
    )
    .fetch_all(db)
    .await
}

/// The same as [`unfinished`], as far as they are among the newest `most` rows of the page's window.
pub async fn recent(db: impl PgExecutor<'_>, page: &Page, most: i64) -> sqlx::Result<Vec<Entry>> {
    sqlx::query_as!(
        Entry,
        r#"
        select id as "id: NotifyId", payment_method, notify_type as "notify_type: NotifyType", order_no,
               process_status as "status: ProcessStatus", error_code, error_message, retry_count,
               next_attempt_at, client_ip, created_at, processed_at
        from (
            select * from payment_notify_logs where id >= $5 and id < $6 order by id desc limit $8
        ) as recent
        where process_status = $1 and ($2::text is null or notify_type = $2)
          and created_at >= coalesce($3, '-infinity'::timestamptz)
          and created_at < coalesce($4, 'infinity'::timestamptz)
        order by id desc
        limit $7
        "#,
        page.status,
        page.notify_type,
        page.from,
        page.to,
        page.window.first,
        page.window.end,
        page.limit,
        most,
    )
    .fetch_all(db)
    .await
}

/// Those in a state that only the index of what is due holds. It is not in the order of the ids, but as small as the
/// backlog: all of it is read.
pub async fn unfinished(db: impl PgExecutor<'_>, page: &Page) -> sqlx::Result<Vec<Entry>> {
    sqlx::query_as!(
        Entry,
        r#"
        with unfinished as materialized (
            select id, process_status, notify_type from payment_notify_logs
            where process_status in ('received', 'retrying')
              and created_at >= coalesce($3, '-infinity'::timestamptz)
              and created_at < coalesce($4, 'infinity'::timestamptz)
              and id >= $5 and id < $6
        ), newest as materialized (
            select id from unfinished
            where process_status = $1 and ($2::text is null or notify_type = $2)
            order by id desc
            limit $7
        )
        select l.id as "id: NotifyId", l.payment_method, l.notify_type as "notify_type: NotifyType", l.order_no,
               l.process_status as "status: ProcessStatus", l.error_code, l.error_message, l.retry_count,
               l.next_attempt_at, l.client_ip, l.created_at, l.processed_at
        from newest join payment_notify_logs l using (id)
        order by l.id desc
        "#,
        page.status,
        page.notify_type,
        page.from,
        page.to,
        page.window.first,
        page.window.end,
        page.limit,
    )
    .fetch_all(db)
    .await
}

/// One, with its headers and its body.
pub async fn find(db: impl PgExecutor<'_>, id: NotifyId) -> sqlx::Result<Option<(Entry, NotifyHeaders, Vec<u8>)>> {
    let row = sqlx::query!(
        r#"
        select l.id as "id: NotifyId", l.payment_method, l.notify_type as "notify_type: NotifyType", l.order_no,
               l.process_status as "status: ProcessStatus", l.error_code, l.error_message, l.retry_count,
               l.next_attempt_at, l.client_ip, l.created_at, l.processed_at,
               payment_notify_header_values(b.header_values, b.headers) as "headers!: NotifyHeaders", b.body
        from payment_notify_logs l join payment_notify_bodies b on b.id = l.id
        where l.id = $1
        "#,
        id as _,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| {
        let entry = Entry {
            id: row.id,
            payment_method: row.payment_method,
            notify_type: row.notify_type,
            order_no: row.order_no,
            status: row.status,
            error_code: row.error_code,
            error_message: row.error_message,
            retry_count: row.retry_count,
            next_attempt_at: row.next_attempt_at,
            client_ip: row.client_ip,
            created_at: row.created_at,
            processed_at: row.processed_at,
        };
        (entry, row.headers, row.body)
    }))
}

/// The latest `most` attempts of one, oldest first.
pub async fn attempts(db: impl PgExecutor<'_>, id: NotifyId, most: i64) -> sqlx::Result<Vec<Attempt>> {
    sqlx::query_as!(
        Attempt,
        r#"
        select at, worker, outcome as "outcome: ProcessStatus", error_code, error_message
        from (select * from payment_notify_attempts where id = $1 order by at desc limit $2) as latest
        order by at
        "#,
        id as _,
        most,
    )
    .fetch_all(db)
    .await
}

/// How many are dead for this reason, up to `most`.
pub async fn count_dead(db: impl PgExecutor<'_>, error_code: &str, most: i64) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"
        select count(*) as "count!"
        from (select from payment_notify_logs where process_status = 'dead' and error_code = $1 limit $2) as alike
        "#,
        error_code,
        most,
    )
    .fetch_one(db)
    .await
}
