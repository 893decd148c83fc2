-- What a caller's Idempotency-Key stands for. Kept for 24 hours.
create table idempotency_keys (
    user_id    text collate "C" not null,
    operation  text             not null check (operation in ('order.create', 'refund.create')),
    key        text collate "C" not null check (char_length(key) between 1 and 64),
    -- SHA-256 of what was asked: the same key with another request is a mistake of the caller's.
    request    bytea            not null check (octet_length(request) = 32),
    -- The number of the order or refund that it made.
    subject    text collate "C" not null,
    created_at timestamptz      not null default now(),

    primary key (user_id, operation, key)
);

create index idempotency_keys_age on idempotency_keys (created_at);
