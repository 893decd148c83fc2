//! A PostgreSQL of a test's own, which may be killed without harm to the others. It keeps its promises: no setting that
//! durability depends on differs from the default.

use crate::{eventually, wait::free_port};
use sqlx::{Connection, PgConnection};
use std::{
    env::temp_dir,
    fs::{self, File},
    os::unix::{
        fs::{MetadataExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};
use uuid::Uuid;

/// Where Debian keeps the programs, a folder for each version.
const VERSIONS: &str = "/usr/lib/postgresql";
const START_DEADLINE: Duration = Duration::from_mins(1);
/// More than any test needs: those whose clients were lost count until they are noticed.
const CONNECTIONS: u32 = 400;

/// A running server.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    folder: PathBuf,
    port: u16,
    server: Child,
}

impl Postgres {
    /// Makes a cluster and starts its server; `None` where PostgreSQL is not installed (it may run in a container then).
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start() -> Option<Self> {
        let programs = newest_programs(Path::new(VERSIONS))?;
        let folder = temp_dir().join(format!("recharge-postgres-{}", Uuid::now_v7().simple()));
        fs::create_dir_all(&folder).expect("a folder");
        if let Some((user, group)) = substitute() {
            chown(&folder, Some(user), Some(group)).expect("root may");
        }
        let mut initdb = command(&programs.join("initdb"), &folder);
        initdb.args(["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-instructions", "-D"]);
        let made = initdb.arg(folder.join("data")).output().expect("initdb starts");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let port = free_port();
        let server = run_server(&programs, &folder, port);
        let mut postgres = Self { programs, folder, port, server };
        postgres.is_up().await;
        Some(postgres)
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Kills it without a warning, and whatever works for a client with it.
    pub fn kill(&mut self) {
        // Those are in groups of their own.
        let mut all = children(self.server.id());
        all.push(self.server.id());
        // Some are gone by themselves by now.
        let ids = all.iter().map(u32::to_string);
        let _ = Command::new("kill").args(["-s", "KILL"]).args(ids).stderr(Stdio::null()).status();
        let _ = self.server.wait();
    }

    /// Starts it again on what it has on disk, when it does not run. It takes its time to recover.
    ///
    /// # Panics
    /// When it cannot be asked, or started.
    pub fn revive(&mut self) {
        if self.server.try_wait().expect("a child can be asked").is_some() {
            self.server = run_server(&self.programs, &self.folder, self.port);
        }
    }

    /// Waits until it lets us in.
    ///
    /// # Panics
    /// When it does not.
    pub async fn is_up(&mut self) {
        let ask = async || {
            self.revive();
            PgConnection::connect(&self.url()).await.is_ok()
        };
        eventually("PostgreSQL is up", START_DEADLINE, ask, |is_up| *is_up).await;
    }

    /// What it has logged, over all restarts.
    pub fn log(&self) -> String {
        fs::read(self.folder.join("log")).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn newest_programs(versions: &Path) -> Option<PathBuf> {
    let folders = fs::read_dir(versions).ok()?.filter_map(Result::ok);
    let versions =
        folders.filter_map(|folder| Some((folder.file_name().to_str()?.parse::<u32>().ok()?, folder.path())));
    let programs = versions.map(|(version, folder)| (version, folder.join("bin")));
    programs.filter(|(_, folder)| folder.join("initdb").exists()).max().map(|(_, folder)| folder)
}

/// PostgreSQL refuses root: then it is run by this user and group.
fn substitute() -> Option<(u32, u32)> {
    let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    let id = |option| {
        let output = Command::new("id").args([option, "nobody"]).output().expect("there is an id command");
        String::from_utf8_lossy(&output.stdout).trim().parse().expect("there is a user nobody")
    };
    is_root.then(|| (id("-u"), id("-g")))
}

fn command(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("HOME", folder).env("LC_ALL", "C").current_dir(folder).stdin(Stdio::null());
    if let Some((user, group)) = substitute() {
        command.uid(user).gid(group);
    }
    command
}

fn run_server(programs: &Path, folder: &Path, port: u16) -> Child {
    let log = File::options().create(true).append(true).open(folder.join("log")).expect("a file");
    let mut server = command(&programs.join("postgres"), folder);
    server.arg("-D").arg(folder.join("data")).args(["-p", &port.to_string()]);
    for setting in [
        "listen_addresses=127.0.0.1".to_owned(),
        "unix_socket_directories=".to_owned(),
        format!("max_connections={CONNECTIONS}"),
        // Says when a row was committed, for tests to look at.
        "track_commit_timestamp=on".to_owned(),
    ] {
        server.args(["-c", &setting]);
    }
    server.stdout(Stdio::null()).stderr(log).process_group(0).spawn().expect("the server starts")
}

/// The processes whose parent this is.
fn children(parent: u32) -> Vec<u32> {
    let is_child = |id: &u32| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // The name before it may hold anything, in brackets.
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        after_name.split_whitespace().nth(1).and_then(|id| id.parse().ok()) == Some(parent)
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    processes.filter_map(|process| process.file_name().to_str()?.parse().ok()).filter(is_child).collect()
}
