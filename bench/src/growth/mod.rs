//! `bench growth`: the same figures with much in the tables, with several workers, with everything on one account, and with a
//! large backlog.

mod lists;
mod preload;
mod rows;

use crate::{
    about::About,
    books::{self, Verdict},
    figures::float,
    generator::{Way, replay},
    installation::Installation,
    meter::Meter,
    phases::{
        drain::{self, Drain},
        end_to_end::{self, EndToEnd},
    },
    proc, report,
    run::{Until, results_folder, warm_up},
    service::Service,
};
use lists::List;
use serde::{Deserialize, Serialize};

/// Accounts that payments are spread over, but for the runs with one.
const USERS: u64 = 100_000;

/// How far to grow.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Orders and log rows that are there before
    #[arg(long, value_delimiter = ',', default_values_t = [0, 1_000_000, 10_000_000])]
    rows: Vec<u64>,
    /// Numbers of workers
    #[arg(long, value_delimiter = ',', default_values_t = [1, 3])]
    workers: Vec<usize>,
    /// Callbacks of each run
    #[arg(long, default_value_t = 40_000)]
    callbacks: u64,
    /// Runs of each kind; the best counts
    #[arg(long, default_value_t = 2)]
    repeat: u32,
    /// Callbacks of the backlog; 0 for none
    #[arg(long, default_value_t = 500_000)]
    backlog: u64,
    /// Connections of the generator
    #[arg(long, default_value_t = 128)]
    connections: usize,
    /// Keep what the service has logged, and say where
    #[arg(long)]
    keep_logs: bool,
}

/// One run and its circumstances.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Grown {
    /// Orders and log rows that were there before.
    rows: u64,
    workers: usize,
    users: u64,
    run: EndToEnd,
}

impl Grown {
    /// Processor seconds for 1,000 payments, without the generator.
    fn cost(&self) -> f64 {
        self.run.cpu.total() - self.run.cpu.generator
    }
}

/// Everything that was measured.
#[derive(Debug, Default, Serialize)]
struct Growth {
    runs: Vec<Grown>,
    lists: Vec<List>,
    backlog: Option<Drain>,
    /// The worker's, after the backlog; bytes.
    backlog_peak_memory: u64,
    books: Vec<Verdict>,
}

/// Measures, prints; answers whether the books balance.
pub fn run(options: &Options) -> anyhow::Result<bool> {
    let (about, growth) = Installation::within(USERS, options.keep_logs, async |installation| {
        let about = About::find(installation, format!("{options:?}")).await?;
        Ok((about, measure(options, installation).await?))
    })?;
    report::publish_table(&about, "growth", &rows::of(&growth), &growth, &results_folder()?)?;
    Ok(growth.books.iter().all(Verdict::is_sound))
}

async fn measure(options: &Options, installation: &Installation) -> anyhow::Result<Growth> {
    let mut growth = Growth::default();
    let all = options.rows.iter().copied().max().unwrap_or(0);
    let mut there = 0;
    for rows in &options.rows {
        if *rows > there {
            preload::add(installation, there..*rows, all).await?;
            there = *rows;
        }
        for workers in &options.workers {
            let (api, workers) = start(installation, *workers).await?;
            runs(options, installation, there, &api, &workers, &mut growth.runs).await?;
            if *rows == all && all > 0 {
                growth.lists = lists::measure(installation, &api).await?;
            }
            stop(api, workers).await?;
        }
        balance(installation, there, &mut growth).await?;
    }
    if options.backlog > 0 {
        let (drain, peak) = backlog(options, installation).await?;
        (growth.backlog, growth.backlog_peak_memory) = (Some(drain), peak);
        balance(installation, there, &mut growth).await?;
    }
    Ok(growth)
}

async fn balance(installation: &Installation, preloaded: u64, growth: &mut Growth) -> anyhow::Result<()> {
    let verdict = books::balance(installation, i64::try_from(preloaded)?).await?;
    for fault in &verdict.faults {
        say!("THE BOOKS DO NOT BALANCE: {fault}");
    }
    growth.books.push(verdict);
    Ok(())
}

async fn start(installation: &Installation, count: usize) -> anyhow::Result<(Service, Vec<Service>)> {
    let api = installation.start("api").await?;
    let mut workers = Vec::new();
    for _ in 0..count {
        workers.push(installation.start("worker").await?);
    }
    Ok((api, workers))
}

async fn stop(api: Service, workers: Vec<Service>) -> anyhow::Result<()> {
    api.stop().await?;
    for worker in workers {
        worker.stop().await?;
    }
    Ok(())
}

/// Spread over many accounts, and all on one.
async fn runs(
    options: &Options,
    installation: &Installation,
    rows: u64,
    api: &Service,
    workers: &[Service],
    runs: &mut Vec<Grown>,
) -> anyhow::Result<()> {
    let mut meter = Meter::find(&installation.db, &installation.amqp_url).await?;
    meter.api = vec![api.pid()];
    meter.workers = workers.iter().map(Service::pid).collect();
    warm_up(installation, api, Until::Credited).await?;
    for users in [USERS, 1] {
        installation.users.set(users);
        let mut best: Option<EndToEnd> = None;
        for _ in 0..options.repeat {
            let batch = installation.batch(options.callbacks).await?;
            let run = end_to_end::measure(installation, api, &meter, &batch, Way::closed(options.connections)).await?;
            if best.as_ref().is_none_or(|best| run.credited_per_second > best.credited_per_second) {
                best = Some(run);
            }
        }
        runs.extend(best.map(|run| Grown { rows, workers: workers.len(), users, run }));
    }
    installation.users.set(USERS);
    Ok(())
}

async fn backlog(options: &Options, installation: &Installation) -> anyhow::Result<(Drain, u64)> {
    let api = installation.start("api").await?;
    let batch = installation.batch(options.backlog).await?;
    let outcome = replay(&batch, api.address, Way::closed(options.connections)).await?.outcome;
    installation.note_acked(outcome.acked);
    say!("backlog: {:.0} acks/s", outcome.per_second);
    let (drain, worker) = drain::measure(installation, &batch.orders).await?;
    let peak = proc::memory_of(worker.pid()).peak;
    say!("its memory at the end: {:.0} MB", float(peak) / 1e6);
    stop(api, vec![worker]).await?;
    Ok((drain, peak))
}
