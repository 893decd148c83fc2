//! Why notifications are where they are: those that failed, together by their error code.

use super::{NotifyId, NotifyType, ProcessStatus, retry::Filter, window::Window};
use crate::orders::OrderNo;
use chrono::{DateTime, Utc};
use sqlx::PgExecutor;

/// All that failed for one reason.
#[derive(Clone, Debug)]
pub struct Cause {
    /// The reason.
    pub error_code: String,
    /// How many.
    pub notifications: i64,
    /// When the first of them came.
    pub oldest: DateTime<Utc>,
    /// When the last of them came.
    pub newest: DateTime<Utc>,
    /// The first of them.
    pub example: NotifyId,
    /// The order that it names, if that could be read.
    pub example_order: Option<OrderNo>,
}

/// What passes `filter`, whose limit means nothing here; the commonest reason first.
pub async fn causes(db: impl PgExecutor<'_>, filter: &Filter) -> sqlx::Result<Vec<Cause>> {
    let window = Window::of(filter.from, filter.to);
    sqlx::query_as!(
        Cause,
        r#"
        select coalesce(error_code, 'unknown') as "error_code!", count(*) as "notifications!", min(created_at) as "oldest!",
               max(created_at) as "newest!", (array_agg(id order by id))[1] as "example!: NotifyId",
               (array_agg(order_no order by id))[1] as "example_order: OrderNo"
        from payment_notify_logs
        -- As the index's own condition has it: the planner must see that before it knows the parameters.
        where process_status in ('duplicate', 'retrying', 'dead', 'rejected') and process_status = $1
          and ($2::text is null or notify_type = $2)
          and ($3::text is null or error_code = $3)
          and ($4::text is null or order_no = $4)
          and created_at >= coalesce($5, '-infinity'::timestamptz)
          and created_at < coalesce($6, 'infinity'::timestamptz)
          and id >= $7 and id < $8
        group by 1
        order by 2 desc, 1
        "#,
        filter.status.as_str(),
        filter.notify_type.map(NotifyType::as_str),
        filter.error_code,
        filter.order_no.as_ref().map(OrderNo::as_str),
        filter.from,
        filter.to,
        window.first,
        window.end,
    )
    .fetch_all(db)
    .await
}

/// What is dead: everything that waits for an operator.
pub async fn dead_letters(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<Cause>> {
    causes(db, &Filter::of(ProcessStatus::Dead)).await
}
