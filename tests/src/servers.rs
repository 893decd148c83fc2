//! The servers that the tests share, and what each test makes of its own in them.

use crate::{Proxy, process::binary};
use lapin::{
    Connection, ConnectionProperties,
    options::{ExchangeDeleteOptions, QueueDeleteOptions},
};
use sqlx::{Connection as _, PgConnection};
use std::{
    collections::BTreeMap,
    env::temp_dir,
    fs,
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
    process::Command,
    sync::OnceLock,
};
use uuid::Uuid;

/// The variable, when it is set to something.
pub fn env_or(name: &str, default: &str) -> String {
    std::env::var(name).ok().filter(|value| !value.is_empty()).unwrap_or_else(|| default.to_owned())
}

/// The server's URL with another database in it.
///
/// # Panics
/// When `DATABASE_URL` is no URL.
pub fn database_url(database: &str) -> String {
    with_database(&env_or("DATABASE_URL", "postgres://postgres@127.0.0.1:5432/postgres"), database)
}

/// The URL with another database in it.
///
/// # Panics
/// When it is no URL.
pub fn with_database(url: &str, database: &str) -> String {
    let (base, query) = url.split_once('?').map_or((url, ""), |(base, query)| (base, query));
    let start = base.find("://").expect("a URL") + 3;
    let host_end = base[start..].find('/').map_or(base.len(), |at| start + at);
    let query = if query.is_empty() { String::new() } else { format!("?{query}") };
    format!("{}/{database}{query}", &base[..host_end])
}

/// The broker's URL.
pub fn amqp_url() -> String {
    env_or("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f")
}

/// Puts a proxy before the server that the URL names; answers the URL of the proxy.
///
/// # Panics
/// When the URL names no server.
pub async fn proxied(url: &str, default_port: u16) -> (String, Proxy) {
    let start = url.find("://").expect("a URL") + 3;
    let end = url[start..].find('/').map_or(url.len(), |at| start + at);
    let authority = &url[start..end];
    let (user, host) = authority.rsplit_once('@').map_or(("", authority), |(user, host)| (user, host));
    let host = if host.contains(':') { host.to_owned() } else { format!("{host}:{default_port}") };
    let backend = host.to_socket_addrs().expect("a host").find(SocketAddr::is_ipv4).expect("an IPv4 address");
    let proxy = Proxy::start(vec![backend]).await;
    let at = if user.is_empty() { "" } else { "@" };
    (format!("{}{user}{at}{}{}", &url[..start], proxy.address(), &url[end..]), proxy)
}

/// The simulator's keys, made once for all tests of this build.
///
/// # Panics
/// When they cannot be made.
pub fn simulator_keys() -> PathBuf {
    static KEYS: OnceLock<PathBuf> = OnceLock::new();
    KEYS.get_or_init(|| {
        let folder = binary("simulator").with_file_name("simulator-keys");
        if !folder.join("apiclient_key.pem").exists() {
            // Several test binaries may come here at once: the first to rename wins.
            let mine = folder.with_extension(Uuid::now_v7().to_string());
            let made = Command::new(binary("simulator")).args(["init", "--data-dir"]).arg(&mine).output();
            let made = made.expect("the simulator starts");
            assert!(made.status.success(), "simulator init: {}", String::from_utf8_lossy(&made.stderr));
            if fs::rename(&mine, &folder).is_err() {
                let _ = fs::remove_dir_all(&mine);
            }
        }
        folder
    })
    .clone()
}

/// How a run of `ops` ended.
#[derive(Debug)]
pub struct Ran {
    /// The exit code.
    pub code: Option<i32>,
    /// What it printed.
    pub out: String,
    /// What it complained of, and how far it got.
    pub err: String,
}

/// Runs `ops` to its end, without a terminal.
///
/// # Panics
/// When it cannot be started.
pub fn run_ops(env: &BTreeMap<String, String>, arguments: &[&str]) -> Ran {
    let run = Command::new(binary("ops")).args(arguments).env_clear().envs(env).current_dir(temp_dir()).output();
    let output = run.expect("ops starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8").trim().to_owned();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// Runs `ops` to its end; answers what it printed.
///
/// # Panics
/// When it fails.
pub fn ops(env: &BTreeMap<String, String>, arguments: &[&str]) -> String {
    let ran = run_ops(env, arguments);
    assert_eq!(ran.code, Some(0), "ops {arguments:?}: {}\n{}", ran.out, ran.err);
    ran.out
}

/// Drops a test's database.
///
/// # Panics
/// When that fails.
pub async fn drop_database(database: &str) {
    let mut server = PgConnection::connect(&database_url("postgres")).await.expect("the server");
    let sql = &format!("drop database {database} with (force)");
    sqlx::query(sql).execute(&mut server).await.expect("it is the test's own");
}

/// Deletes the queues under a test's prefix.
///
/// # Panics
/// When that fails.
pub async fn drop_queues(prefix: &str) {
    let connection = Connection::connect(&amqp_url(), ConnectionProperties::default()).await.expect("the broker");
    let channel = connection.create_channel().await.expect("the broker");
    for line in ["notify", "refund"] {
        for queue in
            ["", ".dead", ".retry.5s", ".retry.30s", ".retry.2m", ".retry.10m", ".retry.30m", ".retry.2h", ".retry.6h"]
        {
            let name = format!("{prefix}.{line}{queue}");
            channel
                .queue_delete(name.as_str().into(), QueueDeleteOptions::default())
                .await
                .expect("it is the test's own");
        }
    }
    let events = format!("{prefix}.events");
    channel
        .exchange_delete(events.as_str().into(), ExchangeDeleteOptions::default())
        .await
        .expect("it is the test's own");
}
