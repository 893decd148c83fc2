//! A process of ours: its binary, its environment, what it printed, and the ways to end it.

use crate::{SOON, eventually};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// Slow enough for a debug build on a busy machine.
const START_DEADLINE: Duration = Duration::from_mins(1);

/// The path of one of our binaries, beside the running one: that lies among them, or as a test in `deps`.
///
/// # Panics
/// When it was not built; `make test` builds them all first.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let beside = test.parent().expect("a file lies in a folder");
    let folder = if beside.ends_with("deps") { beside.parent().expect("it lies in target/<profile>") } else { beside };
    let path = folder.join(name);
    assert!(path.exists(), "{} is missing: run `cargo build --workspace` first, as `make test` does", path.display());
    path
}

/// A running process.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Starts the binary `name` with exactly this environment, and `PATH`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(name: &str, arguments: &[&str], env: &BTreeMap<String, String>) -> Self {
        Self::start_file(name, &binary(name), arguments, env)
    }

    /// The same with a binary from elsewhere.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_file(name: &str, file: &Path, arguments: &[&str], env: &BTreeMap<String, String>) -> Self {
        let mut child = Command::new(file)
            .args(arguments)
            .env_clear()
            .envs(env)
            // No .env of a developer's may reach a test.
            .current_dir(std::env::temp_dir())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("our own binary starts");
        let lines = Arc::default();
        collect(child.stdout.take().expect("stdout is piped"), &lines);
        collect(child.stderr.take().expect("stderr is piped"), &lines);
        Self { name: name.to_owned(), child, lines }
    }

    /// Waits until it says where it listens.
    ///
    /// # Panics
    /// When it ends first, or does not say so in time.
    pub async fn listening(&mut self) -> SocketAddr {
        let until = Instant::now() + START_DEADLINE;
        loop {
            if let Some(address) = self.address() {
                return address;
            }
            let ended = self.status();
            assert!(
                ended.is_none() && Instant::now() < until,
                "{} does not listen: {ended:?}\n{}",
                self.name,
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Where it listens, when it has said so.
    pub fn address(&self) -> Option<SocketAddr> {
        self.lines().iter().find_map(|line| {
            let (_, address) = line.split_once("listening on http://")?;
            let address: String =
                address.chars().take_while(|char| char.is_ascii_digit() || ".:".contains(*char)).collect();
            address.parse().ok()
        })
    }

    /// How it ended, when it has.
    ///
    /// # Panics
    /// When it cannot be asked.
    pub fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be asked")
    }

    /// What it has printed so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("no reader panics").clone()
    }

    /// The same as one text.
    pub fn log(&self) -> String {
        self.lines().join("\n")
    }

    /// Waits until it has printed `text` so many times. What it says of its work it says after the commit.
    pub async fn tells(&self, text: &str, times: usize) {
        let told = async || self.log().matches(text).count();
        eventually(&format!("it tells {text:?}"), SOON, told, |count| *count == times).await;
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal by name, such as `TERM`, `STOP` or `CONT`.
    ///
    /// # Panics
    /// When there is no `kill` here.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.id().to_string()]).status();
        assert!(status.expect("there is a kill command").success(), "kill -s {name}");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end within `deadline`.
    pub async fn ended(&mut self, deadline: Duration) -> ExitStatus {
        let until = Instant::now() + deadline;
        loop {
            if let Some(status) = self.status() {
                return status;
            }
            assert!(Instant::now() < until, "{} does not end within {deadline:?}\n{}", self.name, self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Whether it is still there.
    ///
    /// # Panics
    /// When it cannot be asked.
    pub fn is_running(&mut self) -> bool {
        self.status().is_none()
    }

    /// What it holds in memory, in bytes.
    ///
    /// # Panics
    /// When it has ended.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux says so");
        let kibibytes: u64 = line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number");
        kibibytes * 1_024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- {} ---\n{}", self.name, self.log());
        }
    }
}

fn collect(stream: impl std::io::Read + Send + 'static, lines: &Arc<Mutex<Vec<String>>>) {
    let lines = Arc::clone(lines);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            lines.lock().expect("no reader panics").push(line);
        }
    });
}
