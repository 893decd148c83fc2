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
create function payment_notify_make_partitions(months_ahead integer) returns void language plpgsql as $$
declare
    month timestamptz;
    suffix text;
begin
    perform pg_advisory_xact_lock(hashtext('payment_notify_make_partitions'));
    for i in 0..months_ahead loop
        month := date_trunc('month', now() at time zone 'UTC') at time zone 'UTC' + make_interval(months => i);
        suffix := to_char(month at time zone 'UTC', 'YYYY_MM');
        if to_regclass('payment_notify_logs_' || suffix) is null then
            execute format('create table %I partition of payment_notify_logs for values from (%L) to (%L) with (fillfactor = 70)',
                'payment_notify_logs_' || suffix, uuid_v7_floor(month), uuid_v7_floor(month + interval '1 month'));
            execute format('create table %I partition of payment_notify_bodies for values from (%L) to (%L)',
                'payment_notify_bodies_' || suffix, uuid_v7_floor(month), uuid_v7_floor(month + interval '1 month'));
        end if;
    end loop;
end $$;

select payment_notify_make_partitions(3);
