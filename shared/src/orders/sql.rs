//! The orders' queries. Those of the payment path are in `payments::sql`.

use super::{NewOrder, Order, OrderNo, PaymentStatus, TransactionId};
use crate::{money::Fen, packages::PackageId, points::Points, users::UserId};
use chrono::{DateTime, Utc};
use sqlx::{PgExecutor, PgTransaction};

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

/// Those of the orders whose `updated_at` is not the one that is known of them; `None` is known of no time.
pub async fn changed(
    db: impl PgExecutor<'_>,
    order_nos: &[&str],
    known: &[Option<DateTime<Utc>>],
) -> sqlx::Result<Vec<Order>> {
    sqlx::query_as!(
        Order,
        r#"
        select o.order_no as "order_no: OrderNo", user_id as "user_id: UserId", package_id as "package_id: PackageId",
               package_name, amount as "amount: Fen", currency, points as "points: Points",
               bonus_points as "bonus_points: Points", payment_method, payment_status as "status: PaymentStatus",
               code_url, transaction_id as "transaction_id: TransactionId", refunded_amount as "refunded_amount: Fen",
               paid_at, expired_at, created_at, o.updated_at
        from unnest($1::text[], $2::timestamptz[]) as known (order_no, updated_at)
        join payment_orders o using (order_no)
        where o.updated_at is distinct from known.updated_at
        "#,
        order_nos as &[&str],
        known as &[Option<DateTime<Utc>>],
    )
    .fetch_all(db)
    .await
}

/// Lets the user's new orders be made one at a time, until the transaction ends: two that each count four others would
/// make six. The first statement of its transaction, so that nobody waits here while holding something else.
pub async fn lock_user(tx: &mut PgTransaction<'_>, user_id: &UserId) -> sqlx::Result<()> {
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended('new order of ' || $1, 0))", user_id.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// How many orders the user could pay for now. Only after [`lock_user`] is it still true at the commit.
pub async fn count_open(tx: &mut PgTransaction<'_>, user_id: &UserId) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"
        select count(*) as "count!" from payment_orders
        where user_id = $1 and payment_status = 'pending' and expired_at > now()
        "#,
        user_id as _,
    )
    .fetch_one(&mut **tx)
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

/// Marks a pending order as ended without a payment. False when it was pending no more.
pub async fn end_unpaid(db: impl PgExecutor<'_>, order_no: &OrderNo, status: PaymentStatus) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"
        update payment_orders set payment_status = $2, updated_at = now()
        where order_no = $1 and payment_status = 'pending'
        "#,
        order_no as _,
        status as PaymentStatus,
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// How many pending orders are due to be asked about, at most `limit`.
pub async fn count_due(db: impl PgExecutor<'_>, limit: i64) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"
        select count(*) as "count!" from (
            select from payment_orders
            where payment_status = 'pending' and next_check_at <= now() and code_url is not null
            limit $1
        ) due
        "#,
        limit,
    )
    .fetch_one(db)
    .await
}

/// Claims up to `limit` due orders for `lease_seconds`: another worker looks at them only when this one has not said when
/// to look again by then.
pub async fn claim_due(db: impl PgExecutor<'_>, limit: i64, lease_seconds: f64) -> sqlx::Result<Vec<Order>> {
    sqlx::query_as!(
        Order,
        r#"
        update payment_orders set next_check_at = now() + make_interval(secs => $2)
        where order_no in (
            select order_no from payment_orders
            where payment_status = 'pending' and next_check_at <= now() and code_url is not null
            order by next_check_at
            limit $1
            for no key update skip locked
        )
        returning order_no as "order_no: OrderNo", user_id as "user_id: UserId", package_id as "package_id: PackageId",
                  package_name, amount as "amount: Fen", currency, points as "points: Points",
                  bonus_points as "bonus_points: Points", payment_method, payment_status as "status: PaymentStatus",
                  code_url, transaction_id as "transaction_id: TransactionId", refunded_amount as "refunded_amount: Fen",
                  paid_at, expired_at, created_at, updated_at
        "#,
        limit,
        lease_seconds,
    )
    .fetch_all(db)
    .await
}

/// Says when to ask about a pending order next; `None` for never.
pub async fn check_at(db: impl PgExecutor<'_>, order_no: &OrderNo, at: Option<DateTime<Utc>>) -> sqlx::Result<()> {
    sqlx::query!(
        "update payment_orders set next_check_at = $2 where order_no = $1 and payment_status = 'pending'",
        order_no as _,
        at,
    )
    .execute(db)
    .await?;
    Ok(())
}
