//! The only place that reads the environment. A value that comes out of here is valid.

mod env;
mod limits;
mod wechat;

pub use env::{Env, Faults};
pub use limits::{BadProxies, LimitsConfig, Rate, TrustedProxies, limits};
pub use wechat::merchant;

use crate::{
    crash,
    notify::Ladder,
    queue::{BrokerConfig, QueueNames},
    token::TokenKey,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::TimeDelta;
use lapin::uri::AMQPUri;
use secrecy::{SecretSlice, SecretString};
use sqlx::postgres::PgConnectOptions;
use std::{net::SocketAddr, process::exit, str::FromStr, time::Duration};
use tracing_subscriber::EnvFilter;

/// Where the database is.
#[derive(Clone, Debug)]
pub struct DatabaseConfig {
    /// `postgres://…`; holds a password.
    pub url: SecretString,
    /// What it says.
    pub options: PgConnectOptions,
    /// Connections that this process may hold.
    pub max_connections: u32,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// What is logged, and how.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// A `tracing` filter.
    pub filter: String,
    /// The look of a line.
    pub format: LogFormat,
}

/// What every long-running process needs.
#[derive(Clone, Debug)]
pub struct ProcessConfig {
    /// Its log.
    pub log: LogConfig,
    /// Its database.
    pub database: DatabaseConfig,
    /// Its broker; `None` is embedded mode.
    pub broker: Option<BrokerConfig>,
    /// How long it may take to stop.
    pub shutdown_grace: Duration,
}

/// Encrypts personal data at rest: 32 bytes.
pub type DataKey = SecretSlice<u8>;

/// Reads a process's configuration, or ends the process: with `--help`, by printing every variable; with anything else
/// as an argument, by saying so; with faults, by printing all of them, a line each.
pub fn load_or_exit<T>(name: &str, about: &str, load: impl Fn(&mut Env) -> Result<T, Faults>) -> T {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {}
        ["--help" | "-h"] => {
            println!("{}", help(name, about, load));
            exit(0)
        }
        ["--version" | "-V"] => {
            println!("{name} {}", env!("CARGO_PKG_VERSION"));
            exit(0)
        }
        _ => {
            eprintln!("{name} takes no arguments but --help and --version; it is configured by the environment");
            exit(2)
        }
    }
    crash::arm();
    load(&mut Env::from_process()).unwrap_or_else(|faults| {
        eprintln!("{faults}");
        exit(2)
    })
}

fn help<T>(name: &str, about: &str, load: impl Fn(&mut Env) -> T) -> String {
    format!(
        "{about}\n\nUsage: {name}\n\nConfigured by the environment, and by a .env file in the working directory:\n\n{}",
        describe(load)
    )
}

/// A table of every variable that `load` asks for, with its default and what it expects.
pub fn describe<T>(load: impl FnOnce(&mut Env) -> T) -> String {
    let mut env = Env::default();
    // All variables are asked for, whatever is missing; that they are missing does not matter here.
    let _ = load(&mut env);
    env.help()
}

/// The log's variables.
pub fn log(env: &mut Env) -> Option<LogConfig> {
    let filter = env.optional_as("RUST_LOG", "a tracing filter, such as info or api=debug", "info", |text| {
        EnvFilter::builder().parse(text).ok().map(|_| text.to_owned())
    });
    let expects = "text or json";
    let format = env.optional_as("LOG_FORMAT", expects, "text", |text| match text {
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => None,
    });
    Some(LogConfig { filter: filter?.unwrap_or_else(|| "info".into()), format: format?.unwrap_or(LogFormat::Text) })
}

/// The database's variables.
pub fn database(env: &mut Env) -> Option<DatabaseConfig> {
    let url = env.required_as("DATABASE_URL", "a postgres:// URL", |text| {
        let known = text.starts_with("postgres://") || text.starts_with("postgresql://");
        let options = text.parse().ok().filter(|_| known)?;
        Some((SecretString::from(text), options))
    });
    let max = env.number_or("DATABASE_MAX_CONNECTIONS", "connections, 4 to 200", 10, 4..=200);
    let (url, options) = url?;
    Some(DatabaseConfig { url, options, max_connections: max? })
}

/// What every long-running process needs.
pub fn process(env: &mut Env) -> Option<ProcessConfig> {
    let database = database(env);
    let url = env.optional_as(
        "AMQP_URL",
        "an amqp:// or amqps:// URL; unset means embedded mode, without RabbitMQ",
        "unset",
        |text| AMQPUri::from_str(text).ok().map(|_| SecretString::from(text)),
    );
    let expects = "the first word of every queue's name: 1 to 64 of A-Z, a-z, 0-9, _, - and .";
    let prefix = env.optional_as("QUEUE_PREFIX", expects, "payment", |text| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        (text.len() <= 64 && text.bytes().all(allowed)).then(|| text.to_owned())
    });
    let grace = env.number_or("SHUTDOWN_GRACE_SECONDS", "seconds, 1 to 600", 20, 1..=600);
    let log = log(env);
    let names = QueueNames::under(&prefix?.unwrap_or_else(|| "payment".into()));
    Some(ProcessConfig {
        log: log?,
        database: database?,
        broker: url?.map(|url| BrokerConfig { url, names }),
        shutdown_grace: Duration::from_secs(grace?.into()),
    })
}

/// An address to listen on.
pub fn listen(env: &mut Env, name: &'static str, default: SocketAddr) -> Option<SocketAddr> {
    env.or(name, "an address and port, such as 0.0.0.0:8080", default)
}

/// The key of the tokens.
pub fn jwt_secret(env: &mut Env) -> Option<TokenKey> {
    env.required("JWT_SECRET", "an HS256 key of at least 32 bytes")
}

/// The key for personal data at rest.
pub fn data_encryption_key(env: &mut Env) -> Option<DataKey> {
    env.required_as("DATA_ENCRYPTION_KEY", "base64 of 32 bytes", |text| {
        STANDARD.decode(text).ok().filter(|key| key.len() == 32).map(DataKey::from)
    })
}

/// How long an order can be paid.
pub fn order_ttl(env: &mut Env) -> Option<TimeDelta> {
    let minutes = env.number_or("ORDER_TTL_MINUTES", "minutes, 1 to 120 (a QR code lives two hours)", 30, 1..=120)?;
    Some(TimeDelta::minutes(minutes.into()))
}

/// The delays after failed attempts.
pub fn ladder(env: &mut Env) -> Option<Ladder> {
    let expects = "what the delays after failed attempts are multiplied with, 0.001 to 10";
    let scale = env.optional_as("RETRY_DELAY_SCALE", expects, "1", |text| {
        text.parse().ok().filter(|scale| (0.001..=10.0).contains(scale))
    });
    Some(scale?.map_or_else(Ladder::default, Ladder::scaled))
}

/// How often WeChat Pay may be asked about orders, over all processes.
pub fn queries_per_second(env: &mut Env) -> Option<u32> {
    let expects = "queries in a second about pending orders, over all processes of the merchant, 1 to 1000";
    env.number_or("WECHAT_PAY_QUERIES_PER_SECOND", expects, 100, 1..=1_000)
}

/// How many rows of the notify log a retry in bulk lets come due in a second, over all such retries together.
pub fn retries_per_second(env: &mut Env) -> Option<u32> {
    let expects = "rows of the notify log that retries in bulk let come due in a second, all together, 1 to 10000";
    env.number_or("NOTIFY_RETRY_PER_SECOND", expects, 200, 1..=10_000)
}

/// How many days a notification is kept, beyond the month it came in.
pub fn notify_log_retention_days(env: &mut Env) -> Option<u32> {
    let expects = "days that notifications are kept beyond their month, 1 to 36500";
    env.number_or("NOTIFY_LOG_RETENTION_DAYS", expects, 400, 1..=36_500)
}

#[cfg(test)]
mod tests;
