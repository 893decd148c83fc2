-- One purchase each. order_no is also WeChat Pay's out_trade_no: one number, nothing to mix up.
create table payment_orders (
    order_no        text collate "C" primary key check (order_no ~ '^[0-9A-Za-z_|*-]{6,32}$'),
    user_id         text collate "C" not null check (user_id ~ '^[A-Za-z0-9_-]{1,64}$'),
    package_id      bigint      not null references payment_packages (id),
    package_name    text        not null,
    amount          bigint      not null check (amount >= 1),
    currency        text        not null default 'CNY' check (currency = 'CNY'),
    points          bigint      not null check (points >= 1),
    bonus_points    bigint      not null check (bonus_points >= 0),
    payment_method  text        not null check (payment_method = 'wechat_native'),
    payment_status  text        not null default 'pending' check (payment_status in
        ('pending', 'paid', 'cancelled', 'expired', 'failed', 'partially_refunded', 'refunded')),
    -- What the QR code says; null until WeChat Pay has given it.
    code_url        text        check (char_length(code_url) <= 512),
    -- WeChat Pay's number of the payment. Unique: no payment settles two orders.
    transaction_id  text collate "C" unique check (char_length(transaction_id) between 1 and 32),
    refunded_amount bigint      not null default 0 check (refunded_amount between 0 and amount),
    paid_at         timestamptz,
    -- The last moment at which the user may pay. Whole seconds, because every repeat of the order to WeChat Pay
    -- must carry the very same string.
    expired_at      timestamptz not null check (date_trunc('second', expired_at) = expired_at),
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),

    constraint paid_has_payment check (
        case when payment_status in ('paid', 'partially_refunded', 'refunded')
             then paid_at is not null and transaction_id is not null
             else paid_at is null and transaction_id is null end),
    constraint refunded_adds_up check (
        case payment_status when 'partially_refunded' then refunded_amount > 0 and refunded_amount < amount
                            when 'refunded' then refunded_amount = amount
                            else refunded_amount = 0 end)
) with (fillfactor = 85);

-- "My orders, newest first": order numbers sort by the time they were made.
create index payment_orders_user on payment_orders (user_id, order_no desc);
-- Orders that never got their code (the process died in between), for the worker's sweep.
create index payment_orders_without_code on payment_orders (created_at)
    where payment_status = 'pending' and code_url is null;
