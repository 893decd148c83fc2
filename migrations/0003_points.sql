-- A user's points. The balance is a running total of point_entries and nothing else; `ops audit` checks it.
create table point_accounts (
    user_id          text collate "C" primary key check (user_id ~ '^[A-Za-z0-9_-]{1,64}$'),
    balance          bigint      not null,
    -- Set by the refund that an operator let take more points than were left.
    negative_allowed boolean     not null default false,
    updated_at       timestamptz not null default now(),

    constraint balance_not_negative check (balance >= 0 or negative_allowed)
) with (fillfactor = 70);

-- The ledger. Append-only, and one entry for one cause: a second credit of an order is refused here even if all code
-- above were wrong.
create table point_entries (
    id            bigint      generated always as identity,
    user_id       text collate "C" not null references point_accounts (user_id),
    kind          text        not null check (kind in ('recharge', 'refund', 'refund_returned')),
    -- What the balance moved by; bonus_delta says how much of it is bonus points.
    delta         bigint      not null check (delta <> 0),
    bonus_delta   bigint      not null check (abs(bonus_delta) <= abs(delta) and bonus_delta * sign(delta) >= 0),
    balance_after bigint      not null,
    order_no      text collate "C" not null references payment_orders (order_no),
    refund_no     text collate "C",
    created_at    timestamptz not null default now(),

    -- The order of the statement of account: newest first, by user.
    primary key (user_id, id),
    constraint entry_has_cause check ((kind = 'recharge') = (refund_no is null)),
    constraint entry_has_direction check ((kind = 'refund') = (delta < 0))
);

create unique index point_entries_one_credit_per_order on point_entries (order_no) where kind = 'recharge';
create unique index point_entries_once_per_refund on point_entries (refund_no, kind) where refund_no is not null;

create function point_entries_are_append_only() returns trigger language plpgsql as $$
begin
    raise exception 'point_entries is append-only: a correction is an entry of its own';
end $$;

create trigger append_only before update or delete or truncate on point_entries
    for each statement execute function point_entries_are_append_only();
