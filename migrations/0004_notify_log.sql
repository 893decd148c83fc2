-- The notify log: what WeChat Pay sent, and what became of it.
--
-- Two tables with the same key. The raw bytes are written once and never touched again; the state that changes is
-- narrow, so that marking a row processed does not rewrite 1.5 KB. Both are partitioned by id, whose first 48 bits are
-- its time (UUIDv7, RFC 9562): retention is dropping a partition.
create table payment_notify_logs (
    id              uuid        primary key,
    payment_method  text        not null default 'wechat_native',
    notify_type     text        not null check (notify_type in ('payment', 'refund')),
    process_status  text        not null check (process_status in
        ('received', 'processed', 'duplicate', 'retrying', 'dead', 'rejected')),
    retry_count     integer     not null default 0 check (retry_count >= 0),
    -- When a worker should look at the row by itself; null when nothing is left to do.
    next_attempt_at timestamptz,
    order_no        text collate "C",
    error_code      text,
    error_message   text,
    client_ip       text,
    created_at      timestamptz not null default now(),
    processed_at    timestamptz,

    constraint unfinished_has_next_attempt check (
        (process_status in ('received', 'retrying')) = (next_attempt_at is not null)),
    constraint failed_has_code check (
        process_status not in ('retrying', 'dead', 'rejected') or error_code is not null)
) partition by range (id);

create table payment_notify_bodies (
    id      uuid  primary key,
    headers jsonb not null check (jsonb_typeof(headers) = 'object'),
    body    bytea not null
) partition by range (id);

-- What the rescue loop asks for. Only unfinished rows are in it, so it stays as small as the backlog.
create index payment_notify_logs_due on payment_notify_logs (next_attempt_at)
    where process_status in ('received', 'retrying');

-- A row whose id fits no month (a clock that is years off) is still stored: an acknowledgement must never fail for that.
create table payment_notify_logs_default partition of payment_notify_logs default with (fillfactor = 70);
create table payment_notify_bodies_default partition of payment_notify_bodies default;

-- The smallest UUIDv7 of an instant.
create function uuid_v7_floor(at timestamptz) returns uuid language sql immutable strict as $$
    select (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid
$$;

-- Makes the partitions of this month and of the `months_ahead` after it. Months are those of UTC. May be called any
-- number of times, by several processes at once.
--
-- A partition is made apart and then attached: that lets inserts go on, and waits half a second at most for whoever reads
-- the log; then it fails, and should be called again. Rows of its month that had to go to the default one move into it.
create function payment_notify_make_partitions(months_ahead integer) returns void
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
        foreach parent in array array['payment_notify_logs', 'payment_notify_bodies'] loop
            part := parent || '_' || to_char(month at time zone 'UTC', 'YYYY_MM');
            continue when to_regclass(part) is not null;
            execute format('create table %I (like %I including defaults including constraints)', part, parent);
            if parent = 'payment_notify_logs' then
                execute format('alter table %I set (fillfactor = 70)', part);
            end if;
            execute format('with moved as (delete from %I where id >= %L and id < %L returning *) '
                'insert into %I select * from moved', parent || '_default', low, high, part);
            execute format('alter table %I attach partition %I for values from (%L) to (%L)', parent, part, low, high);
        end loop;
    end loop;
end $$;

select payment_notify_make_partitions(3);
