//! `worker`: applies what WeChat Pay sent. Consumes RabbitMQ, verifies, decrypts, decides, credits; and finds by itself
//! what the broker did not deliver.

mod confirm;
mod consume;
mod health;
mod notify;
mod rescue;
mod sweep;

use anyhow::Context;
use shared::{
    checkout::budget::Budget,
    config::{self, Env, Faults, ProcessConfig, load_or_exit},
    db,
    health::Needs,
    process,
    queue::Link,
    telemetry,
    wechat::{Client, KeyRing, Merchant, Opener},
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    process::ExitCode,
    sync::Arc,
};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

const ABOUT: &str = "Applies payments: consumes RabbitMQ, verifies, decrypts, decides, credits.";

/// `worker`'s configuration.
#[derive(Debug)]
struct Config {
    process: ProcessConfig,
    listen: SocketAddr,
    merchant: Merchant,
    keys: KeyRing,
    queries_per_second: u32,
}

fn load(env: &mut Env) -> Result<Config, Faults> {
    let process = config::process(env);
    let listen = config::listen(env, "WORKER_LISTEN", SocketAddr::from((Ipv4Addr::LOCALHOST, 8081)));
    let merchant = config::merchant(env);
    let data_key = config::data_encryption_key(env);
    let queries = config::queries_per_second(env);
    match (process, listen, merchant, data_key, queries) {
        (Some(process), Some(listen), Some((merchant, keys)), Some(_), Some(queries_per_second)) if env.is_sound() => {
            Ok(Config { process, listen, merchant, keys, queries_per_second })
        }
        _ => Err(env.faults()),
    }
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
    let stop = process::stop_signal()?;
    let config::ProcessConfig { database, broker, shutdown_grace, .. } = config.process;
    let db = db::pool(&database, "recharge worker")?;
    db::wait_for_schema(&db).await?;

    let (merchant, keys) = (Arc::new(config.merchant), Arc::new(config.keys));
    let budget = Budget { mch_id: merchant.mch_id.clone(), per_second: config.queries_per_second };
    let wechat = Client::new(Arc::clone(&merchant), Arc::clone(&keys))?;
    let handler = notify::Handler::new(db.clone(), Opener::new(merchant, Arc::clone(&keys)), wechat.clone());
    let link = broker.as_ref().map(|_| Link::default());
    let needs = Needs { db: db.clone(), keys, broker: link.clone() };

    let tasks = TaskTracker::new();
    tasks.spawn(wechat.clone().keep_keys_fresh(stop.clone()));
    tasks.spawn(confirm::Confirmer { db: db.clone(), wechat, budget }.run(stop.clone()));
    tasks.spawn(sweep::run(db, stop.clone()));
    let pace = if broker.is_some() { rescue::Pace::BESIDE_BROKER } else { rescue::Pace::EMBEDDED };
    tasks.spawn(rescue::run(handler.clone(), pace, stop.clone()));
    if let (Some(broker), Some(link)) = (broker, link) {
        tasks.spawn(consume::run(handler, broker, link, stop.clone()));
    } else {
        tracing::info!("embedded mode: AMQP_URL is not set, so work is taken straight from the notify log");
    }

    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {} (WORKER_LISTEN)", config.listen))?;
    tracing::info!("listening on http://{}", listener.local_addr()?);
    let until = stop.clone().cancelled_owned();
    tasks.spawn(axum::serve(listener, health::router(needs)).with_graceful_shutdown(until).into_future());

    stop.cancelled().await;
    process::finish(tasks, shutdown_grace).await;
    Ok(())
}
