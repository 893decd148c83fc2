//! The figures' queries.

use super::{Cell, TimeClass};
use crate::{
    notify::{NotifyType, ProcessStatus, window::Window},
    statistics::Span,
};
use chrono::TimeDelta;
use sqlx::PgExecutor;

/// What arrived in `span`, by bucket, family and state; and how long what had an effect took. In parts that are still to be
/// added up; one statement, so all of it is of one moment.
pub async fn figures(db: impl PgExecutor<'_>, span: &Span) -> sqlx::Result<(Vec<Cell>, Vec<TimeClass>)> {
    let (hours, edges) = span.parts();
    let (edge_starts, edge_ends): (Vec<_>, Vec<_>) = edges.iter().map(|edge| (edge.start, edge.end)).unzip();
    let windows = edges.iter().map(|edge| Window::of(Some(edge.start), Some(edge.end)));
    let (edge_first_ids, edge_end_ids): (Vec<_>, Vec<_>) = windows.map(|window| (window.first, window.end)).unzip();
    let window = Window::of(Some(span.from()), Some(span.to()));
    let bucket = TimeDelta::seconds(span.bucket().seconds());
    // The figures, being many, are added up where they lie; all else is little, and is added up beside them.
    let rows = sqlx::query!(
        r#"
        select date_bin($1, hour, '2000-01-01 00:00:00+08') as start, notify_type as "notify_type: NotifyType",
               process_status as "status: ProcessStatus", payment_notify_class_time(nullif(time_class, -1)) as time_ms,
               sum(notifications)::bigint as "notifications!", sum(retries)::bigint as "retries!",
               null::timestamptz as waiting_since
        from payment_notify_statistics where hour >= $2 and hour < $3
        group by grouping sets ((1, notify_type, process_status), (time_class))
        union all
        select date_bin($1, at, '2000-01-01 00:00:00+08'), notify_type, process_status,
               payment_notify_class_time(nullif(time_class, -1)), sum(notifications)::bigint, sum(retries)::bigint,
               min(waiting_since)
        from (
            select hour as at, notify_type, process_status, time_class, notifications, retries,
                   null::timestamptz as waiting_since
            from payment_notify_statistics_deltas where hour >= $2 and hour < $3
            union all
            select l.created_at, l.notify_type, l.process_status,
                   case when l.process_status in ('processed', 'duplicate')
                        then payment_notify_time_class(extract(epoch from l.processed_at - l.created_at) * 1000) end,
                   1, l.retry_count, null
            from unnest($4::timestamptz[], $5::timestamptz[], $6::uuid[], $7::uuid[]) as edge (start, stop, first_id, end_id)
            join payment_notify_logs l on l.id >= edge.first_id and l.id < edge.end_id
             and l.created_at >= edge.start and l.created_at < edge.stop
            where l.process_status in ('processed', 'duplicate', 'dead', 'rejected')
            union all
            select created_at, notify_type, process_status, null, 1, retry_count, created_at
            from payment_notify_logs
            where process_status in ('received', 'retrying') and created_at >= $8 and created_at < $9
              and id >= $10 and id < $11
        ) as rest
        group by grouping sets ((1, notify_type, process_status), (time_class))
        "#,
        bucket as _,
        hours.start,
        hours.end,
        &edge_starts,
        &edge_ends,
        &edge_first_ids,
        &edge_end_ids,
        span.from(),
        span.to(),
        window.first,
        window.end,
    )
    .fetch_all(db)
    .await?;
    let (mut cells, mut classes) = (Vec::new(), Vec::new());
    for row in rows {
        match (row.start, row.notify_type, row.status, row.time_ms) {
            (Some(start), Some(notify_type), Some(status), _) => cells.push(Cell {
                start,
                notify_type,
                status,
                notifications: row.notifications,
                retries: row.retries,
                waiting_since: row.waiting_since,
            }),
            (.., Some(time_ms)) => classes.push(TimeClass { time_ms, notifications: row.notifications }),
            // Those whose time means nothing.
            _ => {}
        }
    }
    Ok((cells, classes))
}
