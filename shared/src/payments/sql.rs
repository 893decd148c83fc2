//! The payment path's statements: few, set-based, and always locking in the same order.

use super::{Payable, Settlement};
use crate::{
    money::Fen,
    orders::{OrderNo, PaymentStatus, TransactionId},
    points::Points,
    users::UserId,
};
use sqlx::PgTransaction;
use std::collections::{BTreeMap, HashMap};

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

/// Marks the orders paid and credits their points. The orders are locked; the accounts are locked here, in key order. A
/// credit that was given before is refused by the ledger's unique index, and the whole transaction with it.
pub async fn settle(tx: &mut PgTransaction<'_>, settlements: &[Settlement]) -> sqlx::Result<()> {
    let mut balances = pay_and_credit(tx, settlements).await?;
    // What an account holds after each entry, from the last one back: the statement above has credited all of them.
    let mut balances_after = vec![0; settlements.len()];
    for (settlement, after) in settlements.iter().zip(&mut balances_after).rev() {
        let balance = balances.get_mut(&settlement.user_id).expect("each user's account was credited");
        *after = *balance;
        *balance -= settlement.credit();
    }
    append_entries(tx, settlements, &balances_after).await
}

/// Answers the accounts' balances after all of it.
async fn pay_and_credit(tx: &mut PgTransaction<'_>, settlements: &[Settlement]) -> sqlx::Result<HashMap<UserId, i64>> {
    let order_nos: Vec<_> = settlements.iter().map(|settlement| settlement.order_no.as_str()).collect();
    let transaction_ids: Vec<_> = settlements.iter().map(|settlement| settlement.transaction_id.as_str()).collect();
    let paid_ats: Vec<_> = settlements.iter().map(|settlement| settlement.paid_at).collect();
    let mut credits: BTreeMap<_, i64> = BTreeMap::new();
    for settlement in settlements {
        *credits.entry(settlement.user_id.as_str()).or_default() += settlement.credit();
    }
    let (user_ids, credits): (Vec<_>, Vec<_>) = credits.into_iter().unzip();
    let accounts = sqlx::query!(
        r#"
        with paid as (
            update payment_orders o
            set payment_status = 'paid', transaction_id = s.transaction_id, paid_at = s.paid_at, updated_at = now()
            from unnest($1::text[], $2::text[], $3::timestamptz[]) as s (order_no, transaction_id, paid_at)
            where o.order_no = s.order_no
        )
        insert into point_accounts as a (user_id, balance)
        select * from unnest($4::text[], $5::bigint[])
        on conflict (user_id) do update set balance = a.balance + excluded.balance, updated_at = now()
        returning user_id as "user_id: UserId", balance
        "#,
        &order_nos as &[&str],
        &transaction_ids as &[&str],
        &paid_ats,
        &user_ids as &[&str],
        &credits,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(accounts.into_iter().map(|account| (account.user_id, account.balance)).collect())
}

async fn append_entries(
    tx: &mut PgTransaction<'_>,
    settlements: &[Settlement],
    balances_after: &[i64],
) -> sqlx::Result<()> {
    let order_nos: Vec<_> = settlements.iter().map(|settlement| settlement.order_no.as_str()).collect();
    let user_ids: Vec<_> = settlements.iter().map(|settlement| settlement.user_id.as_str()).collect();
    let deltas: Vec<_> = settlements.iter().map(Settlement::credit).collect();
    let bonuses: Vec<_> = settlements.iter().map(|settlement| settlement.bonus_points.get()).collect();
    sqlx::query!(
        r#"
        insert into point_entries (user_id, kind, delta, bonus_delta, balance_after, order_no)
        select user_id, 'recharge', delta, bonus_delta, balance_after, order_no
        from unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[])
            as e (user_id, delta, bonus_delta, balance_after, order_no)
        "#,
        &user_ids as &[&str],
        &deltas,
        &bonuses,
        balances_after,
        &order_nos as &[&str],
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
