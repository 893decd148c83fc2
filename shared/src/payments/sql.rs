//! The payment path's statements: few, set-based, and always locking in the same order.

use super::{Payable, Settlement};
use crate::{
    money::Fen,
    orders::{OrderNo, PaymentStatus, TransactionId},
    points::Points,
    users::UserId,
};
use sqlx::PgTransaction;

/// Locks the orders until the transaction ends, in key order: two workers with the same orders in their sets then wait
/// for each other instead of deadlocking. In full, because `transaction_id` is unique: a weaker lock would have to be
/// raised when it is set.
pub async fn lock_orders(tx: &mut PgTransaction<'_>, order_nos: &[&str]) -> sqlx::Result<Vec<Payable>> {
    sqlx::query_as!(
        Payable,
        r#"
        select order_no as "order_no: OrderNo", user_id as "user_id: UserId", amount as "amount: Fen",
               points as "points: Points", bonus_points as "bonus_points: Points",
               payment_status as "status: PaymentStatus", transaction_id as "transaction_id: TransactionId"
        from payment_orders where order_no = any($1)
        order by order_no
        for update
        "#,
        order_nos as &[&str],
    )
    .fetch_all(&mut **tx)
    .await
}

/// Marks the orders paid and credits their points: orders, balances and ledger in one statement. The orders are locked;
/// the accounts are locked here, in key order. A credit that was given before is refused by the ledger's unique index,
/// and the whole statement with it.
pub async fn settle(tx: &mut PgTransaction<'_>, settlements: &[Settlement]) -> sqlx::Result<()> {
    let order_nos: Vec<_> = settlements.iter().map(|settlement| settlement.order_no.as_str()).collect();
    let transaction_ids: Vec<_> = settlements.iter().map(|settlement| settlement.transaction_id.as_str()).collect();
    let paid_ats: Vec<_> = settlements.iter().map(|settlement| settlement.paid_at).collect();
    let user_ids: Vec<_> = settlements.iter().map(|settlement| settlement.user_id.as_str()).collect();
    let points: Vec<_> = settlements.iter().map(|settlement| settlement.points.get()).collect();
    let bonuses: Vec<_> = settlements.iter().map(|settlement| settlement.bonus_points.get()).collect();
    sqlx::query!(
        r#"
        with settled as (
            select *, points + bonus as delta
            from unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::bigint[], $6::bigint[])
                with ordinality as s (order_no, transaction_id, paid_at, user_id, points, bonus, position)
        ), paid as (
            update payment_orders o
            set payment_status = 'paid', transaction_id = s.transaction_id, paid_at = s.paid_at, updated_at = now()
            from settled s where o.order_no = s.order_no
        ), credited as (
            insert into point_accounts as a (user_id, balance)
            select user_id, sum(delta)::bigint from settled group by user_id
            -- As the column sorts, which is how others lock accounts; the parameter has the database's collation.
            order by user_id collate "C"
            on conflict (user_id) do update set balance = a.balance + excluded.balance, updated_at = now()
            returning user_id, balance
        )
        insert into point_entries (user_id, kind, delta, bonus_delta, balance_after, order_no)
        select s.user_id, 'recharge', s.delta, s.bonus,
               -- The account's end balance, less what the entries after this one in the set added to it.
               c.balance - (sum(s.delta) over later - s.delta)::bigint,
               s.order_no
        from settled s join credited c on c.user_id = s.user_id
        window later as (partition by s.user_id order by s.position desc)
        order by s.position
        "#,
        &order_nos as &[&str],
        &transaction_ids as &[&str],
        &paid_ats,
        &user_ids as &[&str],
        &points,
        &bonuses,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
