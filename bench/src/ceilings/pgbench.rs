//! Ceilings of the database, by PostgreSQL's own `pgbench`.

use crate::installation::Installation;
use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Users of the single-transaction design, as many as the service has by default.
const USERS: u64 = 10_000;
/// What each callback's row holds.
const BODY_BYTES: usize = 1_200;
/// And beside it, where it has a place of its own for them.
const HEADER_BYTES: usize = 500;

/// Transactions in a second, by the number of clients, and the best of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Best {
    /// All that was tried.
    pub tried: Vec<(u32, f64)>,
    /// The best number of clients.
    pub clients: u32,
    /// Its transactions in a second.
    pub per_second: f64,
}

const INSERT_TABLE: &str = "create table ceiling_rows
    (id bigint generated always as identity primary key, body text not null, created_at timestamptz not null default now())";
const INSERT: &str = "insert into ceiling_rows (body) values (:body);\n";

const SINGLE_TABLES: [&str; 5] = [
    "create table ceiling_callbacks (id bigint generated always as identity primary key, order_no text not null,
         body text not null, status text not null, created_at timestamptz not null default now())",
    "create table ceiling_orders (order_no text primary key, user_id text not null, amount bigint not null,
         points bigint not null, status text not null default 'pending', transaction_id text unique, paid_at timestamptz,
         created_at timestamptz not null default now())",
    "create table ceiling_accounts (user_id text primary key, balance bigint not null,
         updated_at timestamptz not null default now())",
    "create table ceiling_entries (id bigint generated always as identity primary key, order_no text not null unique,
         user_id text not null, delta bigint not null, created_at timestamptz not null default now())",
    "create sequence ceiling_next",
];

/// The usual design: everything in the request, in one transaction and one round trip.
const SINGLE: &str = "with next as (select nextval('ceiling_next') as n), \
     stored as (insert into ceiling_callbacks (order_no, body, status) select 'order' || n, :body::text, 'processed' from next), \
     paid as (update ceiling_orders o set status = 'paid', transaction_id = '42000000' || n, paid_at = now() from next \
         where o.order_no = 'order' || n and o.status = 'pending' returning o.order_no, o.user_id, o.points), \
     credited as (insert into ceiling_accounts as a (user_id, balance) select user_id, points from paid \
         on conflict (user_id) do update set balance = a.balance + excluded.balance, updated_at = now()) \
     insert into ceiling_entries (order_no, user_id, delta) select order_no, user_id, points from paid;\n";

/// Single-row inserts: at each number of clients, `seconds` long.
pub async fn insert(installation: &Installation, clients: &[u32], seconds: u32) -> anyhow::Result<Best> {
    installation.execute(INSERT_TABLE).await?;
    let best = best("single-row insert", INSERT, "", installation, clients, seconds)?;
    installation.execute("drop table ceiling_rows").await?;
    Ok(best)
}

/// The single-transaction design, in the same way.
pub async fn single_transaction(installation: &Installation, clients: &[u32], seconds: u32) -> anyhow::Result<Best> {
    for table in SINGLE_TABLES {
        installation.execute(table).await?;
    }
    // Far more than can be paid in that time.
    let orders = i64::try_from(clients.len())? * i64::from(seconds) * 40_000;
    sqlx::query(
        "insert into ceiling_orders (order_no, user_id, amount, points)
         select 'order' || n, 'user' || n % $1, 100, 105 from generate_series(1, $2::bigint) as n",
    )
    .bind(i64::try_from(USERS)?)
    .bind(orders)
    .execute(&installation.db)
    .await?;
    installation.execute("vacuum analyze ceiling_orders").await?;
    let best = best("single transaction", SINGLE, "", installation, clients, seconds)?;
    let (taken, credited): (i64, i64) =
        sqlx::query_as("select (select last_value from ceiling_next), (select count(*) from ceiling_entries)")
            .fetch_one(&installation.db)
            .await?;
    ensure!(taken <= orders, "the ceiling ran out of orders");
    // pgbench cuts off what is under way when its time is over.
    let open = i64::from(clients.iter().sum::<u32>());
    ensure!(taken - credited <= open, "the ceiling credited {credited} of {taken} orders");
    installation.execute("drop table ceiling_callbacks, ceiling_orders, ceiling_accounts, ceiling_entries").await?;
    installation.execute("drop sequence ceiling_next").await?;
    Ok(best)
}

/// Runs the script, which may use `:body` and `:headers`, `seconds` long with each number of clients, in sessions with these
/// settings (as for `PGOPTIONS`).
pub fn best(
    what: &str,
    script: &str,
    settings: &str,
    installation: &Installation,
    clients: &[u32],
    seconds: u32,
) -> anyhow::Result<Best> {
    let file = installation.folder.join("ceiling.sql");
    fs::write(&file, script)?;
    let mut tried = Vec::new();
    for clients in clients {
        tried.push((*clients, pgbench(&file, settings, &installation.url, *clients, seconds)?));
    }
    let (clients, per_second) =
        tried.iter().copied().max_by(|(_, a), (_, b)| a.total_cmp(b)).context("no number of clients is given")?;
    say!("ceiling, {what}: {per_second:.0}/s with {clients} clients");
    Ok(Best { tried, clients, per_second })
}

fn pgbench(script: &Path, settings: &str, url: &str, clients: u32, seconds: u32) -> anyhow::Result<f64> {
    let output = Command::new(program()?)
        .env("PGOPTIONS", settings)
        .args(["--no-vacuum", "--protocol=prepared", "--jobs", &clients.min(2).to_string()])
        .args(["--client", &clients.to_string(), "--time", &seconds.to_string()])
        .args(["--define", &format!("body={}", "x".repeat(BODY_BYTES))])
        .args(["--define", &format!("headers={}", "x".repeat(HEADER_BYTES))])
        .arg("--file")
        .arg(script)
        .arg(url)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    match transactions_per_second(&text) {
        Some(rate) if output.status.success() => Ok(rate),
        _ => bail!("pgbench: {text}{}", String::from_utf8_lossy(&output.stderr)),
    }
}

fn transactions_per_second(text: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with("tps = "))?;
    line.split_whitespace().nth(2)?.parse().ok()
}

/// In the PATH, where `pg_config` says, or where Debian and Fedora keep it.
fn program() -> anyhow::Result<PathBuf> {
    let works =
        |path: &PathBuf| Command::new(path).arg("--version").output().is_ok_and(|output| output.status.success());
    let config = Command::new("pg_config").arg("--bindir").output().map(|output| output.stdout).unwrap_or_default();
    let mut places = vec![PathBuf::new(), PathBuf::from(String::from_utf8_lossy(&config).trim())];
    for versions in ["/usr/lib/postgresql", "/usr"] {
        let mut found: Vec<_> =
            fs::read_dir(versions).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        found.sort();
        let kept =
            found.into_iter().rev().filter(|path| versions != "/usr" || path.to_string_lossy().contains("pgsql-"));
        places.extend(kept.map(|path| path.join("bin")));
    }
    let found = places.into_iter().map(|place| place.join("pgbench")).find(works);
    found.context("pgbench is not installed (Debian, Ubuntu: apt-get install postgresql-contrib)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_read_from_what_pgbench_prints() {
        let text = "number of failed transactions: 0 (0.000%)\nlatency average = 1.5 ms\n\
            tps = 5312.482106 (without initial connection time)\n";
        assert_eq!(transactions_per_second(text), Some(5_312.482_106));
        assert_eq!(transactions_per_second("pgbench: error"), None);
    }
}
