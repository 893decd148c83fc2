//! The service's own processes, as they are released.

use crate::load::http;
use anyhow::{Context, bail, ensure};
use std::{
    collections::BTreeMap,
    fs::File,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const START_DEADLINE: Duration = Duration::from_mins(1);
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// The path of one of our programs, which lie beside this one.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    ensure!(path.exists(), "{} is missing: run `cargo build --release --workspace` first", path.display());
    Ok(path)
}

/// A port that nobody has.
fn free_port() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// A running `api` or `worker`.
#[derive(Debug)]
pub struct Service {
    name: String,
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    log: PathBuf,
    /// From its start until it was ready.
    pub started_in: Duration,
}

impl Service {
    /// Starts it, and waits until it is ready and connected with the broker. What it prints goes to a file in `logs`.
    pub async fn start(name: &str, env: &BTreeMap<String, String>, logs: &Path) -> anyhow::Result<Self> {
        let address = free_port()?;
        let log = logs.join(format!("{name}-{}.log", address.port()));
        let output = File::create(&log)?;
        let begun = Instant::now();
        let child = Command::new(binary(name)?)
            .env_clear()
            .envs(env)
            .env(format!("{}_LISTEN", name.to_uppercase()), address.to_string())
            // No .env of a developer's may change what is measured.
            .current_dir(logs)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        let mut service = Self { name: name.into(), child, address, log, started_in: Duration::ZERO };
        service.until(begun, |status, _| status == 200).await?;
        service.started_in = begun.elapsed();
        service.until(begun, |_, answer| answer.contains(r#""broker":"up""#)).await?;
        Ok(service)
    }

    async fn until(&mut self, begun: Instant, is_there: impl Fn(u16, &str) -> bool) -> anyhow::Result<()> {
        loop {
            if let Ok((status, answer)) = http::get(self.address, "/readyz", None).await
                && is_there(status, &answer)
            {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} has ended ({status}); see {}", self.name, self.log.display());
            }
            ensure!(begun.elapsed() < START_DEADLINE, "{} is not ready; see {}", self.name, self.log.display());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it finish what it has in hand.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.pid().to_string();
        let sent = Command::new("kill").args(["-s", "TERM", &pid]).status().context("there is no kill command")?;
        ensure!(sent.success(), "{} cannot be stopped", self.name);
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "{} ended with {status}; see {}", self.name, self.log.display());
                return Ok(());
            }
            ensure!(begun.elapsed() < STOP_DEADLINE, "{} does not stop; see {}", self.name, self.log.display());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
