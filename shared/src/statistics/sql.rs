//! The statistics' queries.

use super::{Cell, Figures, Span};
use crate::{orders::PaymentStatus, packages::PackageId};
use sqlx::PgExecutor;

/// The figures of each bucket and package in `span` with which anything happened, those of a package together, in display
/// order. One statement, so all of it is of one moment.
pub async fn figures(db: impl PgExecutor<'_>, span: &Span) -> sqlx::Result<Vec<Cell>> {
    let (hours, edges) = span.parts();
    let (edge_starts, edge_ends): (Vec<_>, Vec<_>) = edges.into_iter().map(|edge| (edge.start, edge.end)).unzip();
    let statuses = PaymentStatus::ALL.map(PaymentStatus::as_str);
    // Seconds of a day are few.
    let seconds = f64::from(u32::try_from(span.bucket().seconds()).unwrap_or(u32::MAX));
    let rows = sqlx::query!(
        r#"
        with edges as (select * from unnest($4::timestamptz[], $5::timestamptz[]) as edge (start, stop))
        select date_bin(make_interval(secs => $1), f.at, '2000-01-01 00:00:00+08') as "start!",
               p.id as "package_id: PackageId", p.name as package_name,
               sum(f.orders)::bigint as "orders!", sum(f.converted)::bigint as "converted!",
               sum(f.paid_orders)::bigint as "paid_orders!", sum(f.paid_amount)::bigint as "paid_fen!",
               sum(f.points)::bigint as "points!", sum(f.refunded_amount)::bigint as "refunded_fen!"
        from (
            select hour as at, package_id, orders, converted, paid_orders, paid_amount, points, refunded_amount
            from payment_statistics where hour >= $2 and hour < $3
            union all
            select hour, package_id, orders, converted, paid_orders, paid_amount, points, refunded_amount
            from payment_statistics_deltas where hour >= $2 and hour < $3
            union all
            select o.created_at, o.package_id, 1, (o.paid_at is not null)::integer, 0, 0, 0, 0
            from edges e
            join payment_orders o on o.payment_status = any($6) and o.created_at >= e.start and o.created_at < e.stop
            union all
            select o.paid_at, o.package_id, 0, 0, 1, o.amount, o.points + o.bonus_points, 0
            from edges e join payment_orders o on o.paid_at >= e.start and o.paid_at < e.stop
            union all
            select r.completed_at, o.package_id, 0, 0, 0, 0, 0, r.amount
            from edges e
            join payment_refunds r on r.status = 'success' and not r.misdirected and r.completed_at >= e.start and r.completed_at < e.stop
            join payment_orders o using (order_no)
        ) as f
        join payment_packages p on p.id = f.package_id
        group by 1, p.id
        order by p.sort_order, p.id, 1
        "#,
        seconds,
        hours.start,
        hours.end,
        &edge_starts,
        &edge_ends,
        &statuses as &[&str],
    )
    .fetch_all(db)
    .await?;
    let cells = rows.into_iter().map(|row| Cell {
        start: row.start,
        package_id: row.package_id,
        package_name: row.package_name,
        figures: Figures {
            orders: row.orders,
            converted: row.converted,
            paid_orders: row.paid_orders,
            paid_fen: row.paid_fen,
            points: row.points,
            refunded_fen: row.refunded_fen,
        },
    });
    Ok(cells.collect())
}

/// Merges up to `most` additions into the hours' figures, so that the next question has fewer rows to add up. Answers how
/// many there were; none, when another process is at it.
pub async fn merge(db: impl PgExecutor<'_>, most: i32) -> sqlx::Result<i64> {
    sqlx::query_scalar!(r#"select payment_statistics_merge($1) as "merged!""#, most).fetch_one(db).await
}
