//! Which refunds are to be looked at, by whom, and when.

use crate::{
    money::Fen,
    orders::{OrderNo, TransactionId},
    points::Points,
    refunds::{Origin, Refund, RefundNo, RefundStatus},
};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgExecutor;

/// Which refunds a worker looks for. Those that are named and those that are due are looked for in ways of their own: in one
/// condition for both, a plan that is made once reads all that is due for each name.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Of these only.
    pub only: Option<&'a [RefundNo]>,
    /// How long before its time a pending one is due already; negative for after.
    pub early: TimeDelta,
}

/// How many refunds are due of those that are wanted; no more than `most`.
pub async fn count_due(db: impl PgExecutor<'_>, wanted: Wanted<'_>, most: i64) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"
        select count(*) as "due!" from (
            (select 1 from payment_refunds
             where $1::text[] is null and next_attempt_at <= now() + make_interval(secs => greatest($3::float8, 0))
               and (status <> 'pending' and next_attempt_at <= now()
                    or status = 'pending' and next_attempt_at <= now() + make_interval(secs => $3))
             limit $2)
            union all
            select 1 from unnest($1) as wanted (refund_no) join payment_refunds r using (refund_no)
            where case when r.status = 'pending' then r.next_attempt_at <= now() + make_interval(secs => $3)
                       else r.next_attempt_at <= now() end
        ) as due
        "#,
        wanted.only as Option<&[RefundNo]>,
        most,
        wanted.early.as_seconds_f64(),
    )
    .fetch_one(db)
    .await
}

/// Claims at most `limit` of the wanted refunds that are due, for `lease`. Who dies with one in hand leaves it to others
/// after that; two who call WeChat Pay about the same one do no harm.
pub async fn claim(
    db: impl PgExecutor<'_>,
    wanted: Wanted<'_>,
    limit: i64,
    lease: TimeDelta,
) -> sqlx::Result<Vec<Refund>> {
    sqlx::query_as!(
        Refund,
        r#"
        with due as materialized (
            select refund_no from payment_refunds
            where $1::text[] is null and next_attempt_at <= now() + make_interval(secs => greatest($4::float8, 0))
              and (status <> 'pending' and next_attempt_at <= now()
                   or status = 'pending' and next_attempt_at <= now() + make_interval(secs => $4))
            order by next_attempt_at
            limit $2
            for no key update skip locked
        ), named as materialized (
            select r.refund_no from unnest($1) as wanted (refund_no) join payment_refunds r using (refund_no)
            where case when r.status = 'pending' then r.next_attempt_at <= now() + make_interval(secs => $4)
                       else r.next_attempt_at <= now() end
            limit $2
            for no key update of r skip locked
        )
        update payment_refunds r set next_attempt_at = now() + make_interval(secs => $3)
        from (select refund_no from due union select refund_no from named) as claimed
        where r.refund_no = claimed.refund_no
        returning r.refund_no as "refund_no: RefundNo", order_no as "order_no: OrderNo", origin as "origin: Origin",
                  amount as "amount: Fen", currency, points as "points: Points", bonus_points as "bonus_points: Points",
                  reason, status as "status: RefundStatus", wechat_refund_id, failure_reason,
                  transaction_id as "transaction_id: TransactionId", total as "total: Fen", misdirected, overdrawn, attempts,
                  next_attempt_at, created_at, updated_at, completed_at
        "#,
        wanted.only as Option<&[RefundNo]>,
        limit,
        lease.as_seconds_f64(),
        wanted.early.as_seconds_f64(),
    )
    .fetch_all(db)
    .await
}

/// What a worker notes of a refund that did not get on.
#[derive(Clone, Copy, Debug)]
pub struct Trouble<'a> {
    /// A stable code: WeChat Pay's, in small letters, or ours.
    pub code: &'a str,
    /// For people.
    pub message: &'a str,
}

/// Says when a claimed refund is looked at again, and what kept it. `None` for the time: nobody does, until an operator
/// wants it. Does nothing to one that has moved on meanwhile.
pub async fn put_off(
    db: impl PgExecutor<'_>,
    refund: &Refund,
    next_attempt_in: Option<TimeDelta>,
    trouble: Option<Trouble<'_>>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update payment_refunds
        set attempts = attempts + 1, next_attempt_at = now() + make_interval(secs => $4), error_code = $5,
            error_message = $6, updated_at = now(),
            -- What is wrong with a stuck one stays wrong, whatever became of the question.
            failure_reason = case when status = 'abnormal' then failure_reason else $5 || ': ' || $6 end
        where refund_no = $1 and status = $2 and attempts = $3
        "#,
        refund.refund_no as _,
        refund.status as RefundStatus,
        refund.attempts,
        next_attempt_in.map(TimeDelta::as_seconds_f64),
        trouble.map(|trouble| trouble.code),
        trouble.map(|trouble| trouble.message),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The same for one that waits for something and has not failed: `attempts` is where it is on the ladder then.
pub async fn wait(
    db: impl PgExecutor<'_>,
    refund: &Refund,
    attempts: i32,
    next_attempt_in: TimeDelta,
    trouble: Trouble<'_>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update payment_refunds
        set attempts = $7, next_attempt_at = now() + make_interval(secs => $4), error_code = $5, error_message = $6,
            failure_reason = case when status = 'abnormal' then failure_reason else $5 || ': ' || $6 end, updated_at = now()
        where refund_no = $1 and status = $2 and attempts = $3
        "#,
        refund.refund_no as _,
        refund.status as RefundStatus,
        refund.attempts,
        next_attempt_in.as_seconds_f64(),
        trouble.code,
        trouble.message,
        attempts,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Lets refunds be looked at now, from the ladder's first step on; answers which of them there were.
pub async fn wake(db: impl PgExecutor<'_>, refund_nos: &[RefundNo]) -> sqlx::Result<Vec<RefundNo>> {
    sqlx::query_scalar!(
        r#"
        update payment_refunds
        -- In the past: no broker names it, so none is waited for.
        set next_attempt_at = now() - interval '1 minute', attempts = 0, updated_at = now()
        where refund_no = any($1) and status in ('pending', 'processing', 'abnormal')
        returning refund_no as "refund_no: RefundNo"
        "#,
        refund_nos as &[RefundNo],
    )
    .fetch_all(db)
    .await
}

/// The refunds that are at no end, and that nobody looks at any more: dead letters, the oldest first; at most `most`.
pub async fn dead(db: impl PgExecutor<'_>, most: i64) -> sqlx::Result<Vec<RefundNo>> {
    sqlx::query_scalar!(
        r#"
        select refund_no as "refund_no: RefundNo" from payment_refunds
        where status in ('pending', 'processing', 'abnormal') and next_attempt_at is null
        order by created_at, refund_no
        limit $1
        "#,
        most,
    )
    .fetch_all(db)
    .await
}

/// When the oldest refund that is not at its end was asked for, by state.
pub async fn unfinished(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<(RefundStatus, i64, DateTime<Utc>)>> {
    let rows = sqlx::query!(
        r#"
        select status as "status: RefundStatus", count(*) as "count!", min(created_at) as "oldest!" from payment_refunds
        where status in ('pending', 'processing', 'abnormal') group by status
        "#
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.status, row.count, row.oldest)).collect())
}
