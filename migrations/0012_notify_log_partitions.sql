-- Making and dropping months of the notify log beside callbacks that come in all the time.
--
-- Before a partition is touched all three tables are locked, in the order in which statements do it. Otherwise those who
-- had a table in hand and waited for the partition waited for us, and we for them, until the lock timeout: on a busy
-- service every time.

-- As in migration 0010, but for the lock.
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
            if parent = 'payment_notify_logs' then
                execute format('alter table %I set (fillfactor = 70)', part);
            end if;
            lock table only payment_notify_logs, only payment_notify_bodies, only payment_notify_attempts
                in access exclusive mode;
            execute format('with moved as (delete from %I where id >= %L and id < %L returning *) '
                'insert into %I select * from moved', parent || '_default', low, high, part);
            execute format('alter table %I attach partition %I for values from (%L) to (%L)', parent, part, low, high);
        end loop;
    end loop;
end $$;

-- As in migration 0010, but for the lock, and for a look before it.
create or replace function payment_notify_drop_partitions(days integer) returns table (month text, dead_letters bigint)
language plpgsql set lock_timeout = '500ms' as $$
declare
    part record;
    is_unfinished text := 'select exists (select from %I where process_status in (''received'', ''retrying''))';
    unfinished boolean;
begin
    perform pg_advisory_xact_lock(hashtext('payment_notify_make_partitions'));
    for part in
        select substring(c.relname from '\d{4}_\d{2}$') as name
        from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'payment_notify_logs'::regclass and c.relname ~ '_\d{4}_\d{2}$'
        order by 1
    loop
        exit when (to_date(part.name, 'YYYY_MM') + interval '1 month') at time zone 'UTC' > now() - make_interval(days => days);
        -- A month that stays costs no lock.
        execute format(is_unfinished, 'payment_notify_logs_' || part.name) into unfinished;
        continue when unfinished;
        lock table only payment_notify_logs, only payment_notify_bodies, only payment_notify_attempts
            in access exclusive mode;
        -- Nothing may have become unfinished again between the look and the lock.
        execute format(is_unfinished, 'payment_notify_logs_' || part.name) into unfinished;
        continue when unfinished;
        execute format('select count(*) from %I where process_status = ''dead''',
            'payment_notify_logs_' || part.name) into dead_letters;
        execute format('drop table %I', 'payment_notify_logs_' || part.name);
        execute format('drop table if exists %I', 'payment_notify_bodies_' || part.name);
        execute format('drop table if exists %I', 'payment_notify_attempts_' || part.name);
        month := part.name;
        return next;
    end loop;
end $$;
