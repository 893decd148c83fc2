//! The orders' queries. Those of the payment path are in `payments::sql`.

use super::{NewOrder, Order, OrderNo, PaymentStatus, TransactionId};
use crate::{money::Fen, packages::PackageId, points::Points, users::UserId};
use sqlx::PgExecutor;

/// Whose orders a caller may see.
#[derive(Clone, Copy, Debug)]
pub enum Scope<'a> {
    /// This user's.
    Own(&'a UserId),
    /// Everybody's.
    All,
}

/// Stores the order as pending, without a code.
pub async fn insert(db: impl PgExecutor<'_>, order: &NewOrder) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into payment_orders
            (order_no, user_id, package_id, package_name, amount, currency, points, bonus_points, payment_method, expired_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
        "#,
        order.order_no as _,
        order.user_id as _,
        order.package.id as _,
        order.package.name,
        order.package.amount as _,
        order.package.currency,
        order.package.points as _,
        order.package.bonus_points as _,
        super::PAYMENT_METHOD,
        order.expired_at,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The order, when it is within `scope`.
pub async fn find(db: impl PgExecutor<'_>, order_no: &OrderNo, scope: Scope<'_>) -> sqlx::Result<Option<Order>> {
    let owner = match scope {
        Scope::Own(user_id) => Some(user_id),
        Scope::All => None,
    };
    sqlx::query_as!(
        Order,
        r#"
        select order_no as "order_no: OrderNo", user_id as "user_id: UserId", package_id as "package_id: PackageId",
               package_name, amount as "amount: Fen", currency, points as "points: Points",
               bonus_points as "bonus_points: Points", payment_method, payment_status as "status: PaymentStatus",
               code_url, transaction_id as "transaction_id: TransactionId", refunded_amount as "refunded_amount: Fen",
               paid_at, expired_at, created_at, updated_at
        from payment_orders
        where order_no = $1 and ($2::text is null or user_id = $2)
        "#,
        order_no as _,
        owner as Option<&UserId>,
    )
    .fetch_optional(db)
    .await
}

/// Keeps the code that WeChat Pay gave, and answers the order with it; `None` when it is no longer to be paid.
pub async fn set_code(db: impl PgExecutor<'_>, order_no: &OrderNo, code_url: &str) -> sqlx::Result<Option<Order>> {
    sqlx::query_as!(
        Order,
        r#"
        update payment_orders set code_url = $2, updated_at = now()
        where order_no = $1 and payment_status = 'pending'
        returning order_no as "order_no: OrderNo", user_id as "user_id: UserId", package_id as "package_id: PackageId",
                  package_name, amount as "amount: Fen", currency, points as "points: Points",
                  bonus_points as "bonus_points: Points", payment_method, payment_status as "status: PaymentStatus",
                  code_url, transaction_id as "transaction_id: TransactionId", refunded_amount as "refunded_amount: Fen",
                  paid_at, expired_at, created_at, updated_at
        "#,
        order_no as _,
        code_url,
    )
    .fetch_optional(db)
    .await
}

/// Gives up an order for which no code could be had, so that nobody takes it for payable.
pub async fn fail_without_code(db: impl PgExecutor<'_>, order_no: &OrderNo) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"
        update payment_orders set payment_status = 'failed', updated_at = now()
        where order_no = $1 and payment_status = 'pending' and code_url is null
        "#,
        order_no as _,
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Gives up the orders that have waited for their code for over `seconds`: the process that made them died in between.
/// Answers how many there were.
pub async fn fail_abandoned(db: impl PgExecutor<'_>, seconds: f64) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        r#"
        update payment_orders set payment_status = 'failed', updated_at = now()
        where order_no in (
            select order_no from payment_orders
            where payment_status = 'pending' and code_url is null and created_at < now() - make_interval(secs => $1)
            order by order_no
            limit 500
            for no key update skip locked
        )
        "#,
        seconds,
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected())
}
