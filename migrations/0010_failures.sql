-- Notifications that fail: their attempts, the ladder, what killed a worker, retries by hand, lists, figures, retention.

-- The strongest lock that is needed here, at once: taken step by step it could deadlock with the intake.
lock table payment_notify_logs, payment_notify_bodies in access exclusive mode;

alter table payment_notify_logs
    -- The ladder's step that the next failure takes. An operator's retry begins again; retry_count goes on.
    add column ladder_step     smallint not null default 0 check (ladder_step >= 0),
    -- How many processes died with the row in their hands.
    add column crashes         smallint not null default 0 check (crashes >= 0),
    -- The door refused it: it was never acknowledged, and its signature may be anybody's.
    add column refused_at_door boolean  not null default false;

-- Workers reject nothing else.
update payment_notify_logs set refused_at_door = true
where process_status = 'rejected' and error_code <> 'event_unsupported';

-- Failed attempts, and what was done by hand. Only ever inserted into.
create table payment_notify_attempts (
    id            uuid        not null,
    at            timestamptz not null default clock_timestamp(),
    -- The process that tried, or who let it be tried again.
    worker        text        not null,
    -- What the row became.
    outcome       text        not null check (outcome in ('retrying', 'dead', 'rejected', 'received')),
    error_code    text,
    error_message text,
    primary key (id, at, outcome)
) partition by range (id);
create table payment_notify_attempts_default partition of payment_notify_attempts default;

-- "What failed, newest first." A row that is processed at once is never in it.
create index payment_notify_logs_set_aside on payment_notify_logs (process_status, id)
    where process_status in ('duplicate', 'retrying', 'dead', 'rejected');
-- The same for one family, however rare it is among them.
create index payment_notify_logs_set_aside_by_type on payment_notify_logs (process_status, notify_type, id)
    where process_status in ('duplicate', 'retrying', 'dead', 'rejected');
-- What is dead for one reason: how many, and all of it for a retry.
create index payment_notify_logs_dead on payment_notify_logs (error_code, id) where process_status = 'dead';
create index payment_notify_logs_order on payment_notify_logs (order_no, id) where order_no is not null;
create index payment_notify_logs_refunds on payment_notify_logs (id) where notify_type = 'refund';

-- As in migration 0004, and with the attempts. Before a partition is touched all three tables are locked, in the order in
-- which statements do it. Otherwise those who had a table in hand and waited for the partition waited for us, and we for
-- them, until the lock timeout: on a busy service every time.
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

select payment_notify_make_partitions(3);

-- Drops the months that ended more than `days` ago, but for those in which a row is still to be handled; answers their
-- names (such as 2026_01) and how many dead letters went with each. May be called by several processes at once; waits half
-- a second at most for whoever reads the log, then fails, and should be called again.
create function payment_notify_drop_partitions(days integer) returns table (month text, dead_letters bigint)
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

-- What each worker holds that it does not hold for the first time. A row that can be claimed although it stands in
-- another's set was in the hands of a process that died. Not logged: what a crash of PostgreSQL loses of it is only a clue.
create unlogged table worker_sets (
    slot     uuid        primary key,
    ids      uuid[]      not null,
    begun_at timestamptz not null default clock_timestamp()
) with (fillfactor = 10);

-- Says that `slot` holds the rows `held`, and answers those of them that are in another's set.
create function worker_set_begin(my_slot uuid, held uuid[]) returns uuid[] language sql as $$
    insert into worker_sets (slot, ids) values (my_slot, held)
    on conflict (slot) do update set ids = excluded.ids, begun_at = excluded.begun_at;
    select coalesce(array_agg(distinct id), '{}')
    from worker_sets w, unnest(w.ids) as id
    where w.slot <> my_slot and w.ids && held and id = any(held);
$$;

-- Blames the rows that stood in the sets of others with any of `suspects`: one that stood alone is blamed in full, one
-- among others once at most. The sets are forgotten then. Answers how many rows are blamed now.
create function worker_set_blame(my_slot uuid, suspects uuid[]) returns bigint language sql as $$
    with gone as (
        delete from worker_sets where slot <> my_slot and ids && suspects returning ids
    ), blamed as (
        select id, count(*) filter (where cardinality(ids) = 1)::smallint as alone from gone, unnest(ids) as id group by id
    ), locked as (
        select l.id, alone from payment_notify_logs l join blamed using (id)
        where l.process_status in ('received', 'retrying')
        order by l.id
        for no key update of l skip locked
    ), marked as (
        update payment_notify_logs l set crashes = greatest(l.crashes + locked.alone, 1)
        from locked where l.id = locked.id
        returning l.id
    )
    select count(*) from marked;
$$;

-- When the next row of a retry by hand may come due: all such retries together keep one pace.
create table payment_notify_retry_pace (
    only_row boolean     primary key default true check (only_row),
    free_at  timestamptz not null default '-infinity'
);
insert into payment_notify_retry_pace default values;

-- What the configuration looked like when it was last seen, as digests: when one changes, what failed for the old one is
-- tried again.
create table configuration_marks (
    subject text        primary key,
    digest  bytea       not null check (octet_length(digest) = 32),
    seen_at timestamptz not null default now()
);

-- The figures of what has ended, by the hour of its arrival. What has not ended is counted from the rows: an index holds
-- those alone. Written in the statement that ends a row; merged, like the figures of orders, by the worker.
create table payment_notify_statistics (
    hour           timestamptz not null check (hour = date_bin('1 hour', hour, 'epoch')),
    notify_type    text        not null,
    process_status text        not null check (process_status in ('processed', 'duplicate', 'dead', 'rejected')),
    -- The class of the time from arrival to end, see payment_notify_time_class; -1 where it means nothing.
    time_class     integer     not null,
    notifications  bigint      not null,
    retries        bigint      not null,

    primary key (hour, notify_type, process_status, time_class)
) with (fillfactor = 50);

create table payment_notify_statistics_deltas (
    hour           timestamptz not null,
    notify_type    text        not null,
    process_status text        not null,
    time_class     integer     not null,
    notifications  bigint      not null,
    retries        bigint      not null
);

-- Times in classes, 0 to 15 ms as they are, then eight to each doubling: the middle of one is at most 4.5 % off.
create function payment_notify_time_class(ms double precision) returns integer language sql immutable strict as $$
    select case when ms < 16 then greatest(floor(ms), 0) else 16 + floor(8 * ln(ms / 16) / ln(2.0::float8)) end::integer
$$;

-- The time in the middle of a class, in milliseconds.
create function payment_notify_class_time(class integer) returns double precision language sql immutable strict as $$
    select case when class < 16 then class else 16 * power(2.0::float8, (class - 15.5) / 8) end
$$;

-- Merges up to `most` deltas into the figures; answers how many. One at a time: who comes second has nothing to do.
create function payment_notify_statistics_merge(most integer) returns bigint language plpgsql as $$
declare
    merged bigint;
begin
    if not pg_try_advisory_xact_lock(hashtext('payment_notify_statistics_merge')) then
        return 0;
    end if;
    with gone as (
        delete from payment_notify_statistics_deltas
        where ctid = any(array(select ctid from payment_notify_statistics_deltas limit most))
        returning *
    ), kept as (
        insert into payment_notify_statistics as s
        select hour, notify_type, process_status, time_class, sum(notifications), sum(retries)
        from gone
        group by hour, notify_type, process_status, time_class
        on conflict (hour, notify_type, process_status, time_class) do update set
            notifications = s.notifications + excluded.notifications, retries = s.retries + excluded.retries
    )
    select count(*) into merged from gone;
    return merged;
end $$;

-- What was there before.
insert into payment_notify_statistics
select date_bin('1 hour', created_at, 'epoch'), notify_type, process_status,
       case when process_status in ('processed', 'duplicate')
            then payment_notify_time_class(extract(epoch from processed_at - created_at) * 1000) else -1 end,
       count(*), sum(retry_count)
from payment_notify_logs
where process_status in ('processed', 'duplicate', 'dead', 'rejected')
group by 1, 2, 3, 4;
