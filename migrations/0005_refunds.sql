-- Money going back. refund_no is also WeChat Pay's out_refund_no: it stays the same for ever, a new one would refund twice.
create table payment_refunds (
    refund_no        text collate "C" primary key check (refund_no ~ '^[0-9A-Za-z_|*@-]{1,64}$'),
    order_no         text collate "C" not null references payment_orders (order_no),
    origin           text        not null default 'ours' check (origin in ('ours', 'external')),
    amount           bigint      not null check (amount >= 1),
    currency         text        not null default 'CNY' check (currency = 'CNY'),
    -- The shares that were taken back from the user's account.
    points           bigint      not null check (points >= 0),
    bonus_points     bigint      not null check (bonus_points >= 0),
    reason           text        check (char_length(reason) <= 80),
    status           text        not null default 'pending' check (status in
        ('pending', 'processing', 'success', 'closed', 'abnormal', 'failed')),
    wechat_refund_id text collate "C" unique check (char_length(wechat_refund_id) between 1 and 32),
    failure_reason   text,
    created_at       timestamptz not null default now(),
    updated_at       timestamptz not null default now(),
    completed_at     timestamptz,

    constraint ended_has_time check (
        (status in ('success', 'closed', 'failed')) = (completed_at is not null))
);

create index payment_refunds_order on payment_refunds (order_no);

alter table point_entries
    add constraint point_entries_refund foreign key (refund_no) references payment_refunds (refund_no);
