//! Callbacks: how they are answered, and how they are stored.

use super::{Metric, ROWS, SECONDS};
use metrics::{counter, gauge, histogram};
use std::time::Duration;

const ANSWERS: &str = "recharge_callbacks_total";
const ANSWER_SECONDS: &str = "recharge_callback_duration_seconds";
const BATCH_ROWS: &str = "recharge_intake_batch_rows";
const INSERT_SECONDS: &str = "recharge_intake_insert_duration_seconds";
const WAITING: &str = "recharge_intake_waiting";

pub(super) const METRICS: &[Metric] = &[
    Metric::counter(ANSWERS, "Callbacks by how they were answered; only `stored` was acknowledged."),
    Metric::histogram(
        ANSWER_SECONDS,
        SECONDS,
        "From a callback's head to its answer: stored, refused (4xx) or failed (5xx).",
    ),
    Metric::histogram(BATCH_ROWS, ROWS, "Callbacks in one insert into the notify log."),
    Metric::histogram(INSERT_SECONDS, SECONDS, "One insert into the notify log, its commit included."),
    Metric::gauge(WAITING, "Callbacks that wait to be stored."),
];

/// How a callback was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallbackAnswer {
    /// It is committed to the notify log.
    Stored,
    /// One of the four headers is missing, or it is no JSON, or its body broke off.
    Malformed,
    /// Over 64 KiB.
    TooLarge,
    /// Its body did not come in time.
    TooSlow,
    /// The signature is not the named key's.
    SignatureInvalid,
    /// One of WeChat Pay's deliberate wrong signatures.
    Probe,
    /// Its timestamp is over 5 minutes off.
    Stale,
    /// Its sender's address has used up its budget.
    RateLimited,
    /// No key for the serial it names, even after a refresh.
    KeyUnavailable,
    /// Too many were waiting to be stored.
    QueueFull,
    /// The database did not take it in time.
    NotStored,
    /// The whole took too long.
    TooLate,
}

impl CallbackAnswer {
    /// All there are.
    pub const ALL: [Self; 12] = [
        Self::Stored,
        Self::Malformed,
        Self::TooLarge,
        Self::TooSlow,
        Self::SignatureInvalid,
        Self::Probe,
        Self::Stale,
        Self::RateLimited,
        Self::KeyUnavailable,
        Self::QueueFull,
        Self::NotStored,
        Self::TooLate,
    ];

    /// As the page spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::TooSlow => "too_slow",
            Self::SignatureInvalid => "signature_invalid",
            Self::Probe => "probe",
            Self::Stale => "stale",
            Self::RateLimited => "rate_limited",
            Self::KeyUnavailable => "key_unavailable",
            Self::QueueFull => "queue_full",
            Self::NotStored => "not_stored",
            Self::TooLate => "too_late",
        }
    }

    /// Whose doing it was: nobody's, the sender's or ours.
    const fn result(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Malformed
            | Self::TooLarge
            | Self::TooSlow
            | Self::SignatureInvalid
            | Self::Probe
            | Self::Stale
            | Self::RateLimited => "refused",
            Self::KeyUnavailable | Self::QueueFull | Self::NotStored | Self::TooLate => "failed",
        }
    }
}

pub(super) fn begin() {
    for answer in CallbackAnswer::ALL {
        counter!(ANSWERS, "reason" => answer.as_str()).absolute(0);
        let _ = histogram!(ANSWER_SECONDS, "result" => answer.result());
    }
    let _ = histogram!(BATCH_ROWS);
    for result in ["ok", "error"] {
        let _ = histogram!(INSERT_SECONDS, "result" => result);
    }
}

/// A callback was answered, after so long.
pub fn callback_answered(answer: CallbackAnswer, took: Duration) {
    counter!(ANSWERS, "reason" => answer.as_str()).increment(1);
    histogram!(ANSWER_SECONDS, "result" => answer.result()).record(took);
}

/// An insert of so many callbacks has ended.
pub fn intake_inserted(rows: usize, took: Duration, stored: bool) {
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    histogram!(BATCH_ROWS).record(rows as f64);
    histogram!(INSERT_SECONDS, "result" => if stored { "ok" } else { "error" }).record(took);
}

impl super::Metrics {
    /// Shows how many callbacks wait to be stored.
    pub fn watch_intake(&self, waiting: impl Fn() -> usize + Send + Sync + 'static) {
        self.read_on_page(move || {
            #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
            gauge!(WAITING).set(waiting() as f64);
        });
    }
}
