//! Lists of refunds, a page at a time.

use super::{Origin, Refund, RefundNo, RefundStatus};
use crate::{
    money::Fen,
    orders::{OrderNo, TransactionId},
    points::Points,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgExecutor;

/// What a list is narrowed to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Filter {
    /// Of this state only.
    pub status: Option<RefundStatus>,
    /// Of this order only.
    pub order_no: Option<OrderNo>,
}

/// Where a page ended. It never changes, so a walk meets every refund once that was there at its start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Position {
    /// When the refund was asked for.
    pub created_at: DateTime<Utc>,
    /// Its number.
    pub refund_no: RefundNo,
}

impl Position {
    /// That of a row.
    pub fn of(refund: &Refund) -> Self {
        Self { created_at: refund.created_at, refund_no: refund.refund_no.clone() }
    }
}

/// Refunds, newest first, before `before`; at most `limit`.
pub async fn page(
    db: impl PgExecutor<'_>,
    filter: &Filter,
    before: Option<&Position>,
    limit: i64,
) -> sqlx::Result<Vec<Refund>> {
    sqlx::query_as!(
        Refund,
        r#"
        select refund_no as "refund_no: RefundNo", order_no as "order_no: OrderNo", origin as "origin: Origin",
               amount as "amount: Fen", currency, points as "points: Points", bonus_points as "bonus_points: Points", reason,
               status as "status: RefundStatus", wechat_refund_id, failure_reason,
               transaction_id as "transaction_id: TransactionId", total as "total: Fen", misdirected, overdrawn, attempts,
               next_attempt_at, created_at, updated_at, completed_at
        from payment_refunds
        where ($1::text is null or status = $1) and ($2::text is null or order_no = $2)
          and (created_at, refund_no) < (coalesce($3, 'infinity'::timestamptz), coalesce($4, ''))
        order by created_at desc, refund_no desc
        limit $5
        "#,
        filter.status as Option<RefundStatus>,
        filter.order_no.as_ref() as Option<&OrderNo>,
        before.map(|position| position.created_at),
        before.map(|position| position.refund_no.as_str()),
        limit,
    )
    .fetch_all(db)
    .await
}
