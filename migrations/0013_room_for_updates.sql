-- An order and a row of the notify log are written once and once more, when they are paid for and done. On pages that are
-- filled to 85 and 70 % most of the second copies find no room beside the first: they go to another page, whole, and say so
-- with a lock of their own. With more room they stay, and a payment writes about 120 bytes less of log.
--
-- The price: a page that vacuum has cleared of first copies is filled again only once it is emptier than that. So the log,
-- whose months are dropped, leaves room for all of them, and the orders, which stay, for most.

-- As in migration 0012. These locks let reads and writes pass.
set local lock_timeout = '3s';

-- What sets the partitions of a table apart from PostgreSQL's defaults: a partitioned table itself cannot say it.
create function payment_notify_storage(parent text) returns text language sql immutable as $$
    select case parent when 'payment_notify_logs' then 'fillfactor = 45'
                       when 'payment_notify_bodies' then 'toast_tuple_target = 8160' end
$$;

alter table payment_orders set (fillfactor = 60);
do $$
declare
    part regclass;
begin
    -- No month may be made meanwhile that does not know of this.
    perform pg_advisory_xact_lock(hashtext('payment_notify_make_partitions'));
    for part in select inhrelid from pg_inherits where inhparent = 'payment_notify_logs'::regclass loop
        execute format('alter table %s set (%s)', part, payment_notify_storage('payment_notify_logs'));
    end loop;
end $$;

-- As in migration 0012, but for what is set.
create or replace function payment_notify_make_partitions(months_ahead integer) returns void
language plpgsql set lock_timeout = '500ms' as $$
declare
    parent text;
    part text;
    month timestamptz;
    low uuid;
    high uuid;
begin
    perform pg_advisory_xact_lock(hashtext('payment_notify_make_partitions'));
    for i in 0..months_ahead loop
        month := (date_trunc('month', now() at time zone 'UTC') + make_interval(months => i)) at time zone 'UTC';
        low := uuid_v7_floor(month);
        high := uuid_v7_floor((month at time zone 'UTC' + interval '1 month') at time zone 'UTC');
        foreach parent in array array['payment_notify_logs', 'payment_notify_bodies', 'payment_notify_attempts'] loop
            part := parent || '_' || to_char(month at time zone 'UTC', 'YYYY_MM');
            continue when to_regclass(part) is not null;
            execute format('create table %I (like %I including defaults including constraints)', part, parent);
            if payment_notify_storage(parent) is not null then
                execute format('alter table %I set (%s)', part, payment_notify_storage(parent));
            end if;
            lock table only payment_notify_logs, only payment_notify_bodies, only payment_notify_attempts
                in access exclusive mode;
            execute format('with moved as (delete from %I where id >= %L and id < %L returning *) '
                'insert into %I select * from moved', parent || '_default', low, high, part);
            execute format('alter table %I attach partition %I for values from (%L) to (%L)', parent, part, low, high);
        end loop;
    end loop;
end $$;
