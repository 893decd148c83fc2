//! What is counted, for Prometheus. Labels come from closed sets, so that no caller can make the series grow.

use crate::notify::ProcessStatus;
use metrics::{counter, describe_counter, histogram};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};

const CALLBACKS: &str = "recharge_callbacks_total";
const NOTIFICATIONS: &str = "recharge_notifications_total";
const CREDITED_SECONDS: &str = "recharge_credited_seconds";
const BROKER_GAVE_UP: &str = "recharge_broker_gave_up_total";
const LATE_PAYMENTS: &str = "recharge_late_payments_total";

/// The page that Prometheus reads.
#[derive(Clone, Debug)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// Starts counting in this process. Once only.
    ///
    /// # Errors
    /// When something counts already.
    pub fn install() -> Result<Self, BuildError> {
        let handle = PrometheusBuilder::new().install_recorder()?;
        describe_counter!(CALLBACKS, "Callbacks by the HTTP status that they were answered with.");
        describe_counter!(NOTIFICATIONS, "Attempts at stored notifications by what became of the notification.");
        describe_counter!(LATE_PAYMENTS, "Payments that settled an order which had been given up.");
        // From zero on: what has not happened yet is a number too.
        counter!(LATE_PAYMENTS).absolute(0);
        Ok(Self(handle))
    }

    /// The page, in Prometheus' text format.
    pub fn page(&self) -> String {
        self.0.render()
    }
}

/// A callback was answered with this HTTP status.
pub fn callback_answered(status: u16) {
    counter!(CALLBACKS, "status" => status.to_string()).increment(1);
}

/// An attempt left `count` notifications in this status.
pub fn notifications_closed(status: ProcessStatus, count: u64) {
    counter!(NOTIFICATIONS, "status" => status.as_str()).increment(count);
}

/// Money came for an order that had been given up, and was honoured.
pub fn late_payment() {
    counter!(LATE_PAYMENTS).increment(1);
}

/// Notifications changed our state, so many seconds after they had come.
pub fn notifications_credited(seconds: &[f64]) {
    for seconds in seconds {
        histogram!(CREDITED_SECONDS).record(*seconds);
    }
}

/// The broker gave up on messages that carried `ids`.
pub fn broker_gave_up(ids: usize) {
    counter!(BROKER_GAVE_UP).increment(ids as u64);
}
