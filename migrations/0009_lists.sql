-- Lists of orders, and figures about them, whose cost does not grow with the number of orders.

-- The strongest lock that is needed here, at once: taken step by step it could deadlock with payments that are under way.
lock table payment_orders, payment_refunds in access exclusive mode;

-- Newest first, of one status, of a user's or of everybody's. A list of all statuses merges the seven: two indexes, where
-- one for each filter would be four, and every index is written again each time an order changes its status.
create index payment_orders_by_user on payment_orders (user_id, payment_status, created_at, order_no);
create index payment_orders_by_status on payment_orders (payment_status, created_at, order_no);
drop index payment_orders_user;

-- Payments by the time they were made, for the part of an hour at the edge of a range. An unpaid order is not in it.
create index payment_orders_paid on payment_orders (paid_at) where paid_at is not null;
create index payment_refunds_succeeded on payment_refunds (completed_at) where status = 'success';

-- The packages in display order, active or not.
create index payment_packages_order on payment_packages (sort_order, id);

-- The figures of an hour and a package. Sums of these are the statistics, together with what was not merged yet.
create table payment_statistics (
    hour            timestamptz not null check (hour = date_bin('1 hour', hour, 'epoch')),
    package_id      bigint      not null,
    -- Orders made in the hour, and how many of those were paid at any time.
    orders          bigint      not null,
    converted       bigint      not null,
    -- Payments of the hour.
    paid_orders     bigint      not null,
    paid_amount     bigint      not null,
    points          bigint      not null,
    -- Refunds that succeeded in the hour.
    refunded_amount bigint      not null,

    primary key (hour, package_id)
) with (fillfactor = 50);

-- What was added to the figures since they were last merged. Only ever inserted into, so that no two payments wait for
-- each other; the worker merges it every few seconds.
create table payment_statistics_deltas (
    hour            timestamptz not null,
    package_id      bigint      not null,
    orders          bigint      not null,
    converted       bigint      not null,
    paid_orders     bigint      not null,
    paid_amount     bigint      not null,
    points          bigint      not null,
    refunded_amount bigint      not null
);

-- The triggers make the figures as exact as the orders: same transaction, whatever statement. They work on whole
-- statements, so a set of payments costs one insert. An update takes away what the rows were and adds what they are; where
-- that is nothing (most updates touch neither time, package nor money) nothing is written. Orders are never deleted.
create function payment_statistics_follow_orders() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        insert into payment_statistics_deltas
        select date_bin('1 hour', at, 'epoch'), package_id, sum(orders), sum(converted), sum(paid_orders), sum(paid_amount),
               sum(points), 0
        from (
            select created_at as at, package_id, 1 as orders, (paid_at is not null)::integer as converted,
                   0 as paid_orders, 0 as paid_amount, 0 as points
            from new_rows
            union all
            select paid_at, package_id, 0, 0, 1, amount, points + bonus_points from new_rows where paid_at is not null
        ) as changed
        group by 1, 2;
    else
        insert into payment_statistics_deltas
        select date_bin('1 hour', at, 'epoch'), package_id, sum(orders), sum(converted), sum(paid_orders), sum(paid_amount),
               sum(points), 0
        from (
            select created_at as at, package_id, 1 as orders, (paid_at is not null)::integer as converted,
                   0 as paid_orders, 0 as paid_amount, 0 as points
            from new_rows
            union all
            select paid_at, package_id, 0, 0, 1, amount, points + bonus_points from new_rows where paid_at is not null
            union all
            select created_at, package_id, -1, -(paid_at is not null)::integer, 0, 0, 0 from old_rows
            union all
            select paid_at, package_id, 0, 0, -1, -amount, -(points + bonus_points) from old_rows where paid_at is not null
        ) as changed
        group by 1, 2
        having (sum(orders), sum(converted), sum(paid_orders), sum(paid_amount), sum(points)) <> (0, 0, 0, 0, 0);
    end if;
    return null;
end $$;

create trigger statistics_of_new after insert on payment_orders
    referencing new table as new_rows
    for each statement execute function payment_statistics_follow_orders();
create trigger statistics_of_changed after update on payment_orders
    referencing old table as old_rows new table as new_rows
    for each statement execute function payment_statistics_follow_orders();

create function payment_statistics_follow_refunds() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        insert into payment_statistics_deltas
        select date_bin('1 hour', r.completed_at, 'epoch'), o.package_id, 0, 0, 0, 0, 0, sum(r.amount)
        from new_rows r join payment_orders o using (order_no)
        where r.status = 'success'
        group by 1, 2;
    else
        insert into payment_statistics_deltas
        select date_bin('1 hour', r.completed_at, 'epoch'), o.package_id, 0, 0, 0, 0, 0, sum(r.amount)
        from (
            select order_no, completed_at, amount from new_rows where status = 'success'
            union all
            select order_no, completed_at, -amount from old_rows where status = 'success'
        ) as r join payment_orders o using (order_no)
        group by 1, 2
        having sum(r.amount) <> 0;
    end if;
    return null;
end $$;

create trigger statistics_of_new after insert on payment_refunds
    referencing new table as new_rows
    for each statement execute function payment_statistics_follow_refunds();
create trigger statistics_of_changed after update on payment_refunds
    referencing old table as old_rows new table as new_rows
    for each statement execute function payment_statistics_follow_refunds();

-- Merges up to `most` deltas into the figures; answers how many. One at a time: who comes second has nothing to do.
create function payment_statistics_merge(most integer) returns bigint language plpgsql as $$
declare
    merged bigint;
begin
    if not pg_try_advisory_xact_lock(hashtext('payment_statistics_merge')) then
        return 0;
    end if;
    with gone as (
        delete from payment_statistics_deltas
        where ctid = any(array(select ctid from payment_statistics_deltas limit most))
        returning *
    ), kept as (
        insert into payment_statistics as s
        select hour, package_id, sum(orders), sum(converted), sum(paid_orders), sum(paid_amount), sum(points),
               sum(refunded_amount)
        from gone
        group by hour, package_id
        on conflict (hour, package_id) do update set
            orders = s.orders + excluded.orders, converted = s.converted + excluded.converted,
            paid_orders = s.paid_orders + excluded.paid_orders, paid_amount = s.paid_amount + excluded.paid_amount,
            points = s.points + excluded.points, refunded_amount = s.refunded_amount + excluded.refunded_amount
    )
    select count(*) into merged from gone;
    return merged;
end $$;

-- What was there before. The triggers hold the tables still until this is committed.
insert into payment_statistics
select date_bin('1 hour', at, 'epoch'), package_id, sum(orders), sum(converted), sum(paid_orders), sum(paid_amount),
       sum(points), sum(refunded_amount)
from (
    select created_at as at, package_id, 1 as orders, (paid_at is not null)::integer as converted,
           0 as paid_orders, 0 as paid_amount, 0 as points, 0 as refunded_amount
    from payment_orders
    union all
    select paid_at, package_id, 0, 0, 1, amount, points + bonus_points, 0 from payment_orders where paid_at is not null
    union all
    select r.completed_at, o.package_id, 0, 0, 0, 0, 0, r.amount
    from payment_refunds r join payment_orders o using (order_no) where r.status = 'success'
) as before
group by 1, 2;
