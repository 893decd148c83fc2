//! `bench run`: the measurements in their order.

use crate::{
    about::About,
    books,
    ceilings::{Ceilings, broker, own_tables, pgbench},
    generator::{Way, replay},
    installation::Installation,
    ledger,
    meter::Meter,
    phases::{at_rest, cold_start, drain, end_to_end, intake},
    proc,
    report::{self, Balance, PeakMemory, Results},
    service::Service,
};
use std::path::PathBuf;

/// Callbacks that are sent before anything is measured.
const WARM_UP: u64 = 3_000;

/// What to measure, and how long.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Only these parts
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Everything, but shorter: under two minutes
    #[arg(long)]
    quick: bool,
    /// Callbacks of each run [default: 60000, quick: 12000]
    #[arg(long)]
    callbacks: Option<u64>,
    /// Accounts that they are spread over
    #[arg(long, default_value_t = 10_000)]
    users: u64,
    /// Numbers of connections to try for the intake [default: 32,64,128,256, quick: 64,128]
    #[arg(long, value_delimiter = ',')]
    connections: Vec<usize>,
    /// Keep what the service has logged, and say where
    #[arg(long)]
    keep_logs: bool,
}

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Acknowledging, without a worker; then a worker for what has gathered
    Intake,
    /// From the callback to the credit, as fast as it goes
    EndToEnd,
    /// The same at half of that rate; needs end-to-end
    Half,
    /// One callback alone
    AtRest,
    /// From start to ready
    ColdStart,
    /// What the machine can do
    Ceilings,
}

/// How long each part takes.
struct Size {
    callbacks: u64,
    connections: Vec<usize>,
    at_rest: u64,
    starts: u32,
    clients: Vec<u32>,
    client_seconds: u32,
    messages: u64,
}

impl Options {
    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    fn size(&self) -> Size {
        let connections = |default: &[usize]| {
            if self.connections.is_empty() { default.to_vec() } else { self.connections.clone() }
        };
        if self.quick {
            Size {
                callbacks: self.callbacks.unwrap_or(12_000),
                connections: connections(&[64, 128]),
                at_rest: 100,
                starts: 3,
                clients: vec![8, 32],
                client_seconds: 3,
                messages: 10_000,
            }
        } else {
            Size {
                callbacks: self.callbacks.unwrap_or(60_000),
                connections: connections(&[32, 64, 128, 256]),
                at_rest: 300,
                starts: 9,
                clients: vec![1, 2, 4, 8, 16, 32, 64],
                client_seconds: 6,
                messages: 50_000,
            }
        }
    }
}

/// Where results are kept: beside the folder of the programs.
pub fn results_folder() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.ancestors().nth(2).map_or_else(|| PathBuf::from("bench"), |target| target.join("bench")))
}

/// Measures, prints; answers whether the books balance.
pub fn run(options: &Options) -> anyhow::Result<bool> {
    let results = Installation::within(options.users, options.keep_logs, async |installation| {
        let mut results =
            Results { about: About::find(installation, format!("{options:?}")).await?, ..Results::default() };
        measure(options, installation, &mut results).await?;
        Ok(results)
    })?;
    report::publish(&results, &results_folder()?)?;
    Ok(results.is_sound())
}

async fn measure(options: &Options, installation: &Installation, results: &mut Results) -> anyhow::Result<()> {
    let size = options.size();
    let needs_service =
        [Part::Intake, Part::EndToEnd, Part::Half, Part::AtRest].iter().any(|part| options.wants(*part));
    if needs_service {
        serve(options, &size, installation, results).await?;
    }
    if options.wants(Part::ColdStart) {
        results.cold_start = Some(cold_start::measure(installation, size.starts).await?);
    }
    if options.wants(Part::Ceilings) {
        let (clients, seconds) = (&size.clients, size.client_seconds);
        results.ceilings = Some(Ceilings {
            insert: pgbench::insert(installation, clients, seconds).await?,
            single_transaction: pgbench::single_transaction(installation, clients, seconds).await?,
            own_single_transaction: own_tables::single_transaction(installation, clients, seconds).await?,
            own_insert: own_tables::insert(installation, clients, seconds)?,
            one_by_one: broker::measure(installation, size.messages, 1, 1).await?,
            in_groups: broker::measure(installation, size.messages, 32, 32).await?,
        });
    }
    Ok(())
}

/// What needs the service, with one `api` and one `worker`.
async fn serve(
    options: &Options,
    size: &Size,
    installation: &Installation,
    results: &mut Results,
) -> anyhow::Result<()> {
    let mut meter = Meter::find(&installation.db, &installation.amqp_url).await?;
    let api = installation.start("api").await?;
    meter.api = vec![api.pid()];
    warm_up(installation, &api, Until::Acknowledged).await?;
    if options.wants(Part::Intake) {
        let intake = intake::measure(installation, &api, &meter, size.callbacks, &size.connections).await?;
        results.intake = Some(intake);
    }
    let (backlog, worker) = drain::measure(installation, &installation.orders()).await?;
    meter.workers = vec![worker.pid()];
    if options.wants(Part::Intake) {
        results.backlog = Some(backlog);
        results.books.push(balance(installation, "the backlog").await?);
    }
    warm_up(installation, &api, Until::Credited).await?;
    if options.wants(Part::EndToEnd) {
        let way = Way::closed(size.connections.iter().copied().max().unwrap_or(128));
        let batch = installation.batch(size.callbacks).await?;
        installation.execute("checkpoint").await?;
        results.after_checkpoint = Some(end_to_end::measure(installation, &api, &meter, &batch, way).await?);
        results.books.push(balance(installation, "end to end after a checkpoint").await?);
        let batch = installation.batch(size.callbacks).await?;
        let steady = end_to_end::measure(installation, &api, &meter, &batch, way).await?;
        results.books.push(balance(installation, "end to end").await?);
        if options.wants(Part::Half) {
            let batch = installation.batch(size.callbacks).await?;
            let way = Way::open(steady.credited_per_second / 2.0);
            results.half = Some(end_to_end::measure(installation, &api, &meter, &batch, way).await?);
            results.books.push(balance(installation, "half of that").await?);
        }
        results.steady = Some(steady);
    }
    let peak = |service: &Service| proc::memory_of(service.pid()).peak;
    results.memory = Some(PeakMemory { api: peak(&api), worker: peak(&worker) });
    if options.wants(Part::AtRest) {
        results.at_rest = Some(at_rest::measure(installation, &api, size.at_rest).await?);
        results.books.push(balance(installation, "one alone").await?);
    }
    api.stop().await?;
    worker.stop().await
}

async fn balance(installation: &Installation, after: &str) -> anyhow::Result<Balance> {
    let verdict = books::balance(installation, 0).await?;
    for fault in &verdict.faults {
        say!("THE BOOKS DO NOT BALANCE after {after}: {fault}");
    }
    Ok(Balance { after: after.into(), verdict })
}

/// When a warm-up is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// All of it is acknowledged; no worker runs.
    Acknowledged,
    /// All of it is credited.
    Credited,
}

/// Fills the caches, and lets every connection prepare its statements.
pub async fn warm_up(installation: &Installation, api: &Service, until: Until) -> anyhow::Result<()> {
    let batch = installation.batch(WARM_UP).await?;
    let outcome = replay(&batch, api.address, Way::closed(64)).await?.outcome;
    installation.note_acked(outcome.acked);
    if until == Until::Credited {
        ledger::wait_for(installation, &batch.orders).await?;
    }
    Ok(())
}
