//! The generator: replays requests that were signed before, as cheaply as it can, because it shares the machine's cores with
//! what it measures. It is a process of its own, so that its own cost can be told apart.

pub mod http;
mod pace;

use crate::{
    figures::{millis, per_second},
    proc,
    requests::Requests,
    stamp::Clock,
};
use anyhow::Context;
use hdrhistogram::Histogram;
use http::Connection;
use pace::Schedule;
use serde::{Deserialize, Serialize};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::PathBuf,
    rc::Rc,
    sync::Arc,
    time::Instant,
};
use tokio::{sync::Semaphore, task::LocalSet};

/// The longest time that is told apart from longer ones, in nanoseconds.
const LONGEST: u64 = 60_000_000_000;

/// How a file of requests is sent.
#[derive(Clone, Debug, clap::Args)]
pub struct Plan {
    /// The requests.
    #[arg(long)]
    pub file: PathBuf,
    /// Whom they go to.
    #[arg(long)]
    pub address: SocketAddr,
    /// Connections, each with one request under way at most.
    #[arg(long)]
    pub connections: usize,
    /// Requests a second, sent whatever became of those before; without it each connection sends its next when it has the
    /// answer.
    #[arg(long)]
    pub rate: Option<f64>,
    /// The pause after each answer, in milliseconds.
    #[arg(long, default_value_t = 0)]
    pub pause_ms: u64,
    /// Where to write when each was answered: 8 bytes each, nanoseconds since 1970, little-endian, 0 for one that was not.
    #[arg(long)]
    pub acks: Option<PathBuf>,
}

/// What came of it. Times are in milliseconds; with a rate they count from when a request should have been sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// Answers with status 200.
    pub acked: u64,
    /// All other answers by their status, 0 for none at all.
    pub refused: BTreeMap<u16, u64>,
    /// When the first was sent, nanoseconds since 1970.
    pub began_at: u64,
    /// From the first request to the last answer, in seconds.
    pub seconds: f64,
    /// Acks in a second.
    pub per_second: f64,
    /// Half of them took no longer.
    pub p50_ms: f64,
    /// 99 of 100.
    pub p99_ms: f64,
    /// 999 of 1,000.
    pub p999_ms: f64,
    /// The slowest.
    pub max_ms: f64,
    /// Processor time of the generator.
    pub cpu_seconds: f64,
}

struct Run {
    plan: Plan,
    requests: Requests,
    schedule: Option<Schedule>,
    clock: Clock,
    start: Cell<Instant>,
    permits: Arc<Semaphore>,
    next: Cell<usize>,
    acks: RefCell<Vec<u64>>,
    times: RefCell<Histogram<u64>>,
    refused: RefCell<BTreeMap<u16, u64>>,
}

/// Sends them; prints the outcome as JSON.
pub fn run(plan: Plan) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = LocalSet::new().block_on(&runtime, replay(plan))?;
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

async fn replay(plan: Plan) -> anyhow::Result<Outcome> {
    let requests = Requests::read(&plan.file)?;
    let count = requests.len();
    let mut connections = Vec::new();
    for _ in 0..plan.connections {
        connections.push(Connection::open(plan.address).await.context("the service cannot be reached")?);
    }
    let clock = Clock::start();
    let run = Rc::new(Run {
        schedule: plan.rate.map(Schedule::new),
        plan,
        requests,
        start: Cell::new(Instant::now()),
        clock,
        permits: Arc::new(Semaphore::new(0)),
        next: Cell::new(0),
        acks: RefCell::new(vec![0; count]),
        times: RefCell::new(Histogram::new_with_max(LONGEST, 3).context("three digits are fine")?),
        refused: RefCell::default(),
    });
    let (cpu, began_at) = (proc::cpu_of(std::process::id()), clock.now());
    let start = Instant::now();
    run.start.set(start);
    if let Some(schedule) = run.schedule {
        pace::give_out(schedule, start, count as u64, run.plan.connections, &run.permits);
    }
    let senders: Vec<_> =
        connections.into_iter().map(|connection| tokio::task::spawn_local(Rc::clone(&run).send(connection))).collect();
    for sender in senders {
        sender.await??;
    }
    let took = start.elapsed();
    let cpu_seconds = proc::cpu_of(std::process::id()) - cpu;
    run.outcome(began_at, took, cpu_seconds)
}

impl Run {
    /// One connection's work.
    async fn send(self: Rc<Self>, mut connection: Connection) -> anyhow::Result<()> {
        loop {
            if self.schedule.is_some() {
                self.permits.acquire().await?.forget();
            }
            let n = self.next.get();
            if n >= self.requests.len() {
                return Ok(());
            }
            self.next.set(n + 1);
            let since = match self.schedule {
                Some(schedule) => self.start.get() + schedule.at(n as u64),
                None => Instant::now(),
            };
            match connection.exchange(self.requests.get(n)).await {
                Ok(200) => {
                    let now = Instant::now();
                    self.acks.borrow_mut()[n] = self.clock.at(now);
                    let nanos = u64::try_from(now.saturating_duration_since(since).as_nanos()).unwrap_or(u64::MAX);
                    self.times.borrow_mut().saturating_record(nanos);
                }
                Ok(status) => *self.refused.borrow_mut().entry(status).or_default() += 1,
                Err(_) => {
                    *self.refused.borrow_mut().entry(0).or_default() += 1;
                    connection = Connection::open(self.plan.address).await.context("the service is gone")?;
                }
            }
            if self.plan.pause_ms > 0 {
                tokio::time::sleep(std::time::Duration::from_millis(self.plan.pause_ms)).await;
            }
        }
    }

    fn outcome(&self, began_at: u64, took: std::time::Duration, cpu_seconds: f64) -> anyhow::Result<Outcome> {
        if let Some(file) = &self.plan.acks {
            let bytes: Vec<u8> = self.acks.borrow().iter().flat_map(|at| at.to_le_bytes()).collect();
            fs::write(file, bytes)?;
        }
        let times = self.times.borrow();
        let quantile = |share| millis(times.value_at_quantile(share));
        Ok(Outcome {
            acked: times.len(),
            refused: self.refused.borrow().clone(),
            began_at,
            seconds: took.as_secs_f64(),
            per_second: per_second(times.len(), took),
            p50_ms: quantile(0.5),
            p99_ms: quantile(0.99),
            p999_ms: quantile(0.999),
            max_ms: millis(times.max()),
            cpu_seconds,
        })
    }
}

impl Outcome {
    /// Answers that were no acks.
    pub fn errors(&self) -> u64 {
        self.refused.values().sum()
    }
}
