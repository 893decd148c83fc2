//! Money and points: orders, refunds, accounts, and the ledger between them.

use super::{Check, sql::check};
use sqlx::PgTransaction;

/// Orders and their credits.
pub async fn credits(tx: &mut PgTransaction<'_>) -> sqlx::Result<[Check; 2]> {
    Ok([
        check!(
            tx,
            "paid_orders_credited_once",
            "a paid order has exactly one credit: its points and bonus points, on its user's account",
            "select o.order_no
             from payment_orders o left join (
                 select order_no, count(*) as credits, min(user_id) as user_id, sum(delta) as delta,
                        sum(bonus_delta) as bonus
                 from point_entries where kind = 'recharge' group by order_no
             ) as e using (order_no)
             where o.paid_at is not null
               and (e.credits, e.user_id, e.delta, e.bonus)
                   is distinct from (1, o.user_id, o.points + o.bonus_points, o.bonus_points)",
        ),
        check!(
            tx,
            "no_credit_without_payment",
            "an order that is not paid has no credit",
            "select distinct order_no from point_entries e join payment_orders o using (order_no)
             where e.kind = 'recharge' and o.paid_at is null",
        ),
    ])
}

/// Refunds, what they took, and what those that came to nothing gave back.
pub async fn refunds(tx: &mut PgTransaction<'_>) -> sqlx::Result<[Check; 5]> {
    Ok([
        check!(
            tx,
            "refunds_taken_once",
            "a refund has exactly one entry that took its points and bonus points, and none when they are zero",
            "select r.refund_no
             from payment_refunds r left join (
                 select refund_no, count(*) as entries, sum(delta) as delta, sum(bonus_delta) as bonus
                 from point_entries where kind = 'refund' group by refund_no
             ) as e using (refund_no)
             where (coalesce(e.entries, 0), coalesce(e.delta, 0), coalesce(e.bonus, 0))
                <> ((r.points + r.bonus_points > 0)::integer, -(r.points + r.bonus_points), -r.bonus_points)",
        ),
        check!(
            tx,
            "refunds_given_back_once",
            "a refund that is closed or failed has exactly one entry that gave back what it took, any other has none",
            "select r.refund_no
             from payment_refunds r cross join lateral (
                 select (r.status in ('closed', 'failed'))::integer as factor
             ) as back left join (
                 select refund_no, count(*) as entries, sum(delta) as delta, sum(bonus_delta) as bonus
                 from point_entries where kind = 'refund_returned' group by refund_no
             ) as e using (refund_no)
             where (coalesce(e.entries, 0), coalesce(e.delta, 0), coalesce(e.bonus, 0))
                <> (factor * (r.points + r.bonus_points > 0)::integer, factor * (r.points + r.bonus_points),
                    factor * r.bonus_points)",
        ),
        check!(
            tx,
            "refund_entries_have_refunds",
            "an entry that a refund caused names a refund of the same order",
            "select distinct coalesce(e.refund_no, e.order_no)
             from point_entries e left join payment_refunds r using (refund_no)
             where e.kind <> 'recharge' and r.order_no is distinct from e.order_no",
        ),
        check!(
            tx,
            "orders_add_up_their_refunds",
            "an order's refunded amount is the sum of its successful refunds, and its status fits",
            "select o.order_no
             from payment_orders o left join (
                 select order_no, sum(amount) as amount from payment_refunds
                 where status = 'success' and not misdirected group by order_no
             ) as r using (order_no)
             where o.refunded_amount <> coalesce(r.amount, 0)
                or (o.payment_status in ('partially_refunded', 'refunded')) <> (coalesce(r.amount, 0) > 0)
                or (o.payment_status = 'refunded') <> (coalesce(r.amount, 0) = o.amount)",
        ),
        check!(
            tx,
            "refunds_within_orders",
            "the refunds of an order that stand have taken no more points and bonus points than it gave",
            "select o.order_no
             from payment_orders o join (
                 select order_no, sum(points) as points, sum(bonus_points) as bonus from payment_refunds
                 where status not in ('closed', 'failed') and not misdirected group by order_no
             ) as r using (order_no)
             where r.points > o.points or r.bonus > o.bonus_points",
        ),
    ])
}

/// Accounts and their ledger.
pub async fn accounts(tx: &mut PgTransaction<'_>) -> sqlx::Result<[Check; 4]> {
    Ok([
        check!(
            tx,
            "balances_add_up",
            "a user's balance is the sum of the entries",
            "select user_id
             from point_accounts a full join (
                 select user_id, sum(delta) as balance from point_entries group by user_id
             ) as e using (user_id)
             where a.balance is distinct from coalesce(e.balance, 0)",
        ),
        check!(
            tx,
            "running_balances_add_up",
            "the balance that an entry of a user's shows is the one before it and its own movement",
            "select distinct user_id
             from (
                 select user_id, balance_after, sum(delta) over (partition by user_id order by id) as running
                 from point_entries
             ) as e
             where balance_after <> running",
        ),
        check!(
            tx,
            "negative_balances_allowed",
            "a user's balance is below zero only where an operator allowed it",
            "select user_id from point_accounts where balance < 0 and not negative_allowed",
        ),
        check!(
            tx,
            "entries_have_owners",
            "an entry names an order, and belongs to the account of that order's user",
            "select distinct e.order_no
             from point_entries e
             left join payment_orders o using (order_no)
             left join point_accounts a on a.user_id = e.user_id
             where o.user_id is distinct from e.user_id or a.user_id is null",
        ),
    ])
}
