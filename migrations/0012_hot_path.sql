-- What a payment costs PostgreSQL: the same promises, checked in cheaper ways.

-- Whoever has to wait for these locks holds up everybody behind it. Then rather not now: run it again, when no `ops audit` and
-- no vacuum by hand is under way.
set local lock_timeout = '3s';

-- The strongest lock that is needed here, at once: taken step by step it could deadlock with callbacks and payments that are
-- under way.
lock table payment_notify_logs, payment_notify_bodies, payment_refunds, payment_orders, point_accounts, point_entries
    in access exclusive mode;

-- A callback with its headers is about 2 KB, which is where PostgreSQL begins to compress and to move out of line: for
-- ciphertext in base64 that is three times the work for a tenth of the room. It stays as it came, in one piece.
do $$
declare
    part regclass;
begin
    for part in select inhrelid from pg_inherits where inhparent = 'payment_notify_bodies'::regclass loop
        execute format('alter table %s set (toast_tuple_target = 8160)', part);
    end loop;
end $$;

-- The values of the headers, a line each, in the order of `NotifyHeaders`; an empty line for one that was not sent. As an
-- object their names were a tenth of the log. Rows that are there keep their object, and so does what an `api` of the
-- release before stores.
alter table payment_notify_bodies
    add column header_values text,
    alter column headers drop not null,
    add constraint has_headers check (headers is not null or header_values is not null) not valid;

-- The values, in whichever form they are stored.
create function payment_notify_header_values(header_values text, headers jsonb) returns text
language sql stable parallel safe as $$
    select coalesce(header_values, concat_ws(E'\n',
        coalesce(headers ->> 'wechatpay-timestamp', ''), coalesce(headers ->> 'wechatpay-nonce', ''),
        coalesce(headers ->> 'wechatpay-signature', ''), coalesce(headers ->> 'wechatpay-serial', ''),
        coalesce(headers ->> 'wechatpay-signature-type', ''), coalesce(headers ->> 'request-id', ''),
        coalesce(headers ->> 'content-type', ''), coalesce(headers ->> 'user-agent', '')))
$$;

-- A bounded repetition ({1,64}) makes the regular expression a machine of hundreds of states, built anew at each evaluation,
-- and every update of a row evaluates its checks: 10 to 80 µs each. A length and a set of letters say the same in 1 µs.
-- Nothing has to be validated: what is there has passed the old form.
alter table payment_orders
    drop constraint payment_orders_order_no_check,
    drop constraint payment_orders_user_id_check,
    add constraint payment_orders_order_no_check
        check (char_length(order_no) between 6 and 32 and order_no !~ '[^0-9A-Za-z_|*-]') not valid,
    add constraint payment_orders_user_id_check
        check (char_length(user_id) between 1 and 64 and user_id !~ '[^0-9A-Za-z_-]') not valid;
alter table point_accounts
    drop constraint point_accounts_user_id_check,
    add constraint point_accounts_user_id_check
        check (char_length(user_id) between 1 and 64 and user_id !~ '[^0-9A-Za-z_-]') not valid;
alter table payment_refunds
    drop constraint payment_refunds_refund_no_check,
    add constraint payment_refunds_refund_no_check
        check (char_length(refund_no) between 1 and 64 and refund_no !~ '[^0-9A-Za-z_|*@-]') not valid;

-- An entry is written by the transaction that holds the order's lock and has just written the account, and neither is ever
-- deleted. The keys looked both up once more, row by row, with plans that a session keeps from when the tables were small:
-- a tenth to three quarters of a payment's time. `ops audit` checks the same (entries_have_owners).
alter table point_entries
    drop constraint point_entries_user_id_fkey,
    drop constraint point_entries_order_no_fkey;

-- As in migration 0010, and with that.
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
            elsif parent = 'payment_notify_bodies' then
                execute format('alter table %I set (toast_tuple_target = 8160)', part);
            end if;
            lock table only payment_notify_logs, only payment_notify_bodies, only payment_notify_attempts
                in access exclusive mode;
            execute format('with moved as (delete from %I where id >= %L and id < %L returning *) '
                'insert into %I select * from moved', parent || '_default', low, high, part);
            execute format('alter table %I attach partition %I for values from (%L) to (%L)', parent, part, low, high);
        end loop;
    end loop;
end $$;
