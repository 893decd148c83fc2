//! What `api` was asked.

use super::{Metric, SECONDS};
use metrics::{counter, gauge, histogram};
use std::time::Duration;

const REQUESTS: &str = "recharge_http_requests_total";
const REQUEST_SECONDS: &str = "recharge_http_request_duration_seconds";
const STREAMS: &str = "recharge_event_streams";

pub(super) const METRICS: &[Metric] = &[
    Metric::counter(REQUESTS, "Requests by route (its template, or `none`), method and class of status."),
    Metric::histogram(REQUEST_SECONDS, SECONDS, "From a request's head to its answer's head, by route and method."),
    Metric::gauge(STREAMS, "Streams of live orders that are open."),
];

/// A request was answered. `route` is the route's template, never the path that was asked for.
pub fn http_answered(route: Option<&str>, method: &str, status: u16, took: Duration) {
    let (route, method) = (route.unwrap_or("none").to_owned(), known(method));
    histogram!(REQUEST_SECONDS, "route" => route.clone(), "method" => method).record(took);
    counter!(REQUESTS, "route" => route, "method" => method, "status" => class(status)).increment(1);
}

impl super::Metrics {
    /// Shows how many streams are open.
    pub fn watch_streams(&self, open: impl Fn() -> usize + Send + Sync + 'static) {
        self.read_on_page(move || {
            #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
            gauge!(STREAMS).set(open() as f64);
        });
    }
}

/// Anybody may make up a method.
pub(super) fn known(method: &str) -> &'static str {
    ["GET", "POST", "PATCH", "PUT", "DELETE", "HEAD", "OPTIONS"]
        .into_iter()
        .find(|known| *known == method)
        .unwrap_or("other")
}

pub(super) const fn class(status: u16) -> &'static str {
    match status {
        ..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        500.. => "5xx",
    }
}
