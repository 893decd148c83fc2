//! The notify log's queries. Each works on a set: one row costs the same round trip as three hundred.

use super::{Claimed, Closing, NewNotify, NotifyHeaders, NotifyId};
use crate::orders::OrderNo;
use chrono::TimeDelta;
use sqlx::{PgExecutor, PgTransaction, types::Json};

/// Stores the notifications, all or none. `rescue_after` is when a worker should look at the accepted ones by itself.
pub async fn insert(db: impl PgExecutor<'_>, rows: &[&NewNotify], rescue_after: TimeDelta) -> sqlx::Result<()> {
    let ids: Vec<_> = rows.iter().map(|row| row.id.get()).collect();
    let types: Vec<_> = rows.iter().map(|row| row.notify_type.as_str()).collect();
    let codes: Vec<_> = rows.iter().map(|row| row.rejected.as_ref().map(super::Fault::code)).collect();
    let messages: Vec<_> = rows.iter().map(|row| row.rejected.as_ref().map(ToString::to_string)).collect();
    let client_ips: Vec<_> = rows.iter().map(|row| row.client_ip.as_deref()).collect();
    let headers: Vec<_> = rows.iter().map(|row| Json(&row.headers)).collect();
    let bodies: Vec<_> = rows.iter().map(|row| row.body.as_slice()).collect();
    sqlx::query!(
        r#"
        with bodies as (
            insert into payment_notify_bodies (id, headers, body)
            select * from unnest($1::uuid[], $6::jsonb[], $7::bytea[])
        )
        insert into payment_notify_logs
            (id, notify_type, process_status, error_code, error_message, client_ip, next_attempt_at, processed_at)
        select id, notify_type, case when code is null then 'received' else 'rejected' end, code, message, client_ip,
               case when code is null then now() + make_interval(secs => $8) end, case when code is not null then now() end
        from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[])
            as new (id, notify_type, code, message, client_ip)
        "#,
        &ids,
        &types as &[&str],
        &codes as &[Option<&str>],
        &messages as &[Option<String>],
        &client_ips as &[Option<&str>],
        &headers as &[Json<&NotifyHeaders>],
        &bodies as &[&[u8]],
        seconds(rescue_after),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Claims those of `ids` that are still to be done, until the transaction ends. A row that another worker has claimed is
/// skipped, never waited for: this worker holds no other lock yet, and the other one will finish the row, or rescue will.
pub async fn claim(tx: &mut PgTransaction<'_>, ids: &[NotifyId]) -> sqlx::Result<Vec<Claimed>> {
    sqlx::query_as!(
        Claimed,
        r#"
        select l.id as "id: NotifyId", l.retry_count, b.headers as "headers: Json<NotifyHeaders>", b.body
        from payment_notify_logs l join payment_notify_bodies b on b.id = l.id
        where l.id = any($1)
          and (l.process_status = 'received' or l.process_status = 'retrying' and l.next_attempt_at <= now())
        order by l.id
        for no key update of l skip locked
        "#,
        ids as &[NotifyId],
    )
    .fetch_all(&mut **tx)
    .await
}

/// Claims at most `limit` rows whose time has come, oldest first, until the transaction ends.
pub async fn claim_due(tx: &mut PgTransaction<'_>, limit: i64) -> sqlx::Result<Vec<Claimed>> {
    sqlx::query_as!(
        Claimed,
        r#"
        with due as materialized (
            select id, retry_count from payment_notify_logs
            where process_status in ('received', 'retrying') and next_attempt_at <= now()
            order by next_attempt_at
            limit $1
            for no key update skip locked
        )
        select due.id as "id: NotifyId", due.retry_count, b.headers as "headers: Json<NotifyHeaders>", b.body
        from due join payment_notify_bodies b on b.id = due.id
        "#,
        limit,
    )
    .fetch_all(&mut **tx)
    .await
}

/// Writes what became of claimed rows.
pub async fn close(tx: &mut PgTransaction<'_>, closings: &[Closing]) -> sqlx::Result<()> {
    let ids: Vec<_> = closings.iter().map(|closing| closing.id.get()).collect();
    let statuses: Vec<_> = closings.iter().map(|closing| closing.outcome.status().as_str()).collect();
    let order_nos: Vec<_> = closings.iter().map(|closing| closing.order_no.as_ref().map(OrderNo::as_str)).collect();
    let codes: Vec<_> = closings.iter().map(|closing| closing.outcome.fault().map(super::Fault::code)).collect();
    let messages: Vec<_> = closings.iter().map(|closing| closing.outcome.fault().map(ToString::to_string)).collect();
    let delays: Vec<_> = closings.iter().map(|closing| retry_after(&closing.outcome).map(seconds)).collect();
    sqlx::query!(
        r#"
        update payment_notify_logs l
        set process_status = done.status,
            order_no = coalesce(done.order_no, l.order_no),
            error_code = done.code,
            error_message = done.message,
            retry_count = l.retry_count + (done.delay is not null)::integer,
            next_attempt_at = clock_timestamp() + make_interval(secs => done.delay),
            processed_at = case when done.delay is null then clock_timestamp() end
        from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::float8[])
            as done (id, status, order_no, code, message, delay)
        where l.id = done.id
        "#,
        &ids,
        &statuses as &[&str],
        &order_nos as &[Option<&str>],
        &codes as &[Option<&str>],
        &messages as &[Option<String>],
        &delays as &[Option<f64>],
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Makes the partitions of this month and the `months_ahead` after it, where they are missing.
pub async fn make_partitions(db: impl PgExecutor<'_>, months_ahead: i32) -> sqlx::Result<()> {
    sqlx::query!("select payment_notify_make_partitions($1)", months_ahead).execute(db).await?;
    Ok(())
}

const fn retry_after(outcome: &super::Outcome) -> Option<TimeDelta> {
    match outcome {
        super::Outcome::Retry { after, .. } => Some(*after),
        _ => None,
    }
}

fn seconds(delta: TimeDelta) -> f64 {
    delta.as_seconds_f64()
}
