-- What people did by hand: who, when, to what, and why.
create table audit_log (
    id         bigint      generated always as identity primary key,
    at         timestamptz not null default now(),
    actor      text        not null check (char_length(actor) between 1 and 64),
    action     text        not null,
    subject    text        not null,
    reason     text,
    detail     jsonb       not null default '{}'
);
