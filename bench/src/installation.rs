//! What one benchmark makes of its own on the servers, and takes away again: a database, queues, keys, orders.

use crate::{
    broker,
    callback::Sender,
    keys,
    orders::{self, Numbers},
    requests,
    service::{Service, binary},
};
use anyhow::{Context, bail, ensure};
use sqlx::{Connection, PgConnection, PgPool, postgres::PgPoolOptions};
use std::{
    cell::Cell,
    collections::BTreeMap,
    fs,
    ops::Range,
    path::PathBuf,
    process::{Command, Output},
};
use tokio::signal::unix::{SignalKind, signal};

/// The variable, when it is set to something.
fn env_or(name: &str, default: &str) -> String {
    std::env::var(name).ok().filter(|value| !value.is_empty()).unwrap_or_else(|| default.to_owned())
}

/// The URL with another database in it.
fn with_database(url: &str, database: &str) -> anyhow::Result<String> {
    let (base, query) = url.split_once('?').map_or((url, None), |(base, query)| (base, Some(query)));
    let start = base.find("://").context("DATABASE_URL is no URL")? + 3;
    let host_end = base[start..].find('/').map_or(base.len(), |at| start + at);
    let query = query.map_or_else(String::new, |query| format!("?{query}"));
    Ok(format!("{}/{database}{query}", &base[..host_end]))
}

/// Waits until somebody wants an end.
async fn stopped() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
        _ = terminate.recv() => Ok(()),
    }
}

/// What a benchmark has of its own.
pub struct Installation {
    /// The name of its database, and the prefix of its queues.
    pub name: String,
    /// The URL of its database.
    pub url: String,
    server_url: String,
    /// The broker.
    pub amqp_url: String,
    /// The benchmark's own connections.
    pub db: PgPool,
    /// The service's environment.
    pub env: BTreeMap<String, String>,
    /// For keys, requests and logs.
    pub folder: PathBuf,
    sender: Sender,
    /// Its orders' numbers.
    pub numbers: Numbers,
    next: Cell<u64>,
    /// Accounts that the orders are spread over.
    pub users: Cell<u64>,
    acked: Cell<u64>,
}

/// Callbacks that are signed and wait to be sent. The file goes with the last of it.
#[derive(Debug)]
pub struct Batch {
    /// Which orders they pay.
    pub orders: Range<u64>,
    /// The requests.
    pub file: PathBuf,
}

impl Batch {
    /// How many.
    pub const fn len(&self) -> u64 {
        self.orders.end - self.orders.start
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.file);
    }
}

impl Installation {
    /// Makes the database, its schema and its packages, and the keys.
    fn make(users: u64) -> anyhow::Result<Self> {
        let name = format!("recharge_bench_{:08x}", rand::random::<u32>());
        let server_url =
            with_database(&env_or("DATABASE_URL", "postgres://postgres@127.0.0.1:5432/postgres"), "postgres")?;
        let url = with_database(&server_url, &name)?;
        let amqp_url = env_or("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f");
        let folder = std::env::temp_dir().join(&name);
        let sender = Sender::generate()?;
        let mut env = keys::write(&sender, &folder)?;
        for (variable, value) in [
            ("PATH", env_or("PATH", "").as_str()),
            ("DATABASE_URL", &url),
            ("AMQP_URL", &amqp_url),
            ("QUEUE_PREFIX", &name),
            ("JWT_SECRET", "the benchmarks' own secret, of more than 32 bytes"),
            ("DATA_ENCRYPTION_KEY", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
            // The lists are asked for again and again by one client.
            ("RATE_LIMIT_READ_PER_USER", "0"),
            ("RATE_LIMIT_READ_PER_IP", "0"),
        ] {
            env.insert(variable.to_owned(), value.to_owned());
        }
        let db = PgPoolOptions::new().max_connections(4).connect_lazy(&url)?;
        let numbers = Numbers { prefix: format!("bench{}", &name[name.len() - 8..]) };
        let installation = Self {
            name,
            url,
            server_url,
            amqp_url,
            db,
            env,
            folder,
            sender,
            numbers,
            next: Cell::new(0),
            users: Cell::new(users),
            acked: Cell::new(0),
        };
        installation.ops(&["migrate"])?;
        installation.ops(&["seed"])?;
        Ok(installation)
    }

    /// Makes one, works with it, and takes it away again, whatever comes of the work. Ctrl-C and SIGTERM end the work.
    pub fn within<T>(
        users: u64,
        keeps_logs: bool,
        work: impl AsyncFnOnce(&Self) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(async {
            let installation = Self::make(users)?;
            let done = tokio::select! {
                done = work(&installation) => done,
                stopped = stopped() => stopped.and_then(|()| bail!("interrupted")),
            };
            let cleaned = installation.clean(keeps_logs).await;
            let done = done?;
            cleaned?;
            Ok(done)
        })
    }

    /// Runs `ops`; it must succeed.
    pub fn ops(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let Output { status, stdout, stderr } = self.run_ops(arguments)?;
        ensure!(status.success(), "ops {arguments:?}: {}", String::from_utf8_lossy(&stderr));
        Ok(String::from_utf8(stdout)?.trim().to_owned())
    }

    /// Runs `ops`, whatever it says.
    pub fn run_ops(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let mut ops = Command::new(binary("ops")?);
        Ok(ops.args(arguments).env_clear().envs(&self.env).current_dir(&self.folder).output()?)
    }

    /// Starts an `api` or a `worker`.
    pub async fn start(&self, name: &str) -> anyhow::Result<Service> {
        Service::start(name, &self.env, &self.folder).await
    }

    /// New orders, and their callbacks, signed now.
    pub async fn batch(&self, count: u64) -> anyhow::Result<Batch> {
        let orders = self.next.get()..self.next.get() + count;
        self.next.set(orders.end);
        orders::insert(&self.db, &self.numbers, orders.clone(), self.users.get()).await?;
        // As it would be of a table that is older than a minute.
        sqlx::query("analyze payment_orders").execute(&self.db).await?;
        let file = self.folder.join(format!("requests-{}", orders.start));
        requests::sign(&self.sender, &self.numbers, orders.clone(), &file)?;
        Ok(Batch { orders, file })
    }

    /// Notes that so many callbacks were acknowledged. Each is of another order, so each must be credited once.
    pub fn note_acked(&self, count: u64) {
        self.acked.set(self.acked.get() + count);
    }

    /// All orders so far.
    pub const fn orders(&self) -> Range<u64> {
        0..self.next.get()
    }

    /// How many were acknowledged.
    pub const fn acked(&self) -> u64 {
        self.acked.get()
    }

    /// Runs one statement on the server.
    pub async fn execute(&self, sql: &'static str) -> anyhow::Result<()> {
        sqlx::query(sql).execute(&self.db).await.with_context(|| sql)?;
        Ok(())
    }

    /// Takes all of it away.
    async fn clean(&self, keeps_logs: bool) -> anyhow::Result<()> {
        self.db.close().await;
        if keeps_logs {
            say!("the logs are in {}", self.folder.display());
        } else {
            let _ = fs::remove_dir_all(&self.folder);
        }
        let queues = broker::delete_queues(&self.amqp_url, &self.name).await;
        let mut server = PgConnection::connect(&self.server_url).await?;
        sqlx::query(&format!("drop database if exists {} with (force)", self.name)).execute(&mut server).await?;
        queues
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_of_a_url_can_be_another() {
        for (url, expected) in [
            ("postgres://u:p@h:1/db", "postgres://u:p@h:1/x"),
            ("postgres://h", "postgres://h/x"),
            ("postgres://h/db?sslmode=disable", "postgres://h/x?sslmode=disable"),
        ] {
            assert_eq!(with_database(url, "x").unwrap(), expected);
        }
        assert!(with_database("nonsense", "x").is_err());
    }
}
