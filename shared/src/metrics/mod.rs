//! What is counted, for Prometheus. Every metric is described, and every histogram has buckets; labels come from closed
//! sets (a reason, a code, a route's template), so that no caller can make the series grow. What can be told before it
//! happens begins at zero. A file for each subject, with the functions that count it.

mod backlog;
mod callbacks;
mod http;
mod links;
mod notifications;
mod wechat;

pub use backlog::{backlog, backlog_unknown};
pub use callbacks::{CallbackAnswer, callback_answered, intake_inserted};
pub use http::http_answered;
pub use notifications::{
    broker_gave_up, dead_letter, late_payment, notification_failed, notifications_closed, notifications_credited,
    rescued, set_handled, suspected,
};
pub use wechat::{WechatEndpoint, WechatOutcome, wechat_called};

use metrics::{describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

const BUILD_INFO: &str = "recharge_build_info";
const BUILD: &[Metric] = &[Metric::gauge(BUILD_INFO, "Always 1; the labels say which build runs.")];

/// What is observed waits in memory until it is added up: when the page is read, or after this.
const UPKEEP_PERIOD: Duration = Duration::from_secs(5);

/// The metrics of all subjects.
const ALL: [&[Metric]; 7] = [
    BUILD,
    callbacks::METRICS,
    http::METRICS,
    notifications::METRICS,
    backlog::METRICS,
    links::METRICS,
    wechat::METRICS,
];

/// Upper bounds for what takes milliseconds and should not take seconds.
const SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Upper bounds for the rows of a set.
const ROWS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// One metric, as the page describes it.
struct Metric {
    name: &'static str,
    kind: Kind,
    help: &'static str,
}

enum Kind {
    Counter,
    Gauge,
    /// With the upper bounds of its buckets.
    Histogram(&'static [f64]),
}

impl Metric {
    const fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, kind: Kind::Counter, help }
    }

    const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, kind: Kind::Gauge, help }
    }

    const fn histogram(name: &'static str, buckets: &'static [f64], help: &'static str) -> Self {
        Self { name, kind: Kind::Histogram(buckets), help }
    }
}

/// The page that Prometheus reads. Clones share it.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
    readers: Arc<Mutex<Vec<Reader>>>,
}

/// Sets gauges to what they are now.
type Reader = Box<dyn Fn() + Send + Sync>;

impl Metrics {
    /// Starts counting in this process. Once only.
    ///
    /// # Errors
    /// When something counts already.
    pub fn install() -> Result<Self, BuildError> {
        let handle = builder()?.install_recorder()?;
        begin();
        Ok(Self::of(handle))
    }

    fn of(handle: PrometheusHandle) -> Self {
        Self { handle, readers: Arc::default() }
    }

    /// Begins what `api` counts at zero.
    #[must_use]
    pub fn of_api(self) -> Self {
        callbacks::begin();
        self
    }

    /// Begins what `worker` counts at zero.
    #[must_use]
    pub fn of_worker(self) -> Self {
        notifications::begin();
        self
    }

    /// Has `read` set its gauges whenever the page is asked for. It must not wait for anything.
    pub fn read_on_page(&self, read: impl Fn() + Send + Sync + 'static) {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(read));
    }

    /// The page, in Prometheus' text format, in the order of the names.
    pub fn page(&self) -> String {
        for read in self.readers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            read();
        }
        sorted(&self.handle.render())
    }

    /// Adds up what was observed, until `stop`: otherwise a process whose page nobody reads would remember all of it.
    pub async fn upkeep(self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(UPKEEP_PERIOD)).await.is_some() {
            self.handle.run_upkeep();
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    let mut builder = PrometheusBuilder::new();
    for Metric { name, kind, .. } in ALL.into_iter().flatten() {
        if let Kind::Histogram(buckets) = kind {
            builder = builder.set_buckets_for_metric(Matcher::Full((*name).to_owned()), buckets)?;
        }
    }
    Ok(builder)
}

/// Describes everything, and begins what both processes count at zero.
fn begin() {
    for Metric { name, kind, help } in ALL.into_iter().flatten() {
        match kind {
            Kind::Counter => describe_counter!(*name, *help),
            Kind::Gauge => describe_gauge!(*name, *help),
            Kind::Histogram(_) => describe_histogram!(*name, *help),
        }
    }
    wechat::begin();
    notifications::begin_late_payments();
    gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

/// The families by name, and within each its lines, but for the buckets, whose order means something.
fn sorted(page: &str) -> String {
    let mut families: Vec<String> = page
        .split("\n\n")
        .filter(|family| !family.trim().is_empty())
        .map(|family| {
            let mut lines: Vec<&str> = family.lines().collect();
            if !lines.iter().any(|line| line.starts_with("# TYPE ") && line.ends_with(" histogram")) {
                lines.sort_unstable();
            }
            lines.join("\n") + "\n"
        })
        .collect();
    families.sort_unstable();
    families.join("\n")
}

#[cfg(test)]
mod tests;
