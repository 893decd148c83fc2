//! Figures that are kept apart from what they count.

use super::{Check, sql::check};
use sqlx::PgTransaction;

/// Sums, and what they are the sums of.
pub async fn sums(tx: &mut PgTransaction<'_>) -> sqlx::Result<[Check; 2]> {
    Ok([orders(tx).await?, notifications(tx).await?])
}

async fn orders(tx: &mut PgTransaction<'_>) -> sqlx::Result<Check> {
    Ok(check!(
        tx,
        "order_statistics_add_up",
        "an hour's figures of a package are those of its orders, payments and refunds",
        r#"with counted as (
             select date_bin('1 hour', at, 'epoch') as hour, package_id, sum(orders) as orders,
                    sum(converted) as converted, sum(paid) as paid, sum(amount) as amount, sum(points) as points,
                    sum(refunded) as refunded
             from (
                 select created_at as at, package_id, 1 as orders, (paid_at is not null)::integer as converted,
                        0 as paid, 0 as amount, 0 as points, 0 as refunded
                 from payment_orders
                 union all
                 select paid_at, package_id, 0, 0, 1, amount, points + bonus_points, 0
                 from payment_orders where paid_at is not null
                 union all
                 select r.completed_at, package_id, 0, 0, 0, 0, 0, r.amount
                 from payment_refunds r join payment_orders using (order_no)
                 where r.status = 'success' and not r.misdirected
             ) as events group by 1, 2
         ), kept as (
             select hour, package_id, sum(orders) as orders, sum(converted) as converted, sum(paid_orders) as paid,
                    sum(paid_amount) as amount, sum(points) as points, sum(refunded_amount) as refunded
             from (table payment_statistics union all table payment_statistics_deltas) as figures group by 1, 2
         )
         select to_char(hour at time zone 'UTC', 'YYYY-MM-DD"T"HH24"Z package "') || package_id
         from counted c full join kept k using (hour, package_id)
         where (coalesce(c.orders, 0), coalesce(c.converted, 0), coalesce(c.paid, 0), coalesce(c.amount, 0),
                coalesce(c.points, 0), coalesce(c.refunded, 0))
            <> (coalesce(k.orders, 0), coalesce(k.converted, 0), coalesce(k.paid, 0), coalesce(k.amount, 0),
                coalesce(k.points, 0), coalesce(k.refunded, 0))"#,
    ))
}

/// A month that was dropped has figures without rows, so only hours are compared whose months are there. An id's time and
/// its row's are of two clocks, so an hour at the edge of such a month is left out.
async fn notifications(tx: &mut PgTransaction<'_>) -> sqlx::Result<Check> {
    Ok(check!(
        tx,
        "notify_statistics_add_up",
        "an hour's figures of the notify log are those of its rows that have ended",
        r#"with counted as (
             select date_bin('1 hour', created_at, 'epoch') as hour, notify_type, process_status, count(*) as notifications,
                    sum(retry_count) as retries
             from payment_notify_logs
             where process_status in ('processed', 'duplicate', 'dead', 'rejected')
             group by 1, 2, 3
         ), kept as (
             select hour, notify_type, process_status, sum(notifications) as notifications, sum(retries) as retries
             from (table payment_notify_statistics union all table payment_notify_statistics_deltas) as figures
             group by 1, 2, 3
         )
         select to_char(hour at time zone 'UTC', 'YYYY-MM-DD"T"HH24"Z "') || notify_type || ' ' || process_status
         from counted c full join kept k using (hour, notify_type, process_status)
         where (coalesce(c.notifications, 0), coalesce(c.retries, 0))
            <> (coalesce(k.notifications, 0), coalesce(k.retries, 0))
           and (select bool_and(to_regclass('payment_notify_logs_' || to_char(edge at time zone 'UTC', 'YYYY_MM')) is not null)
                from unnest(array[hour - interval '5 minutes', hour + interval '65 minutes']) as edge)"#,
    ))
}
