//! The installation that is broken on purpose: its servers, its processes, the network between them, and who sees to it
//! that what ended is started again.

use super::plan::{APIS, Kind, Strike, Target, WORKERS};
use crate::{Broker, Builder, Postgres, Process, Proxy, System, binary};
use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// After SIGTERM; the service is told to take 10 s at most.
const END_DEADLINE: Duration = Duration::from_secs(20);
/// From the start of a process until it listens, the database's recovery included.
const START_DEADLINE: Duration = Duration::from_mins(1);
/// How many times faster than WeChat Pay's the schedules of the simulator run. Ours run on the same scale (by
/// `RETRY_DELAY_SCALE`), else a run would have to wait for hours until everything has been tried.
const CLOCK_FACTOR: u32 = 60;
const RETRY_DELAY_SCALE: &str = "0.02";

/// All of it.
#[derive(Debug)]
pub struct World {
    /// The simulator, the database, the proxies before the servers.
    pub system: System,
    /// Where callers come in.
    pub front: Proxy,
    /// Where callbacks come in.
    pub callbacks: Proxy,
    /// The server.
    pub postgres: Postgres,
    /// What should not have happened to the processes.
    pub findings: Vec<String>,
    broker: Broker,
    postgres_wanted: bool,
    broker_wanted: bool,
    slots: Vec<Slot>,
    folder: PathBuf,
    deadlocks_before: i64,
}

/// The place of one process.
#[derive(Debug)]
struct Slot {
    role: &'static str,
    nth: usize,
    process: Option<Process>,
    started: Instant,
    address: Option<std::net::SocketAddr>,
    /// It was told to end, and must have by then.
    ending: Option<Instant>,
    wanted: bool,
    newer: bool,
    skew: i64,
}

impl World {
    /// Starts everything; `None` where a server is not installed, with its name.
    ///
    /// # Errors
    /// The name of the server that is missing.
    ///
    /// # Panics
    /// When something does not start.
    pub async fn start(seed: u64, folder: &Path) -> Result<Self, &'static str> {
        let postgres = Postgres::start().await.ok_or("PostgreSQL")?;
        let broker = Broker::start().await.ok_or("RabbitMQ")?;
        fs::create_dir_all(folder).expect("a folder");
        for name in ["api", "worker"] {
            fs::copy(binary(name), newer(folder, name)).expect("a copy");
        }
        let (front, callbacks) = (Proxy::start(Vec::new()).await, Proxy::start(Vec::new()).await);
        let notify_url = format!("http://{}/api/payment/notify/wechat", callbacks.address());
        let system = Builder::default()
            .apis(0)
            .workers(0)
            .postgres(&postgres.url())
            .amqp(&broker.url())
            .clock_factor(CLOCK_FACTOR)
            .simulator(&["--seed", &seed.to_string(), "--refund-delay-ms", "120000", "--log", "warn"])
            .env("WECHAT_PAY_NOTIFY_URL", &notify_url)
            .env("RETRY_DELAY_SCALE", RETRY_DELAY_SCALE)
            .env("ORDER_TTL_MINUTES", "2")
            .start()
            .await;
        let slot = |role, nth| Slot {
            role,
            nth,
            process: None,
            started: Instant::now(),
            address: None,
            ending: None,
            wanted: true,
            newer: false,
            skew: 0,
        };
        let slots = (0..APIS).map(|nth| slot("api", nth)).chain((0..WORKERS).map(|nth| slot("worker", nth))).collect();
        let mut world = Self {
            system,
            front,
            callbacks,
            postgres,
            findings: Vec::new(),
            broker,
            postgres_wanted: true,
            broker_wanted: true,
            slots,
            folder: folder.to_owned(),
            deadlocks_before: 0,
        };
        world.keep_up();
        Ok(world)
    }

    /// The callback's URL for a refund.
    pub fn refund_notify_url(&self) -> String {
        format!("http://{}/api/payment/notify/wechat/refund", self.callbacks.address())
    }

    /// Breaks something.
    pub async fn strike(&mut self, strike: &Strike) {
        match (strike.target, strike.kind) {
            (Target::Postgres, _) => {
                // A crash forgets this counter.
                self.deadlocks_before += self.deadlocks_counted().await.unwrap_or(0);
                self.postgres_wanted = false;
                self.postgres.kill();
            }
            (Target::RabbitMq, Kind::Stop) => self.broker.signal("STOP"),
            (Target::RabbitMq, _) => {
                self.broker_wanted = false;
                self.broker.kill();
            }
            (target, Kind::Cut) => self.path(target).cut(),
            (target, Kind::Stall) => self.path(target).stall(),
            (target, Kind::Freeze) => self.path(target).freeze_standing(),
            (target, kind) => {
                let folder = self.folder.clone();
                self.slot(target).strike(kind, &folder);
            }
        }
        self.keep_up();
    }

    /// Puts it right.
    pub fn mend(&mut self, strike: &Strike) {
        match (strike.target, strike.kind) {
            (Target::Postgres, _) => self.postgres_wanted = true,
            (Target::RabbitMq, Kind::Stop) => self.broker.signal("CONT"),
            (Target::RabbitMq, _) => self.broker_wanted = true,
            (target, Kind::Cut | Kind::Stall) => self.path(target).restore(),
            (target, Kind::Freeze) => self.path(target).close_frozen(),
            (target, kind) => self.slot(target).mend(kind),
        }
        self.keep_up();
    }

    /// What a supervisor and a load balancer do: starts what has ended, and sends callers to what listens.
    pub fn keep_up(&mut self) {
        if self.postgres_wanted {
            self.postgres.revive();
        }
        if self.broker_wanted {
            self.broker.revive();
        }
        for slot in &mut self.slots {
            slot.keep_up(&self.folder, &self.system.env, &mut self.findings);
        }
        let apis = self.slots.iter().filter(|slot| slot.role == "api" && slot.ending.is_none());
        let listening: Vec<_> = apis.filter_map(|slot| slot.address).collect();
        self.front.set_backends(listening.clone());
        self.callbacks.set_backends(listening);
    }

    /// Whether every process listens and both servers let us in.
    pub async fn is_whole(&self) -> bool {
        let all_listen = self.slots.iter().all(|slot| slot.address.is_some() && slot.ending.is_none());
        all_listen && self.system.db.acquire().await.is_ok() && self.broker.answers().await
    }

    /// How many deadlocks PostgreSQL has seen, over all of its lives.
    ///
    /// # Panics
    /// When the database is away.
    pub async fn deadlocks(&self) -> i64 {
        let logged = self.postgres.log().matches("deadlock detected").count();
        let counted = self.deadlocks_before + self.deadlocks_counted().await.expect("the database is up");
        counted.max(i64::try_from(logged).expect("few"))
    }

    /// Writes down what the processes have printed that still run.
    pub fn keep_logs(&self) {
        for slot in &self.slots {
            if let Some(process) = &slot.process {
                slot.write(&self.folder, &process.log());
            }
        }
        let _ = fs::write(self.folder.join("postgres.log"), self.postgres.log());
    }

    async fn deadlocks_counted(&self) -> sqlx::Result<i64> {
        let sql = "select deadlocks from pg_stat_database where datname = current_database()";
        sqlx::query_scalar(sql).fetch_one(&self.system.db).await
    }

    fn path(&self, target: Target) -> &Proxy {
        match target {
            Target::PostgresPath => &self.system.postgres,
            Target::RabbitMqPath => self.system.rabbitmq.as_ref().expect("there is a broker"),
            _ => &self.callbacks,
        }
    }

    fn slot(&mut self, target: Target) -> &mut Slot {
        let place = match target {
            Target::Api(nth) => nth,
            Target::Worker(nth) => APIS + nth,
            other => panic!("{other:?} is no process of ours"),
        };
        &mut self.slots[place]
    }
}

impl Slot {
    fn strike(&mut self, kind: Kind, folder: &Path) {
        match kind {
            Kind::Kill => {
                self.wanted = false;
                self.ending = None;
                self.address = None;
                if let Some(mut process) = self.process.take() {
                    process.kill();
                    self.write(folder, &process.log());
                }
            }
            Kind::Stop => self.signal("STOP"),
            Kind::Skew(seconds) => {
                self.skew = seconds;
                self.end();
            }
            Kind::Upgrade => {
                self.newer = !self.newer;
                self.end();
            }
            Kind::Cut | Kind::Stall | Kind::Freeze => {}
        }
    }

    fn mend(&mut self, kind: Kind) {
        match kind {
            Kind::Kill => self.wanted = true,
            Kind::Stop => self.signal("CONT"),
            Kind::Skew(_) => {
                self.skew = 0;
                self.end();
            }
            Kind::Cut | Kind::Stall | Kind::Freeze | Kind::Upgrade => {}
        }
    }

    /// Asks it to end; it is started again when it has.
    fn end(&mut self) {
        if self.ending.is_none() {
            self.signal("TERM");
            self.ending = Some(Instant::now() + END_DEADLINE);
        }
    }

    fn signal(&mut self, name: &str) {
        if let Some(process) = &mut self.process
            && process.is_running()
        {
            process.signal(name);
        }
    }

    fn keep_up(&mut self, folder: &Path, env: &BTreeMap<String, String>, findings: &mut Vec<String>) {
        let name = format!("{} {}", self.role, self.nth);
        if let Some(mut process) = self.process.take() {
            match process.status() {
                // Who is told to end before it has begun just ends.
                Some(status) if self.ending.is_some() && (status.success() || self.address.is_none()) => {}
                Some(status) => {
                    let last: Vec<_> = process.lines().into_iter().rev().take(3).collect();
                    findings.push(format!("{name} ended by itself with {status}; its last lines: {last:?}"));
                }
                None if self.ending.is_some_and(|until| Instant::now() > until) => {
                    findings.push(format!("{name} did not end within {END_DEADLINE:?} of its SIGTERM"));
                    process.kill();
                }
                None => {
                    self.address = self.address.or_else(|| process.address());
                    if self.address.is_none() && self.started.elapsed() > START_DEADLINE {
                        findings.push(format!("{name} does not listen {START_DEADLINE:?} after its start"));
                        self.started = Instant::now();
                    }
                    self.process = Some(process);
                    return;
                }
            }
            self.write(folder, &process.log());
        }
        self.address = None;
        self.ending = None;
        if self.wanted {
            self.start(folder, env);
        }
    }

    fn start(&mut self, folder: &Path, env: &BTreeMap<String, String>) {
        let mut env = env.clone();
        if self.skew != 0 {
            env.insert("RECHARGE_CLOCK_SKEW_SECONDS".into(), self.skew.to_string());
        }
        let file = if self.newer { newer(folder, self.role) } else { binary(self.role) };
        self.process = Some(Process::start_file(self.role, &file, &[], &env));
        self.started = Instant::now();
    }

    fn write(&self, folder: &Path, log: &str) {
        let path = folder.join(format!("{}-{}.log", self.role, self.nth));
        let file = fs::File::options().create(true).append(true).open(path);
        let _ = file.and_then(|mut file| writeln!(file, "{log}\n--- it ended here ---"));
    }
}

fn newer(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}-next"))
}
