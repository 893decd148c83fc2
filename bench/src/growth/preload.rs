//! Years of business, put in within minutes: paid orders with their credits, and the log rows of their callbacks.
//!
//! Triggers and foreign keys sleep meanwhile (`session_replication_role`), and what they would have kept is put in by hand:
//! accounts and figures. Indexes that would be built at random are built afterwards. The callbacks' bodies are short: that
//! table is only ever added to and read by its key, so their size changes nothing.

use crate::{callback::AMOUNT_FEN, installation::Installation, orders::POINTS};
use sqlx::{Connection, PgConnection};
use std::{ops::Range, time::Instant};

/// Accounts of the preloaded orders.
const USERS: u64 = 100_000;

/// A step: what it is called, and its statement. In braces stand `first` and `end`, the first row and the one after the last;
/// `all` that there will ever be, over which time is spread from the month's begin to now; `users`, `amount`, `points`,
/// `bonus`.
const STEPS: [(&str, &str); 6] = [
    (
        "orders",
        "insert into payment_orders (order_no, user_id, package_id, package_name, amount, points, bonus_points,
             payment_method, payment_status, code_url, transaction_id, paid_at, expired_at, created_at, updated_at,
             next_check_at)
         select 'old' || lpad(n::text, 12, '0'), 'old' || n % {users}, p.id, 'old', {amount}, {points}, {bonus},
             'wechat_native', 'paid', 'weixin://wxpay/bizpayurl?pr=' || lpad(to_hex(n), 9, '0'), '4100000000' || lpad(n::text, 18, '0'),
             at + interval '30 seconds', date_trunc('second', at) + interval '30 minutes', at,
             at + interval '30 seconds', null
         from (
             select n, date_trunc('month', now())
                 + (now() - interval '1 hour' - date_trunc('month', now())) * (n::float8 / {all}) as at
             from generate_series({first}, {end} - 1) as n
         ) as rows, (select min(id) as id from payment_packages) as p",
    ),
    (
        "accounts",
        "insert into point_accounts as a (user_id, balance)
         select 'old' || n % {users}, count(*) * ({points} + {bonus}) from generate_series({first}, {end} - 1) as n
         group by 1
         on conflict (user_id) do update set balance = a.balance + excluded.balance",
    ),
    (
        "ledger",
        "insert into point_entries (user_id, kind, delta, bonus_delta, balance_after, order_no)
         select 'old' || n % {users}, 'recharge', {points} + {bonus}, {bonus}, (n / {users} + 1) * ({points} + {bonus}),
             'old' || lpad(n::text, 12, '0')
         from generate_series({first}, {end} - 1) as n
         order by ('old' || n % {users}) collate \"C\", n",
    ),
    (
        "log",
        "insert into payment_notify_logs (id, notify_type, process_status, order_no, client_ip, created_at, processed_at)
         select (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '7' || lpad(to_hex(n % 4096), 3, '0')
                 || '8' || lpad(to_hex(n), 15, '0'))::uuid,
             'payment', 'processed', 'old' || lpad(n::text, 12, '0'), '203.0.113.7', at, at + interval '40 ms'
         from (
             select n, date_trunc('month', now())
                 + (now() - interval '1 hour' - date_trunc('month', now())) * (n::float8 / {all}) as at
             from generate_series({first}, {end} - 1) as n
         ) as rows",
    ),
    (
        "bodies",
        "insert into payment_notify_bodies (id, header_values, body)
         select id, repeat(E'\\n', 7), '{}' from payment_notify_logs
         where order_no >= 'old' || lpad({first}::text, 12, '0') and order_no < 'old' || lpad({end}::text, 12, '0')",
    ),
    (
        "figures",
        "with orders as (
             select created_at, paid_at, package_id, amount, points + bonus_points as points from payment_orders
             where order_no >= 'old' || lpad({first}::text, 12, '0') and order_no < 'old' || lpad({end}::text, 12, '0')
         ), made as (
             insert into payment_statistics_deltas
             select date_bin('1 hour', created_at, 'epoch'), package_id, count(*), count(*), 0, 0, 0, 0 from orders group by 1, 2
             union all
             select date_bin('1 hour', paid_at, 'epoch'), package_id, 0, 0, count(*), sum(amount), sum(points), 0
             from orders group by 1, 2
         )
         insert into payment_notify_statistics_deltas
         select date_bin('1 hour', created_at, 'epoch'), 'payment', 'processed', payment_notify_time_class(40), count(*), 0
         from payment_notify_logs
         where order_no >= 'old' || lpad({first}::text, 12, '0') and order_no < 'old' || lpad({end}::text, 12, '0')
         group by 1",
    ),
];

/// Adds these rows, of `all` that there will ever be.
pub async fn add(installation: &Installation, rows: Range<u64>, all: u64) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut connection = PgConnection::connect(&installation.url).await?;
    for setting in [
        "set session_replication_role = replica",
        "set synchronous_commit = off",
        "set work_mem = '512MB'",
        "set maintenance_work_mem = '1GB'",
        "set jit = off",
    ] {
        sqlx::query(setting).execute(&mut connection).await?;
    }
    let indexes: Vec<(String, String)> = sqlx::query_as(
        "select indexname, indexdef from pg_indexes
         where schemaname = 'public' and tablename in ('payment_orders', 'point_entries')
           and not exists (select from pg_constraint where conname = indexname)",
    )
    .fetch_all(&mut connection)
    .await?;
    for (name, _) in &indexes {
        sqlx::query(&format!("drop index {name}")).execute(&mut connection).await?;
    }
    for (name, statement) in STEPS {
        let step = Instant::now();
        sqlx::query(&filled(statement, &rows, all)).execute(&mut connection).await?;
        say!("  {name}: {:.0} s", step.elapsed().as_secs_f64());
    }
    for (_, definition) in indexes {
        sqlx::query(&definition).execute(&mut connection).await?;
    }
    sqlx::query("vacuum (analyze)").execute(&mut connection).await?;
    sqlx::query("checkpoint").execute(&mut connection).await?;
    connection.close().await?;
    say!("{} rows more: {:.0} s", rows.end - rows.start, begun.elapsed().as_secs_f64());
    Ok(())
}

fn filled(statement: &str, rows: &Range<u64>, all: u64) -> String {
    let numbers = [
        ("{first}", rows.start.to_string()),
        ("{end}", rows.end.to_string()),
        ("{all}", all.to_string()),
        ("{users}", USERS.to_string()),
        ("{amount}", AMOUNT_FEN.to_string()),
        ("{points}", POINTS.0.to_string()),
        ("{bonus}", POINTS.1.to_string()),
    ];
    numbers.iter().fold(statement.to_owned(), |statement, (name, number)| statement.replace(name, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_place_stays_empty() {
        for (name, statement) in STEPS {
            let filled = filled(statement, &(5..17), 100);
            let braces = filled.replace("'{}'", "");
            assert!(!braces.contains(['{', '$']), "{name}: {filled}");
        }
    }
}
