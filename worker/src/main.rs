//! `worker`: applies what WeChat Pay sent. Consumes RabbitMQ, verifies, decrypts, decides, credits; and finds by itself
//! what the broker did not deliver.

mod amend;
mod confirm;
mod consume;
mod health;
mod in_hand;
mod notify;
mod refunds;
mod rescue;
mod sweep;

use anyhow::Context;
use mimalloc::MiMalloc;
use shared::{
    checkout::budget::Budget,
    config::{self, Env, Faults, ProcessConfig, load_or_exit},
    db,
    health::Needs,
    metrics::Metrics,
    notify::Ladder,
    process::{self, Parts},
    queue::{Announcer, Link, Publisher},
    telemetry,
    wechat::{Client, KeyRing, Merchant, Opener},
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How often a worker that has no key looks whether one has come.
const KEYS_PAUSE: Duration = Duration::from_millis(50);

/// As in `api`.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const ABOUT: &str = "Applies payments: consumes RabbitMQ, verifies, decrypts, decides, credits.";

/// `worker`'s configuration.
#[derive(Debug)]
struct Config {
    process: ProcessConfig,
    listen: SocketAddr,
    merchant: Merchant,
    keys: KeyRing,
    queries_per_second: u32,
    ladder: Ladder,
    retries_per_second: u32,
    retention_days: u32,
}

fn load(env: &mut Env) -> Result<Config, Faults> {
    let process = config::process(env);
    let listen = config::listen(env, "WORKER_LISTEN", SocketAddr::from((Ipv4Addr::LOCALHOST, 8081)));
    let merchant = config::merchant(env);
    let data_key = config::data_encryption_key(env);
    let (queries, ladder, retries) =
        (config::queries_per_second(env), config::ladder(env), config::retries_per_second(env));
    let retention = config::notify_log_retention_days(env);
    // One fault is enough to stop; by here all of them are known.
    let read = || {
        let (merchant, keys) = merchant?;
        data_key?;
        let (process, listen, queries_per_second, ladder) = (process?, listen?, queries?, ladder?);
        let (retries_per_second, retention_days) = (retries?, retention?);
        Some(Config { process, listen, merchant, keys, queries_per_second, ladder, retries_per_second, retention_days })
    };
    read().filter(|_| env.is_sound()).ok_or_else(|| env.faults())
}

#[tokio::main]
async fn main() -> ExitCode {
    let config = load_or_exit("worker", ABOUT, load);
    telemetry::init(&config.process.log);
    match run(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config) -> anyhow::Result<()> {
    let (stop, metrics) = (process::stop_signal()?, Metrics::install()?);
    let config::ProcessConfig { database, broker, shutdown_grace, .. } = config.process;
    let db = db::pool_for_sets(&database, "recharge worker", database.max_connections);
    tokio::select! {
        schema = db::wait_for_schema(&db) => schema?,
        () = stop.cancelled() => return Ok(()),
    }

    let (merchant, keys) = (Arc::new(config.merchant), Arc::new(config.keys));
    let budget = Budget { mch_id: merchant.mch_id.clone(), per_second: config.queries_per_second };
    let wechat = Client::new(Arc::clone(&merchant), Arc::clone(&keys))?;
    // Publishing ends after what there is to publish.
    let stop_publishing = CancellationToken::new();
    let (working, publishing) = (Parts::new(&stop, &stop), Parts::new(&stop_publishing, &stop));
    let announcer = broker.clone().map_or_else(Announcer::default, |broker| {
        let (announcer, task) = Announcer::new(broker, stop_publishing.clone());
        publishing.spawn("announcing", task);
        metrics.watch_link("announcing", announcer.link().as_ref());
        announcer
    });
    let publisher = broker.clone().map(|broker| {
        let (publisher, task) = Publisher::new(broker, stop_publishing.clone());
        publishing.spawn("publishing", task);
        publisher
    });
    let deps = notify::Deps {
        db: db.clone(),
        opener: Opener::new(Arc::clone(&merchant), Arc::clone(&keys)),
        wechat: wechat.clone(),
        budget: budget.clone(),
        announcer: announcer.clone(),
        publisher,
        ladder: config.ladder,
        worker: process::identity().into(),
        in_hand: in_hand::InHand::default(),
    };
    let handler = || notify::Handler::new(deps.clone());
    let links: Vec<_> = broker.iter().flat_map(|_| (0..in_hand::SETS).map(|_| Link::default())).collect();
    metrics.watch_link("publishing", deps.publisher.as_ref().map(Publisher::link).as_ref());
    let needs = Needs { db: db.clone(), keys: Arc::clone(&keys), broker: links.clone() };

    working.spawn("keeping the metrics", metrics.clone().upkeep(stop.clone()));
    working.spawn("keeping the keys", wechat.clone().keep_keys_fresh(stop.clone()));
    let refunder = refunds::Refunder {
        db: db.clone(),
        wechat: wechat.clone(),
        budget: budget.clone(),
        announcer: announcer.clone(),
        publisher: deps.publisher.clone(),
        ladder: config.ladder,
    };
    working.spawn("refunds", refunder.clone().run(stop.clone()));
    working.spawn("confirming", confirm::Confirmer { db: db.clone(), wechat, budget, announcer }.run(stop.clone()));
    let amending = amend::run(db.clone(), merchant, Arc::clone(&keys), config.retries_per_second, stop.clone());
    working.spawn("watching the configuration", after_keys(Arc::clone(&keys), stop.clone(), amending));
    working.spawn("housekeeping", sweep::run(db, config.retention_days, stop.clone()));
    let pace = if broker.is_some() { rescue::Pace::BESIDE_BROKER } else { rescue::Pace::EMBEDDED };
    // Without a key every row would fail, and spend an attempt.
    let rescue = rescue::run(handler(), pace, stop.clone());
    working.spawn("rescue", after_keys(Arc::clone(&keys), stop.clone(), rescue));
    if let Some(broker) = broker {
        working.spawn("consuming refunds", refunder.clone().consume(broker.clone(), stop.clone()));
        working.spawn("looking after dead refunds", refunder.consume_dead(broker.clone(), stop.clone()));
        let dead = consume::run_dead(handler(), broker.clone(), Link::default(), stop.clone());
        working.spawn("looking after dead letters", after_keys(Arc::clone(&keys), stop.clone(), dead));
        for link in links {
            let consuming = consume::run(handler(), broker.clone(), link, stop.clone());
            working.spawn("consuming", after_keys(Arc::clone(&keys), stop.clone(), consuming));
        }
    } else {
        tracing::info!("embedded mode: AMQP_URL is not set, so work is taken straight from the notify log");
    }

    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {} (WORKER_LISTEN)", config.listen))?;
    tracing::info!("listening on http://{}", listener.local_addr()?);
    let until = stop.clone().cancelled_owned();
    let server = axum::serve(listener, health::router(needs, metrics)).with_graceful_shutdown(until);
    working.spawn("health", server.into_future());

    stop.cancelled().await;
    let deadline = process::deadline(shutdown_grace);
    let sound = working.finish(deadline).await & publishing.finish(deadline).await;
    anyhow::ensure!(sound, "a part of the process has failed");
    Ok(())
}

/// Runs `part` once there is a key to verify with.
async fn after_keys(keys: Arc<KeyRing>, stop: CancellationToken, part: impl Future<Output = ()>) {
    while keys.is_empty() {
        tokio::select! {
            () = tokio::time::sleep(KEYS_PAUSE) => {}
            () = stop.cancelled() => return,
        }
    }
    part.await;
}
