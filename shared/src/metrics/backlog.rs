//! What is still to be done, as the notify log has it. Every worker says the same.

use super::Metric;
use crate::notify::upkeep::Backlog;
use metrics::gauge;

const UNFINISHED: &str = "recharge_notifications_unfinished";
const OLDEST: &str = "recharge_oldest_unfinished_seconds";
const DEAD_LETTERS: &str = "recharge_dead_letters_waiting";

pub(super) const METRICS: &[Metric] = &[
    Metric::gauge(UNFINISHED, "Notifications that are still to be handled, by status; 10000 is that many or more."),
    Metric::gauge(OLDEST, "The age of the oldest of them, by status; 0 when there is none."),
    Metric::gauge(DEAD_LETTERS, "Dead letters that wait for an operator; 10000 is that many or more."),
];

/// This is still to be done.
pub fn backlog(backlog: &Backlog) {
    show("received", count(backlog.received), backlog.oldest_received_seconds);
    show("retrying", count(backlog.retrying), backlog.oldest_retrying_seconds);
    gauge!(DEAD_LETTERS).set(count(backlog.dead));
}

/// The database could not be asked. `NaN` is Prometheus' word for it; an old number would look like a true one.
pub fn backlog_unknown() {
    show("received", f64::NAN, f64::NAN);
    show("retrying", f64::NAN, f64::NAN);
    gauge!(DEAD_LETTERS).set(f64::NAN);
}

fn show(status: &'static str, rows: f64, oldest_seconds: f64) {
    gauge!(UNFINISHED, "status" => status).set(rows);
    gauge!(OLDEST, "status" => status).set(oldest_seconds);
}

#[expect(clippy::cast_precision_loss, reason = "ten thousand at most")]
const fn count(rows: i64) -> f64 {
    rows as f64
}
