//! `api`: REST for the app and its admins, and the intake of WeChat Pay's callbacks.

mod app;
mod auth;
mod body;
mod client_address;
mod error;
mod events;
mod extract;
mod fields;
mod health;
mod instant;
mod intake;
mod limits;
mod live;
mod notify;
mod notify_logs;
mod notify_retry;
mod notify_statistics;
mod openapi;
mod order_search;
mod orders;
mod package_admin;
mod packages;
mod page;
mod points;
mod refunds;
mod request_id;
mod router;
mod settle;
mod statistics;

use anyhow::Context;
use app::{App, Config};
use axum::serve::ListenerExt;
use limits::Limits;
use live::Live;
use mimalloc::MiMalloc;
use shared::{
    checkout::budget::Budget,
    config::{self, load_or_exit},
    db,
    health::Needs,
    metrics::Metrics,
    process::{self, Parts},
    queue::{self, Announcer, Link, Publisher},
    telemetry,
    wechat::Client,
};
use std::{net::SocketAddr, process::ExitCode, sync::Arc};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The system's own took a fifth of this process's time under callbacks (docs/performance.md).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

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
    let (stop, metrics) = (process::stop_signal()?, Metrics::install()?.of_api());
    let config::ProcessConfig { database, broker, shutdown_grace, .. } = config.process;
    // Of their own, so that no request can keep a callback from being stored.
    let intake_db = db::pool(&database, "recharge intake", intake::CONNECTIONS);
    let db = db::pool(&database, "recharge api", database.max_connections - intake::CONNECTIONS);
    tokio::select! {
        schema = db::wait_for_schema(&db) => schema?,
        () = stop.cancelled() => return Ok(()),
    }

    let keys = Arc::new(config.keys);
    let budget = Budget { mch_id: config.merchant.mch_id.clone(), per_second: config.queries_per_second };
    let wechat = Client::new(Arc::new(config.merchant), Arc::clone(&keys))?;

    // Publishing ends after storing, which ends after serving: what comes last needs what comes first.
    let serving = Parts::new(&stop, &stop);
    let (stop_storing, stop_publishing) = (CancellationToken::new(), CancellationToken::new());
    let (storing, publishing) = (Parts::new(&stop_storing, &stop), Parts::new(&stop_publishing, &stop));

    serving.spawn("keeping the keys", wechat.clone().keep_keys_fresh(stop.clone()));
    serving.spawn("keeping the metrics", metrics.clone().upkeep(stop.clone()));
    let live = Live::default();
    let mut announcer = Announcer::default();
    let listener = broker.as_ref().map(|broker| {
        let (link, heard) = (Link::default(), live.clone());
        let (announcing, task) = Announcer::new(broker.clone(), stop_publishing.clone());
        publishing.spawn("announcing", task);
        let hear = move |word| heard.hear(word);
        serving.spawn("listening to changes", queue::listen(broker.clone(), link.clone(), stop.clone(), hear));
        announcer = announcing;
        link
    });
    serving.spawn("live orders", live.clone().run(db.clone(), listener.clone(), stop.clone()));
    let publisher = broker.map(|broker| {
        let (publisher, task) = Publisher::new(broker, stop_publishing.clone());
        publishing.spawn("publishing", task);
        publisher
    });
    let broker = publisher.iter().map(Publisher::link).collect();
    let needs = Needs { db: db.clone(), keys: Arc::clone(&keys), broker };
    for (name, pool) in [("api", &db), ("intake", &intake_db)] {
        metrics.watch_pool(name, pool);
    }
    metrics.watch_link("publishing", &needs.broker);
    metrics.watch_link("listening", listener.as_ref());
    metrics.watch_link("announcing", announcer.link().as_ref());
    let intake = intake::start(&intake_db, publisher.clone(), &storing, &stop_storing);
    metrics.watch_intake(intake.waiting());
    metrics.watch_streams({
        let live = live.clone();
        move || live.streams()
    });

    let app = Arc::new(App {
        db,
        wechat,
        keys,
        tokens: config.tokens,
        order_ttl: config.order_ttl,
        budget,
        publisher,
        intake,
        rejected: notify::sampler(),
        limits: Limits::new(config.limits),
        live,
        announcer,
        retries_per_second: config.retries_per_second,
        needs,
        metrics,
    });
    serving.spawn("keeping the limits", Limits::upkeep(Arc::clone(&app), stop.clone()));
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {} (API_LISTEN)", config.listen))?;
    tracing::info!("listening on http://{}", listener.local_addr()?);

    // Answers are small and whole: waiting to fill a packet would only delay them.
    let listener = listener.tap_io(|connection| drop(connection.set_nodelay(true)));
    let service = router::router(Arc::clone(&app)).into_make_service_with_connect_info::<SocketAddr>();
    let until = stop.clone().cancelled_owned();
    serving.spawn("serving", axum::serve(listener, service).with_graceful_shutdown(until).into_future());
    stop.cancelled().await;

    let deadline = process::deadline(shutdown_grace);
    let mut sound = true;
    for parts in [serving, storing, publishing] {
        sound &= parts.finish(deadline).await;
    }
    // Kept until here: what waits to be stored comes in by it, and without it storing would seem to end by itself.
    drop(app);
    anyhow::ensure!(sound, "a part of the process has failed");
    Ok(())
}
