-- Refunds, from the request to the end.

lock table payment_refunds in access exclusive mode;

alter table payment_refunds
    -- Money that settled no order of ours can go back too; then no order is named, or one that keeps its own payment.
    alter column order_no drop not null,
    -- The payment that it takes from, and that payment's total in fen.
    add column transaction_id  text collate "C" check (char_length(transaction_id) between 1 and 32),
    add column total           bigint      check (total >= amount),
    -- The payment settled no order: one that was paid already, or none. No points go back, and no order changes.
    add column misdirected     boolean     not null default false,
    -- Who asked for it: an admin's id, `ops`, or nobody for one that began at WeChat Pay.
    add column requested_by    text        check (char_length(requested_by) between 1 and 64),
    -- It took points that were not there any more.
    add column overdrawn       boolean     not null default false,
    -- When a worker should look at it; null when nothing is to be done, or nothing but by an operator.
    add column next_attempt_at timestamptz,
    add column attempts        integer     not null default 0 check (attempts >= 0),
    -- What went wrong last, while it is under way.
    add column error_code      text,
    add column error_message   text;

update payment_refunds r set transaction_id = o.transaction_id, total = o.amount
from payment_orders o where o.order_no = r.order_no;

alter table payment_refunds
    alter column transaction_id set not null,
    alter column total set not null,
    add constraint refund_of_an_order check (misdirected or order_no is not null),
    add constraint misdirected_takes_no_points check (not misdirected or (points = 0 and bonus_points = 0)),
    add constraint only_open_refunds_are_looked_at check (next_attempt_at is null or status in ('pending', 'processing', 'abnormal'));

-- Of one payment that settled no order there is one refund by hand; WeChat Pay's console may make several.
create unique index payment_refunds_misdirected on payment_refunds (transaction_id)
    where misdirected and origin = 'ours' and status <> 'closed' and status <> 'failed';
create index payment_refunds_of_transaction on payment_refunds (transaction_id) where misdirected;
create index payment_refunds_due on payment_refunds (next_attempt_at) where next_attempt_at is not null;
-- Newest first, of one status or of all.
create index payment_refunds_list on payment_refunds (created_at, refund_no);
create index payment_refunds_by_status on payment_refunds (status, created_at, refund_no);

-- As in migration 0009, without the money that settled no order: it was never counted as paid.
create or replace function payment_statistics_follow_refunds() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        insert into payment_statistics_deltas
        select date_bin('1 hour', r.completed_at, 'epoch'), o.package_id, 0, 0, 0, 0, 0, sum(r.amount)
        from new_rows r join payment_orders o using (order_no)
        where r.status = 'success' and not r.misdirected
        group by 1, 2;
    else
        insert into payment_statistics_deltas
        select date_bin('1 hour', r.completed_at, 'epoch'), o.package_id, 0, 0, 0, 0, 0, sum(r.amount)
        from (
            select order_no, completed_at, amount from new_rows where status = 'success' and not misdirected
            union all
            select order_no, completed_at, -amount from old_rows where status = 'success' and not misdirected
        ) as r join payment_orders o using (order_no)
        group by 1, 2
        having sum(r.amount) <> 0;
    end if;
    return null;
end $$;
