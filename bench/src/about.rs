//! What was measured on, and with which settings.

use crate::installation::Installation;
use anyhow::Context;
use chrono::{DateTime, SecondsFormat};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The machine, the versions, the settings.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct About {
    /// When, RFC 3339.
    pub date: String,
    /// Which build.
    pub commit: String,
    /// Cores.
    pub cores: usize,
    /// What they are.
    pub processor: String,
    /// Processes that wanted to run when it began, over the last minute: others on the machine show here.
    pub load: String,
    /// The broker's version.
    pub rabbitmq: String,
    /// The database's version and settings.
    pub postgres: BTreeMap<String, String>,
    /// Callbacks of each run, accounts, and so on.
    pub options: String,
}

impl About {
    /// Looks at all of it.
    pub async fn find(installation: &Installation, options: String) -> anyhow::Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let now = DateTime::from_timestamp(i64::try_from(now)?, 0).context("now is an instant")?;
        Ok(Self {
            date: now.to_rfc3339_opts(SecondsFormat::Secs, true),
            commit: git(&["describe", "--always", "--dirty", "--exclude=*"]).unwrap_or_else(|| "unknown".into()),
            cores: thread::available_parallelism().map_or(1, usize::from),
            processor: processor(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
            load: fs::read_to_string("/proc/loadavg").unwrap_or_default().split(' ').next().unwrap_or_default().into(),
            rabbitmq: broker_version(&installation.amqp_url).unwrap_or_else(|| "unknown".into()),
            postgres: settings(&installation.db).await?,
            options,
        })
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        let Self { date, commit, cores, processor, load, rabbitmq, postgres, options } = self;
        let version = postgres.get("server_version").map_or("", String::as_str);
        let settings: Vec<_> = postgres
            .iter()
            .filter(|(name, _)| *name != "server_version")
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        vec![
            ("date", format!("{date}, commit {commit}")),
            ("machine", format!("{cores} cores, {processor}, load {load} at the start")),
            ("servers", format!("PostgreSQL {version}, RabbitMQ {rabbitmq}")),
            ("settings", settings.join(" ")),
            ("options", options.clone()),
        ]
    }

    /// A few lines for a terminal.
    pub fn text(&self) -> String {
        let lines = self.lines().into_iter().map(|(name, value)| format!("{name:<9} {value}"));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// A list.
    pub fn markdown(&self) -> String {
        let lines = self.lines().into_iter().map(|(name, value)| format!("- {name}: {value}"));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Without a suffix: what kind of run, when, of which build.
    pub fn file_name(&self, kind: &str) -> String {
        let date: String = self.date.chars().filter(char::is_ascii_alphanumeric).collect();
        format!("{kind}-{date}-{}", self.commit)
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

fn processor(cpuinfo: &str) -> String {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split_once(": ")).map_or_else(|| "unknown".into(), |(_, name)| name.to_owned())
}

async fn settings(db: &PgPool) -> anyhow::Result<BTreeMap<String, String>> {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "select name, current_setting(name) from pg_settings where name in ('server_version', 'fsync',
             'synchronous_commit', 'full_page_writes', 'wal_compression', 'wal_level', 'max_wal_size',
             'checkpoint_timeout', 'shared_buffers', 'autovacuum')",
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().collect())
}

/// The broker says its version before anybody has logged in: to the protocol's header it answers what it is.
fn broker_version(amqp_url: &str) -> Option<String> {
    let authority = amqp_url.strip_prefix("amqp://")?.split('/').next()?;
    let host = authority.rsplit('@').next()?;
    let host = if host.contains(':') { host.to_owned() } else { format!("{host}:5672") };
    let mut stream = TcpStream::connect(host).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(b"AMQP\x00\x00\x09\x01").ok()?;
    let mut answer = vec![0; 4_096];
    let length = stream.read(&mut answer).ok()?;
    version(&answer[..length])
}

fn version(properties: &[u8]) -> Option<String> {
    const NAME: &[u8] = b"\x07versionS";
    let at = properties.windows(NAME.len()).position(|window| window == NAME)? + NAME.len();
    let length = u32::from_be_bytes(properties.get(at..at + 4)?.try_into().ok()?);
    let text = properties.get(at + 4..at + 4 + usize::try_from(length).ok()?)?;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_brokers_version_is_among_its_properties() {
        assert_eq!(version(b"\x08platformS\0\0\0\x0aErlang/OTP\x07versionS\0\0\0\x063.10.8x"), Some("3.10.8".into()));
        assert_eq!(version(b"\x07versionS\0\0\0\x063.1"), None, "it is cut off");
    }

    #[test]
    fn the_processor_has_a_name() {
        assert_eq!(processor("vendor_id\t: X\nmodel name\t: Xeon 8\ncpu MHz\t: 1\n"), "Xeon 8");
        assert_eq!(processor(""), "unknown");
    }
}
