//! Listening, routing and stopping.
//!
//! The accept loop is our own, because some faults close a connection without an answer or in the
//! middle of one, which a router cannot.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use anyhow::Context;
use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
    response::Response,
    routing::any,
};
use hyper::{body::Frame, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::{
    app::Simulator,
    config::Config,
    control, delivery,
    keys::files,
    page,
    v3::{self, answer::CutOff},
};

/// An idle connection is closed after this, as WeChat Pay does (section 1.1).
const KEEP_ALIVE: Duration = Duration::from_secs(8);

/// A simulator that listens.
#[derive(Debug)]
pub struct Running {
    /// Where it listens, with the real port.
    pub address: SocketAddr,
    /// What it is.
    pub simulator: Arc<Simulator>,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

impl Running {
    /// Stops listening and forgets what was under way.
    pub async fn stop(self) {
        self.stop.cancel();
        // It ends at the next turn of its loop; a panic in there has been reported by then.
        let _ = self.serving.await;
    }
}

/// Loads the keys, listens, and writes the merchant's settings.
pub async fn start(config: Config) -> anyhow::Result<Running> {
    let (dir, listen, mode) = (config.data_dir.clone(), config.listen, config.key_mode);
    let keys = tokio::task::spawn_blocking(move || files::load_or_make(&dir)).await??;
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    let address = listener.local_addr()?;
    files::write_merchant_env(&env_file(&config), &config.data_dir, &keys, mode, address)?;

    let (schedule, jobs) = delivery::schedule();
    let simulator = Arc::new(Simulator::new(config, keys, schedule)?);
    let stop = CancellationToken::new();
    tokio::spawn(jobs.run(Arc::clone(&simulator), stop.clone()));
    let serving = tokio::spawn(accept(listener, router(Arc::clone(&simulator)), stop.clone()));
    Ok(Running { address, simulator, stop, serving })
}

/// Where the merchant's settings go.
pub fn env_file(config: &Config) -> std::path::PathBuf {
    config.env_file.clone().unwrap_or_else(|| config.data_dir.join("merchant.env"))
}

/// Everything that is answered: the API, the control API and the page.
pub fn router(simulator: Arc<Simulator>) -> Router {
    Router::new()
        .route("/v3/{*path}", any(v3::handle))
        .nest("/control", control::router())
        .merge(page::router())
        .with_state(simulator)
}

async fn accept(listener: TcpListener, router: Router, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (router, stop) = (router.clone(), stop.clone());
                tokio::spawn(async move { stop.run_until_cancelled(serve(stream, router)).await });
            }
            Err(error) => {
                // Usually too many open files: closing connections will cure it.
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, router: Router) {
    // Small answers should not wait for more to send; without it they are only slower.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let router = router.clone();
        async move {
            let response = router.oneshot(request.map(Body::new)).await;
            cut_off(response.unwrap_or_else(|never: Infallible| match never {}))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(KEEP_ALIVE)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!("a connection ended: {error}");
    }
}

fn cut_off(response: Response) -> io::Result<Response> {
    match response.extensions().get::<CutOff>() {
        Some(CutOff) => Err(v3::answer::broken()),
        None => Ok(response),
    }
}

/// A body that sends `part`, then breaks the connection.
pub fn broken_off(part: Bytes) -> Body {
    Body::new(BrokenOff { part: Some(part), pause: None })
}

struct BrokenOff {
    part: Option<Bytes>,
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl HttpBody for BrokenOff {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        /// Lets what was sent leave before the connection breaks.
        const FLUSH: Duration = Duration::from_millis(50);
        if let Some(part) = self.part.take() {
            return Poll::Ready(Some(Ok(Frame::data(part))));
        }
        let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(FLUSH)));
        pause.as_mut().poll(context).map(|()| Some(Err(v3::answer::broken())))
    }
}
