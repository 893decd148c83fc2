//! The books: what must hold in the database at any time, each as a query that counts what breaks it.

/// What it counts, and the query. Every count must be zero.
pub const BOOKS: &[(&str, &str)] = &[
    (
        "a paid order without exactly one credit",
        "select count(*) from payment_orders o where o.paid_at is not null and 1 <>
             (select count(*) from point_entries e where e.order_no = o.order_no and e.kind = 'recharge'
                and e.user_id = o.user_id and e.delta = o.points + o.bonus_points and e.bonus_delta = o.bonus_points)",
    ),
    (
        "a credit for an order that is not paid",
        "select count(*) from point_entries e join payment_orders o using (order_no)
         where e.kind = 'recharge' and o.paid_at is null",
    ),
    (
        "a balance that is not the sum of its entries",
        "select count(*) from point_accounts a
         where balance <> (select coalesce(sum(delta), 0) from point_entries e where e.user_id = a.user_id)",
    ),
    (
        "an entry whose balance is not the one before it and its own",
        "select count(*) from (select balance_after, sum(delta) over (partition by user_id order by id) as running
            from point_entries) e where balance_after <> running",
    ),
    (
        "a row without its body",
        "select count(*) from payment_notify_logs l full join payment_notify_bodies b using (id)
         where l.id is null or b.id is null",
    ),
    (
        "an hour's figures that are not those of its orders, payments and refunds",
        "with counted as (
             select date_bin('1 hour', at, 'epoch') as hour, package_id, sum(orders) as orders, sum(paid) as paid,
                 sum(amount) as amount, sum(points) as points, sum(refunded) as refunded
             from (
                 select created_at as at, package_id, 1 as orders, 0 as paid, 0 as amount, 0 as points, 0 as refunded
                 from payment_orders
                 union all
                 select paid_at, package_id, 0, 1, amount, points + bonus_points, 0 from payment_orders
                 where paid_at is not null
                 union all
                 select r.completed_at, package_id, 0, 0, 0, 0, r.amount
                 from payment_refunds r join payment_orders using (order_no) where r.status = 'success'
             ) as events group by 1, 2
         ), kept as (
             select hour, package_id, sum(orders) as orders, sum(paid_orders) as paid, sum(paid_amount) as amount,
                 sum(points) as points, sum(refunded_amount) as refunded
             from (table payment_statistics union all table payment_statistics_deltas) as figures group by 1, 2
         )
         select count(*) from counted c full join kept k using (hour, package_id)
         where (coalesce(c.orders, 0), coalesce(c.paid, 0), coalesce(c.amount, 0), coalesce(c.points, 0),
                coalesce(c.refunded, 0))
           <> (coalesce(k.orders, 0), coalesce(k.paid, 0), coalesce(k.amount, 0), coalesce(k.points, 0),
                coalesce(k.refunded, 0))",
    ),
    ("a deadlock", "select deadlocks from pg_stat_database where datname = current_database()"),
];
