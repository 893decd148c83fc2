-- Asking WeChat Pay about pending orders, for the day its callbacks do not come.

-- When to ask next. Only pending orders are asked about; what stands here of others means nothing.
alter table payment_orders add column next_check_at timestamptz default now() + interval '5 seconds';

create index payment_orders_due on payment_orders (next_check_at) where payment_status = 'pending';

-- How fast a merchant's queries may go, over all workers: a token bucket (RFC 2697 has the idea).
create table wechat_budgets (
    mch_id      text             primary key,
    tokens      double precision not null,
    refilled_at timestamptz      not null default clock_timestamp(),
    -- The share of the configured rate that is in use. WeChat Pay's FREQUENCY_LIMITED halves it; it grows back.
    throttle    double precision not null default 1 check (throttle > 0 and throttle <= 1)
);

-- Takes up to `wanted` queries out of the merchant's budget, which fills at `rate` a second and holds a second's worth.
-- Answers how many were granted. One row, locked for the blink of it: all workers share it.
create function take_wechat_budget(merchant text, wanted integer, rate double precision)
returns integer language plpgsql as $$
declare
    budget wechat_budgets;
    elapsed double precision;
    granted integer;
begin
    insert into wechat_budgets (mch_id, tokens) values (merchant, rate) on conflict do nothing;
    select * into budget from wechat_budgets where mch_id = merchant for update;
    elapsed := greatest(extract(epoch from clock_timestamp() - budget.refilled_at), 0);
    budget.throttle := least(1, budget.throttle + elapsed / 100);
    budget.tokens := least(greatest(rate * budget.throttle, 1), budget.tokens + elapsed * rate * budget.throttle);
    granted := least(floor(budget.tokens), greatest(wanted, 0));
    update wechat_budgets
    set tokens = budget.tokens - granted, refilled_at = clock_timestamp(), throttle = budget.throttle
    where mch_id = merchant;
    return granted;
end $$;
