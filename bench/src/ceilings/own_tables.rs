//! What one transaction for each callback does on the service's own tables, with the indexes, checks and figures that its
//! lists and statistics need: what is left of a ratio to these is what sets are worth.

use super::pgbench::{self, Best};
use crate::{
    installation::Installation,
    orders::{self, Numbers},
};
use anyhow::ensure;

/// More than one client can pay in a second.
const ORDERS_PER_CLIENT_SECOND: u64 = 12_000;

/// How the worker has its statements planned: always by index.
const SETTINGS: &str = "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c enable_bitmapscan=off \
    -c enable_hashjoin=off -c enable_mergejoin=off -c jit=off";

/// A callback's id, as the door makes it: its time, and random bits.
const NEW_ID: &str =
    "overlay(gen_random_uuid()::text placing left(uuid_v7_floor(clock_timestamp())::text, 13) from 1 for 13)::uuid";

/// A callback's row, as the door stores it.
fn insert_script() -> String {
    format!(
        "with new as materialized (select {NEW_ID} as id), \
         body as (insert into payment_notify_bodies (id, header_values, body) select id, :headers, :body::bytea from new) \
         insert into payment_notify_logs (id, notify_type, process_status, client_ip, next_attempt_at) \
         select id, 'payment', 'received', '127.0.0.1', now() from new;\n"
    )
}

/// The callback's row, done, with everything that comes of it.
fn single_script(numbers: &Numbers) -> String {
    let Numbers { prefix } = numbers;
    format!(
        "with next as (select nextval('ceiling_next') as n), \
         new as materialized (select {NEW_ID} as id, '{prefix}' || lpad(n::text, 10, '0') as order_no, n from next), \
         body as (insert into payment_notify_bodies (id, header_values, body) select id, :headers, :body::bytea from new), \
         log as (insert into payment_notify_logs (id, notify_type, process_status, client_ip, order_no, processed_at) \
             select id, 'payment', 'processed', '127.0.0.1', order_no, now() from new), \
         figures as (insert into payment_notify_statistics_deltas \
             select date_bin('1 hour', now(), 'epoch'), 'payment', 'processed', 0, 1, 0), \
         paid as (update payment_orders o set payment_status = 'paid', transaction_id = '{prefix}' || lpad(n::text, 10, '0'), \
             paid_at = now(), updated_at = now() from new where o.order_no = new.order_no and o.payment_status = 'pending' \
             returning o.order_no, o.user_id, o.points, o.bonus_points), \
         credited as (insert into point_accounts as a (user_id, balance) select user_id, points + bonus_points from paid \
             on conflict (user_id) do update set balance = a.balance + excluded.balance, updated_at = now() \
             returning balance) \
         insert into point_entries (user_id, kind, delta, bonus_delta, balance_after, order_no) \
         select user_id, 'recharge', points + bonus_points, bonus_points, balance, order_no from paid, credited;\n"
    )
}

/// Single-row inserts: at each number of clients, `seconds` long.
pub fn insert(installation: &Installation, clients: &[u32], seconds: u32) -> anyhow::Result<Best> {
    pgbench::best("single-row insert, the service's tables", &insert_script(), SETTINGS, installation, clients, seconds)
}

/// The single-transaction design, in the same way.
pub async fn single_transaction(installation: &Installation, clients: &[u32], seconds: u32) -> anyhow::Result<Best> {
    let numbers = Numbers { prefix: format!("one{}", installation.numbers.prefix) };
    let orders = clients.len() as u64 * u64::from(seconds) * ORDERS_PER_CLIENT_SECOND;
    orders::insert(&installation.db, &numbers, 1..orders + 1, installation.users.get()).await?;
    installation.execute("vacuum analyze payment_orders").await?;
    installation.execute("create sequence ceiling_next").await?;
    let script = single_script(&numbers);
    let best =
        pgbench::best("single transaction, the service's tables", &script, SETTINGS, installation, clients, seconds)?;
    let (taken, paid): (i64, i64) = sqlx::query_as(
        "select (select last_value from ceiling_next),
                (select count(*) from point_entries where order_no like $1 || '%')",
    )
    .bind(&numbers.prefix)
    .fetch_one(&installation.db)
    .await?;
    ensure!(taken.unsigned_abs() <= orders, "the ceiling ran out of orders");
    // pgbench cuts off what is under way when its time is over.
    let open = i64::from(clients.iter().sum::<u32>());
    ensure!(taken - paid <= open, "the ceiling credited {paid} of {taken} orders");
    installation.execute("drop sequence ceiling_next").await?;
    Ok(best)
}
