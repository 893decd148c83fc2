//! The notify log's queries. Each works on a set: one row costs the same round trip as three hundred.

use super::{Claimed, Closing, NewNotify, NotifyHeaders, NotifyId, NotifyType};
use crate::orders::OrderNo;
use chrono::TimeDelta;
use sqlx::{PgExecutor, PgTransaction};
use uuid::Uuid;

/// Stores the notifications, all or none. Accepted ones are due at once.
pub async fn insert(db: impl PgExecutor<'_>, rows: &[&NewNotify]) -> sqlx::Result<()> {
    let ids: Vec<_> = rows.iter().map(|row| row.id.get()).collect();
    let types: Vec<_> = rows.iter().map(|row| row.notify_type.as_str()).collect();
    let codes: Vec<_> = rows.iter().map(|row| row.rejected.as_ref().map(super::Fault::code)).collect();
    let messages: Vec<_> = rows.iter().map(|row| row.rejected.as_ref().map(ToString::to_string)).collect();
    let client_ips: Vec<_> = rows.iter().map(|row| row.client_ip.as_deref()).collect();
    let headers: Vec<_> = rows.iter().map(|row| row.headers.to_lines()).collect();
    let bodies: Vec<_> = rows.iter().map(|row| row.body.as_slice()).collect();
    sqlx::query!(
        r#"
        with bodies as (
            insert into payment_notify_bodies (id, header_values, body)
            select * from unnest($1::uuid[], $6::text[], $7::bytea[])
        ), figures as (
            insert into payment_notify_statistics_deltas
            select date_bin('1 hour', now(), 'epoch'), notify_type, 'rejected', -1, count(*), 0
            from unnest($2::text[], $3::text[]) as new (notify_type, code)
            where code is not null
            group by notify_type
        )
        insert into payment_notify_logs (id, notify_type, process_status, error_code, error_message, client_ip,
                                         next_attempt_at, processed_at, refused_at_door)
        select id, notify_type, case when code is null then 'received' else 'rejected' end, code, message, client_ip,
               case when code is null then now() end, case when code is not null then now() end, code is not null
        from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[])
            as new (id, notify_type, code, message, client_ip)
        "#,
        &ids,
        &types as &[&str],
        &codes as &[Option<&str>],
        &messages as &[Option<String>],
        &client_ips as &[Option<&str>],
        &headers,
        &bodies as &[&[u8]],
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Claims those of `ids` that are still to be done, until the transaction ends. A row that another worker has claimed is
/// skipped, never waited for: this worker holds no other lock yet, and the other one will finish the row, or rescue will.
///
/// The state is asked for by a `case`, which the planner does not see through: else it would take the index of all that is
/// due, and read the whole backlog for each set.
pub async fn claim(tx: &mut PgTransaction<'_>, ids: &[NotifyId]) -> sqlx::Result<Vec<Claimed>> {
    sqlx::query_as!(
        Claimed,
        r#"
        with locked as materialized (
            select l.id, l.notify_type, l.ladder_step, l.crashes, l.refused_at_door
            from (select distinct unnest($1::uuid[]) as id) as wanted join payment_notify_logs l on l.id = wanted.id
            where case l.process_status when 'received' then true
                                        when 'retrying' then l.next_attempt_at <= now() else false end
            for no key update of l skip locked
        )
        select l.id as "id: NotifyId", l.notify_type as "notify_type: NotifyType", l.ladder_step, l.crashes,
               l.refused_at_door,
               payment_notify_header_values(b.header_values, b.headers) as "headers!: NotifyHeaders", b.body
        from locked l join payment_notify_bodies b on b.id = l.id
        order by l.id
        "#,
        ids as &[NotifyId],
    )
    .fetch_all(&mut **tx)
    .await
}

/// Whether any row has been due for `grace` at least. Somebody may have it in hand.
pub async fn is_any_due(db: impl PgExecutor<'_>, grace: TimeDelta) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        select exists (
            select from payment_notify_logs
            where process_status in ('received', 'retrying') and next_attempt_at <= now() - make_interval(secs => $1)
        ) as "is_due!"
        "#,
        grace.as_seconds_f64(),
    )
    .fetch_one(db)
    .await
}

/// Claims at most `limit` rows that have been due for `grace` at least, oldest first, until the transaction ends.
pub async fn claim_due(tx: &mut PgTransaction<'_>, limit: i64, grace: TimeDelta) -> sqlx::Result<Vec<Claimed>> {
    sqlx::query_as!(
        Claimed,
        r#"
        with due as materialized (
            select id, notify_type, ladder_step, crashes, refused_at_door from payment_notify_logs
            where process_status in ('received', 'retrying') and next_attempt_at <= now() - make_interval(secs => $2)
            order by next_attempt_at
            limit $1
            for no key update skip locked
        )
        select due.id as "id: NotifyId", due.notify_type as "notify_type: NotifyType", due.ladder_step, due.crashes,
               due.refused_at_door,
               payment_notify_header_values(b.header_values, b.headers) as "headers!: NotifyHeaders", b.body
        from due join payment_notify_bodies b on b.id = due.id
        "#,
        limit,
        grace.as_seconds_f64(),
    )
    .fetch_all(&mut **tx)
    .await
}

/// Writes what became of claimed rows: their state, the attempts that failed, and the figures. `worker` is who tried;
/// `slot` is what it has said to hold, see [`super::suspects`]. Answers the seconds from arrival to end of those that were
/// processed.
pub async fn close(
    tx: &mut PgTransaction<'_>,
    closings: &[Closing],
    worker: &str,
    slot: Option<Uuid>,
) -> sqlx::Result<Vec<f64>> {
    let ids: Vec<_> = closings.iter().map(|closing| closing.id.get()).collect();
    let statuses: Vec<_> = closings.iter().map(|closing| closing.outcome.status().as_str()).collect();
    let order_nos: Vec<_> = closings.iter().map(|closing| closing.order_no.as_ref().map(OrderNo::as_str)).collect();
    let codes: Vec<_> = closings.iter().map(|closing| closing.outcome.fault().map(super::Fault::code)).collect();
    let messages: Vec<_> = closings.iter().map(|closing| closing.outcome.fault().map(ToString::to_string)).collect();
    let delays: Vec<_> = closings.iter().map(|closing| retry_after(&closing.outcome)).collect();
    sqlx::query_scalar!(
        r#"
        with closed as (
            update payment_notify_logs l
            set process_status = done.status,
                order_no = coalesce(done.order_no, l.order_no),
                error_code = done.code,
                error_message = done.message,
                retry_count = l.retry_count + (done.delay is not null)::integer,
                ladder_step = l.ladder_step + (done.delay is not null)::integer,
                crashes = 0,
                next_attempt_at = clock_timestamp() + make_interval(secs => done.delay),
                processed_at = case when done.delay is null then clock_timestamp() end
            from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::float8[])
                as done (id, status, order_no, code, message, delay)
            where l.id = done.id
            returning l.id, l.notify_type, l.process_status, l.retry_count, l.error_code, l.error_message, l.created_at,
                      extract(epoch from l.processed_at - l.created_at)::float8 as seconds
        ), failed as (
            insert into payment_notify_attempts (id, worker, outcome, error_code, error_message)
            select id, $7, process_status, error_code, error_message from closed where error_code is not null
        ), freed as (
            delete from worker_sets where slot = $8
        ), figures as (
            insert into payment_notify_statistics_deltas
            select date_bin('1 hour', created_at, 'epoch'), notify_type, process_status,
                   case when process_status in ('processed', 'duplicate')
                        then payment_notify_time_class(seconds * 1000) else -1 end,
                   count(*), sum(retry_count)
            from closed
            where process_status <> 'retrying'
            group by 1, 2, 3, 4
        )
        select seconds as "seconds!" from closed where process_status = 'processed'
        "#,
        &ids,
        &statuses as &[&str],
        &order_nos as &[Option<&str>],
        &codes as &[Option<&str>],
        &messages as &[Option<String>],
        &delays as &[Option<f64>],
        worker,
        slot,
    )
    .fetch_all(&mut **tx)
    .await
}

/// Makes the partitions of this month and the `months_ahead` after it, where they are missing.
pub async fn make_partitions(db: impl PgExecutor<'_>, months_ahead: i32) -> sqlx::Result<()> {
    sqlx::query!("select payment_notify_make_partitions($1)", months_ahead).execute(db).await?;
    Ok(())
}

/// Seconds.
fn retry_after(outcome: &super::Outcome) -> Option<f64> {
    match outcome {
        super::Outcome::Retry { after, .. } => Some(after.as_seconds_f64()),
        _ => None,
    }
}
