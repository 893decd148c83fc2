//! The connection to PostgreSQL, and whether its schema is the one this build knows.

use crate::{MIGRATOR, config::DatabaseConfig};
use chrono::{DateTime, Utc};
use secrecy::ExposeSecret;
use sqlx::{
    Connection, PgConnection, PgExecutor, PgPool, PgTransaction, Postgres, error::DatabaseError,
    migrate::MigrateDatabase, postgres::PgPoolOptions,
};
use std::time::Duration;

/// How long a request waits for a connection. Short: WeChat Pay waits 5 s for its answer, and then comes again.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a starting process waits for its database.
const START_DEADLINE: Duration = Duration::from_mins(1);
const START_PAUSE: Duration = Duration::from_millis(250);

/// Why the schema cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Older than this build, or not there at all.
    #[error(
        "the database's schema is older than this build (it has {found}, version {known} is needed): run `ops migrate`"
    )]
    Older {
        /// What the database has.
        found: String,
        /// What this build needs.
        known: i64,
    },
    /// The database could not be asked.
    #[error("the database cannot be reached (DATABASE_URL)")]
    Database(#[from] sqlx::Error),
}

/// A pool of at most `connections` that connects when it is first used. `name` is what `pg_stat_activity` shows.
pub fn pool(config: &DatabaseConfig, name: &str, connections: u32) -> PgPool {
    with_options(config, name, connections, &[])
}

/// The same for who works on sets of rows by their keys, thousands of times a second: every plan is made once, and goes by
/// index. PostgreSQL would choose by statistics which are minutes old, for tables that grow by a million rows in that time:
/// it reads a whole table because it was small, or an index's dead entries because few rows were to be done.
pub fn pool_for_sets(config: &DatabaseConfig, name: &str, connections: u32) -> PgPool {
    let by_index = ["enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin"];
    let options = by_index.into_iter().map(|option| (option, "off")).chain([("plan_cache_mode", "force_generic_plan")]);
    with_options(config, name, connections, &options.collect::<Vec<_>>())
}

/// Begins a transaction that whoever asked for it may stop waiting for at any moment. A request whose client is gone is
/// dropped where it waits; dropped while `BEGIN` is under way, sqlx (0.8, 0.9) gives the connection back with the transaction
/// open, and what the next request writes there is acknowledged and never committed.
///
/// # Errors
/// What PostgreSQL says.
pub async fn begin(db: &PgPool) -> sqlx::Result<PgTransaction<'static>> {
    let db = db.clone();
    // A task of its own is not dropped with the request. What it has begun for nobody is rolled back there.
    tokio::spawn(async move { db.begin().await }).await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
}

fn with_options(config: &DatabaseConfig, name: &str, connections: u32, more: &[(&str, &str)]) -> PgPool {
    let options = config.options.clone().application_name(name).options([
        // A worker that was stopped in the middle of a transaction must not hold its locks for ever.
        ("idle_in_transaction_session_timeout", "20s"),
        ("statement_timeout", "10s"),
        // Long for a lock that a payment holds, short for one that somebody forgot: who waits for it is put off alone.
        ("lock_timeout", "1s"),
        // No statement here runs long enough for compiling it to pay: it took two thirds of the statistics' time.
        ("jit", "off"),
    ]);
    let options = options.options(more.iter().copied());
    PgPoolOptions::new().max_connections(connections).acquire_timeout(ACQUIRE_TIMEOUT).connect_lazy_with(options)
}

/// Creates the database when it is missing, and brings its schema up to this build. Several processes may do this at
/// once: they take turns.
///
/// # Errors
/// What PostgreSQL says.
pub async fn migrate(config: &DatabaseConfig) -> Result<(), sqlx::migrate::MigrateError> {
    let mut db = match PgConnection::connect_with(&config.options).await {
        Err(error) if is_code(&error, "3D000") => {
            // Another process may be faster; then it is there on the second try.
            let created = Postgres::create_database(config.url.expose_secret()).await;
            PgConnection::connect_with(&config.options).await.map_err(|error| created.err().unwrap_or(error))?
        }
        connected => connected?,
    };
    MIGRATOR.run(&mut db).await
}

fn is_code(error: &sqlx::Error, code: &str) -> bool {
    error.as_database_error().and_then(DatabaseError::code).is_some_and(|found| found == code)
}

/// What time it is to all processes alike.
///
/// # Errors
/// What PostgreSQL says.
pub async fn now(db: impl PgExecutor<'_>) -> sqlx::Result<DateTime<Utc>> {
    sqlx::query_scalar!(r#"select now() as "now!""#).fetch_one(db).await
}

/// Waits until the database answers, then refuses a schema that is older than this build.
///
/// # Errors
/// [`SchemaError::Older`], or [`SchemaError::Database`] when it did not answer for a minute.
pub async fn wait_for_schema(db: &PgPool) -> Result<(), SchemaError> {
    let deadline = tokio::time::Instant::now() + START_DEADLINE;
    let mut told = false;
    loop {
        match check_schema(db).await {
            Err(SchemaError::Database(error)) if is_outage(&error) && tokio::time::Instant::now() < deadline => {
                if !told {
                    tracing::warn!("the database does not answer yet (DATABASE_URL): {error}");
                    told = true;
                }
                tokio::time::sleep(START_PAUSE).await;
            }
            result => return result,
        }
    }
}

/// Whether the database itself is away, so that nothing can be concluded about what was asked of it.
pub fn is_outage(error: &sqlx::Error) -> bool {
    match error {
        // 08: connection. 25006: read-only, which a standby is. 53: out of resources. 57P: stopped or restarting.
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| ["08", "25006", "53", "57P"].iter().any(|class| code.starts_with(class)))
        }
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        _ => false,
    }
}

/// Refuses a schema that is older than this build. A newer one is fine: migrations are safe under the previous release.
///
/// # Errors
/// [`SchemaError`]
pub async fn check_schema(db: &PgPool) -> Result<(), SchemaError> {
    let known = MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or(0);
    // Not a checked query: the table belongs to the migrator, and may not be there.
    let found = sqlx::query_scalar::<_, Option<i64>>("select max(version) from _sqlx_migrations where success")
        .fetch_one(db)
        .await;
    let found = match found {
        Ok(found) => found,
        // 42P01: no such table. 3D000: no such database.
        Err(error) if is_code(&error, "42P01") || is_code(&error, "3D000") => None,
        Err(error) => return Err(error.into()),
    };
    match found {
        Some(version) if version >= known => Ok(()),
        found => {
            let found = found.map_or_else(|| "none".into(), |version| format!("version {version}"));
            Err(SchemaError::Older { found, known })
        }
    }
}
