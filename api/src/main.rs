//! `api`: REST for the app and its admins, and the intake of WeChat Pay's callbacks.

mod app;
mod auth;
mod body;
mod error;
mod extract;
mod fields;
mod health;
mod intake;
mod notify;
mod orders;
mod packages;
mod page;
mod points;
mod request_id;
mod router;
mod settle;

use anyhow::Context;
use app::{App, Config};
use axum::serve::ListenerExt;
use shared::{
    checkout::budget::Budget,
    config::{self, load_or_exit},
    db,
    health::Needs,
    process,
    queue::Publisher,
    telemetry,
    wechat::Client,
};
use std::{net::SocketAddr, process::ExitCode, sync::Arc};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

const ABOUT: &str = "REST for the app and its admins, and the intake of WeChat Pay's callbacks.";

#[tokio::main]
async fn main() -> ExitCode {
    let config = load_or_exit("api", ABOUT, app::load);
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
    let db = db::pool(&database, "recharge api")?;
    db::wait_for_schema(&db).await?;

    let keys = Arc::new(config.keys);
    let budget = Budget { mch_id: config.merchant.mch_id.clone(), per_second: config.queries_per_second };
    let wechat = Client::new(Arc::new(config.merchant), Arc::clone(&keys))?;

    let background = TaskTracker::new();
    background.spawn(wechat.clone().keep_keys_fresh(stop.clone()));
    // Publishing ends after storing, which ends after serving: what comes last needs what comes first.
    let (stop_storing, stop_publishing) = (CancellationToken::new(), CancellationToken::new());
    let publisher = broker.map(|broker| {
        let (publisher, task) = Publisher::new(broker, stop_publishing.clone());
        background.spawn(task);
        publisher
    });
    let needs = Needs { db: db.clone(), keys: Arc::clone(&keys), broker: publisher.as_ref().map(Publisher::link) };
    let storing = TaskTracker::new();
    let intake = intake::start(&db, publisher, &storing, &stop_storing);

    let app = Arc::new(App {
        db,
        wechat,
        keys,
        tokens: config.tokens,
        order_ttl: config.order_ttl,
        budget,
        intake,
        rejected: notify::sampler(),
        needs,
    });
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {} (API_LISTEN)", config.listen))?;
    tracing::info!("listening on http://{}", listener.local_addr()?);

    // Answers are small and whole: waiting to fill a packet would only delay them.
    let listener = listener.tap_io(|connection| drop(connection.set_nodelay(true)));
    let service = router::router(app).into_make_service_with_connect_info::<SocketAddr>();
    let serving = TaskTracker::new();
    let until = stop.clone().cancelled_owned();
    let server = serving.spawn(axum::serve(listener, service).with_graceful_shutdown(until).into_future());
    stop.cancelled().await;

    process::finish(serving, shutdown_grace).await;
    stop_storing.cancel();
    process::finish(storing, shutdown_grace).await;
    stop_publishing.cancel();
    process::finish(background, shutdown_grace).await;
    server.abort();
    Ok(())
}
