//! The ledger's queries. What writes to it is in `payments::apply`, beside the decision.

use super::{Entry, EntryKind};
use crate::{orders::OrderNo, users::UserId};
use sqlx::PgExecutor;

/// The user's balance; zero for a user who never bought anything.
pub async fn balance(db: impl PgExecutor<'_>, user_id: &UserId) -> sqlx::Result<i64> {
    let balance = sqlx::query_scalar!("select balance from point_accounts where user_id = $1", user_id as _)
        .fetch_optional(db)
        .await?;
    Ok(balance.unwrap_or(0))
}

/// The user's ledger entries, newest first, before the entry with the id `before`.
pub async fn entries(
    db: impl PgExecutor<'_>,
    user_id: &UserId,
    before: Option<i64>,
    limit: i64,
) -> sqlx::Result<Vec<Entry>> {
    sqlx::query_as!(
        Entry,
        r#"
        select id, kind as "kind: EntryKind", delta, balance_after, order_no as "order_no: OrderNo", refund_no, created_at
        from point_entries
        where user_id = $1 and id < coalesce($2, 9223372036854775807)
        order by id desc
        limit $3
        "#,
        user_id as _,
        before,
        limit,
    )
    .fetch_all(db)
    .await
}
