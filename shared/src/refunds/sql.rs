//! The refunds' queries. Locks are taken in one order: orders by number, refunds by number, accounts by user.

mod work;

pub use work::{Trouble, Wanted, claim, count_due, dead, put_off, unfinished, wait, wake};

use super::{Change, Origin, Parent, Refund, RefundNo, RefundStatus, Share, Taken};
use crate::{
    money::Fen,
    orders::{OrderNo, PaymentStatus, TransactionId},
    points::{EntryKind, Points},
    users::UserId,
};
use chrono::TimeDelta;
use sqlx::{PgExecutor, PgTransaction};
use std::collections::BTreeMap;

/// Locks the orders until the transaction ends, and reads what their refunds have taken so far. In two statements: what the
/// first one waited for, the second one sees.
pub async fn lock_parents(tx: &mut PgTransaction<'_>, order_nos: &[&str]) -> sqlx::Result<BTreeMap<OrderNo, Parent>> {
    sqlx::query!(
        "select from payment_orders where order_no = any($1) order by order_no for update",
        order_nos as &[&str]
    )
    .execute(&mut **tx)
    .await?;
    let parents = sqlx::query!(
        r#"
        select o.order_no as "order_no: OrderNo", o.user_id as "user_id: UserId", o.amount as "amount: Fen",
               o.points as "points: Points", o.bonus_points as "bonus_points: Points",
               o.payment_status as "status: PaymentStatus", o.transaction_id as "transaction_id: TransactionId", o.paid_at,
               o.refunded_amount as "refunded: Fen", live.amount as "live_fen!", live.points as "live_points!",
               live.bonus as "live_bonus!", live.accepted as "accepted_fen!", live.accepted_points as "accepted_points!",
               live.accepted_bonus as "accepted_bonus!", live.count as "count!"
        from payment_orders o, lateral (
            select coalesce(sum(amount) filter (where is_live), 0)::bigint as amount,
                   coalesce(sum(points) filter (where is_live), 0)::bigint as points,
                   coalesce(sum(bonus_points) filter (where is_live), 0)::bigint as bonus,
                   coalesce(sum(amount) filter (where is_live and status <> 'pending'), 0)::bigint as accepted,
                   coalesce(sum(points) filter (where is_live and status <> 'pending'), 0)::bigint as accepted_points,
                   coalesce(sum(bonus_points) filter (where is_live and status <> 'pending'), 0)::bigint as accepted_bonus,
                   count(*) filter (where status <> 'failed') as count
            from (select *, status not in ('closed', 'failed') as is_live from payment_refunds
                  where order_no = o.order_no and not misdirected) as refunds
        ) as live
        where o.order_no = any($1)
        "#,
        order_nos as &[&str],
    )
    .fetch_all(&mut **tx)
    .await?;
    let parents = parents.into_iter().map(|row| Parent {
        order_no: row.order_no,
        user_id: row.user_id,
        amount: row.amount,
        points: row.points,
        bonus_points: row.bonus_points,
        status: row.status,
        transaction_id: row.transaction_id,
        paid_at: row.paid_at,
        refunded: row.refunded,
        live: Taken { amount: row.live_fen, points: row.live_points, bonus: row.live_bonus },
        accepted: Taken { amount: row.accepted_fen, points: row.accepted_points, bonus: row.accepted_bonus },
        count: row.count,
    });
    Ok(parents.map(|parent| (parent.order_no.clone(), parent)).collect())
}

/// Locks those of the refunds that are known here until the transaction ends.
pub async fn lock(tx: &mut PgTransaction<'_>, refund_nos: &[&str]) -> sqlx::Result<BTreeMap<RefundNo, Refund>> {
    let refunds = sqlx::query_as!(
        Refund,
        r#"
        select refund_no as "refund_no: RefundNo", order_no as "order_no: OrderNo", origin as "origin: Origin",
               amount as "amount: Fen", currency, points as "points: Points", bonus_points as "bonus_points: Points", reason,
               status as "status: RefundStatus", wechat_refund_id, failure_reason,
               transaction_id as "transaction_id: TransactionId", total as "total: Fen", misdirected, overdrawn, attempts,
               next_attempt_at, created_at, updated_at, completed_at
        from payment_refunds where refund_no = any($1) order by refund_no for update
        "#,
        refund_nos as &[&str],
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(refunds.into_iter().map(|refund| (refund.refund_no.clone(), refund)).collect())
}

/// Locks the accounts until the transaction ends; answers their balances.
pub async fn lock_accounts(tx: &mut PgTransaction<'_>, user_ids: &[&str]) -> sqlx::Result<BTreeMap<UserId, i64>> {
    let accounts = sqlx::query!(
        r#"
        select user_id as "user_id: UserId", balance from point_accounts
        where user_id = any($1) order by user_id for no key update
        "#,
        user_ids as &[&str],
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(accounts.into_iter().map(|account| (account.user_id, account.balance)).collect())
}

/// A refund about to be stored.
#[derive(Clone, Debug)]
pub struct NewRefund<'a> {
    /// A fresh number, or that of one which began at WeChat Pay.
    pub refund_no: &'a RefundNo,
    /// The order, when there is one.
    pub order_no: Option<&'a OrderNo>,
    /// Where it began.
    pub origin: Origin,
    /// What goes back.
    pub amount: Fen,
    /// The points that it takes.
    pub share: Share,
    /// Shown to the payer.
    pub reason: Option<&'a str>,
    /// The payment that it takes from.
    pub transaction_id: &'a TransactionId,
    /// That payment's total.
    pub total: Fen,
    /// It takes money that settled no order.
    pub misdirected: bool,
    /// It takes points that are not there.
    pub overdrawn: bool,
    /// Who asked for it, if somebody did here.
    pub requested_by: Option<&'a UserId>,
}

/// Stores a refund as pending; one of ours is due at once.
pub async fn insert(tx: &mut PgTransaction<'_>, new: &NewRefund<'_>) -> sqlx::Result<Refund> {
    sqlx::query_as!(
        Refund,
        r#"
        insert into payment_refunds (refund_no, order_no, origin, amount, points, bonus_points, reason, transaction_id, total,
                                     misdirected, overdrawn, requested_by, next_attempt_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, now())
        returning refund_no as "refund_no: RefundNo", order_no as "order_no: OrderNo", origin as "origin: Origin",
                  amount as "amount: Fen", currency, points as "points: Points", bonus_points as "bonus_points: Points",
                  reason, status as "status: RefundStatus", wechat_refund_id, failure_reason,
                  transaction_id as "transaction_id: TransactionId", total as "total: Fen", misdirected, overdrawn, attempts,
                  next_attempt_at, created_at, updated_at, completed_at
        "#,
        new.refund_no as _,
        new.order_no as Option<&OrderNo>,
        new.origin as _,
        new.amount as _,
        new.share.points as _,
        new.share.bonus as _,
        new.reason,
        new.transaction_id as _,
        new.total as _,
        new.misdirected,
        new.overdrawn,
        new.requested_by as Option<&UserId>,
    )
    .fetch_one(&mut **tx)
    .await
}

/// Writes the state that a refund has reached. An end has a time: WeChat Pay's, where it names one. What is not at its end
/// is looked at again at `next_attempt_at`.
pub async fn advance(
    tx: &mut PgTransaction<'_>,
    change: &Change,
    overdrawn: bool,
    next_attempt_in: Option<TimeDelta>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update payment_refunds
        set status = $2, wechat_refund_id = $3, failure_reason = $4, overdrawn = overdrawn or $5, attempts = 0,
            next_attempt_at = now() + make_interval(secs => $6), error_code = null, error_message = null,
            completed_at = case when $2 in ('success', 'closed', 'failed') then coalesce($7, now()) end, updated_at = now()
        where refund_no = $1
        "#,
        change.report.refund_no as _,
        change.status as RefundStatus,
        change.report.wechat_refund_id,
        failure_reason(change.status),
        overdrawn,
        next_attempt_in.map(TimeDelta::as_seconds_f64),
        change.report.succeeded_at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// What the state itself says of what went wrong.
const fn failure_reason(status: RefundStatus) -> Option<&'static str> {
    match status {
        RefundStatus::Closed => Some("closed by WeChat Pay: it was not executed"),
        RefundStatus::Abnormal => Some("the payer's account cannot take the money; it waits for an operator"),
        _ => None,
    }
}

/// Marks a refund failed for `reason`, if it is still pending. Its points are for the caller to give back.
pub async fn fail(tx: &mut PgTransaction<'_>, refund_no: &RefundNo, reason: &str) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update payment_refunds
        set status = 'failed', failure_reason = $2, next_attempt_at = null, error_code = null, error_message = null,
            completed_at = now(), updated_at = now()
        where refund_no = $1 and status = 'pending'
        "#,
        refund_no as _,
        reason,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Writes what an order is after its refund succeeded.
pub async fn mark_order(
    tx: &mut PgTransaction<'_>,
    order_no: &OrderNo,
    status: PaymentStatus,
    refunded: Fen,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update payment_orders set payment_status = $2, refunded_amount = $3, updated_at = now() where order_no = $1",
        order_no as _,
        status as PaymentStatus,
        refunded as _,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Moves the points of a refund: takes its share (`EntryKind::Refund`), or gives it back (`EntryKind::RefundReturned`). Does
/// nothing for no points. The account is locked. One entry for each refund and direction: a unique index says so.
pub async fn move_points(
    tx: &mut PgTransaction<'_>,
    (order_no, user_id): (&OrderNo, &UserId),
    refund_no: &RefundNo,
    kind: EntryKind,
    share: Share,
) -> sqlx::Result<()> {
    let sign = if kind == EntryKind::Refund { -1 } else { 1 };
    if share.sum() == 0 {
        return Ok(());
    }
    sqlx::query!(
        r#"
        with moved as (
            update point_accounts
            set balance = balance + $2, negative_allowed = negative_allowed or balance + $2 < 0, updated_at = now()
            where user_id = $1
            returning user_id, balance
        )
        insert into point_entries (user_id, kind, delta, bonus_delta, balance_after, order_no, refund_no)
        select user_id, $3, $2, $4, balance, $5, $6 from moved
        "#,
        user_id as _,
        sign * share.sum(),
        kind as EntryKind,
        sign * share.bonus.get(),
        order_no as _,
        refund_no as _,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The refunds that take back money which settled no order, and stand; the oldest first.
pub async fn misdirected(db: impl PgExecutor<'_>, transaction_id: &TransactionId) -> sqlx::Result<Vec<Refund>> {
    sqlx::query_as!(
        Refund,
        r#"
        select refund_no as "refund_no: RefundNo", order_no as "order_no: OrderNo", origin as "origin: Origin",
               amount as "amount: Fen", currency, points as "points: Points", bonus_points as "bonus_points: Points", reason,
               status as "status: RefundStatus", wechat_refund_id, failure_reason,
               transaction_id as "transaction_id: TransactionId", total as "total: Fen", misdirected, overdrawn, attempts,
               next_attempt_at, created_at, updated_at, completed_at
        from payment_refunds
        where transaction_id = $1 and misdirected and status not in ('closed', 'failed')
        order by created_at, refund_no
        "#,
        transaction_id as _,
    )
    .fetch_all(db)
    .await
}

/// Those of the payments whose money settled no order, and has been sent back from here.
pub async fn given_back(db: impl PgExecutor<'_>, transaction_ids: &[&str]) -> sqlx::Result<Vec<TransactionId>> {
    sqlx::query_scalar!(
        r#"
        select transaction_id as "transaction_id: TransactionId" from payment_refunds
        where transaction_id = any($1) and misdirected and origin = 'ours' and status not in ('closed', 'failed')
        "#,
        transaction_ids as &[&str],
    )
    .fetch_all(db)
    .await
}

/// The refund with this number.
pub async fn find(db: impl PgExecutor<'_>, refund_no: &RefundNo) -> sqlx::Result<Option<Refund>> {
    sqlx::query_as!(
        Refund,
        r#"
        select refund_no as "refund_no: RefundNo", order_no as "order_no: OrderNo", origin as "origin: Origin",
               amount as "amount: Fen", currency, points as "points: Points", bonus_points as "bonus_points: Points", reason,
               status as "status: RefundStatus", wechat_refund_id, failure_reason,
               transaction_id as "transaction_id: TransactionId", total as "total: Fen", misdirected, overdrawn, attempts,
               next_attempt_at, created_at, updated_at, completed_at
        from payment_refunds where refund_no = $1
        "#,
        refund_no as _,
    )
    .fetch_optional(db)
    .await
}
