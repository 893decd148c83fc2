-- The points packages that users can buy. An order copies what it needs, so a package may change at any time.
create table payment_packages (
    id           bigint      generated always as identity primary key,
    name         text        not null check (char_length(name) between 1 and 64),
    description  text        not null default '' check (char_length(description) <= 500),
    -- Fen. WeChat Pay takes 1 fen at least; the upper bound keeps a slip of the keyboard from being sold.
    amount       bigint      not null check (amount between 1 and 100000000),
    currency     text        not null default 'CNY' check (currency = 'CNY'),
    points       bigint      not null check (points between 1 and 1000000000),
    bonus_points bigint      not null default 0 check (bonus_points between 0 and 1000000000),
    is_active    boolean     not null default true,
    sort_order   integer     not null default 0,
    created_at   timestamptz not null default now(),
    updated_at   timestamptz not null default now()
);
