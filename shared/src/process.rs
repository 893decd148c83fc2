//! What every long-running process does alike: stop when it is told to, within its grace, and not live on without a part of
//! itself.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A token that is cancelled by SIGTERM or SIGINT.
///
/// # Errors
/// When the signals cannot be listened to.
pub fn stop_signal() -> std::io::Result<CancellationToken> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let cancelled = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: finishing what is in hand");
        cancelled.cancel();
    });
    Ok(stop)
}

/// Parts of a process that end together. One that ends before it was told to, by a panic say, ends the process: without it
/// the process would look alive and be of no use. Whoever runs it starts it again.
#[derive(Clone, Debug)]
pub struct Parts {
    tasks: TaskTracker,
    stop: CancellationToken,
    process: CancellationToken,
    failed: Arc<AtomicBool>,
}

impl Parts {
    /// Parts that `stop` ends. When one fails, `process` is cancelled.
    pub fn new(stop: &CancellationToken, process: &CancellationToken) -> Self {
        let (stop, process) = (stop.clone(), process.clone());
        Self { tasks: TaskTracker::new(), stop, process, failed: Arc::default() }
    }

    /// Starts a part.
    pub fn spawn<F>(&self, name: &'static str, part: F)
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let (stop, process, failed) = (self.stop.clone(), self.process.clone(), Arc::clone(&self.failed));
        self.tasks.spawn(async move {
            let ended = tokio::spawn(part).await;
            if ended.is_err() || !stop.is_cancelled() {
                let how = if ended.is_err() { "panicked" } else { "ended by itself" };
                tracing::error!("{name} {how}; the process stops, because it would be of no use without it");
                failed.store(true, Ordering::Relaxed);
                process.cancel();
            }
        });
    }

    /// Tells them to end, and waits until all have, but not beyond `deadline`. False when one has failed.
    pub async fn finish(self, deadline: Instant) -> bool {
        self.stop.cancel();
        self.tasks.close();
        if timeout_at(deadline, self.tasks.wait()).await.is_err() {
            tracing::warn!("stopped by the end of SHUTDOWN_GRACE_SECONDS; what was in hand is found again by rescue");
        }
        !self.failed.load(Ordering::Relaxed)
    }
}

/// The instant by which a process that stops now must have ended.
pub fn deadline(grace: Duration) -> Instant {
    Instant::now() + grace
}

/// Who this process is, for people: its host and its number there.
pub fn identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "worker" } else { host.trim() };
    format!("{host}:{}", std::process::id())
}
