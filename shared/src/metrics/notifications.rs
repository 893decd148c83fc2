//! What workers make of the notifications.

use super::{Metric, ROWS, SECONDS};
use crate::notify::{Class, Fault, ProcessStatus};
use metrics::{counter, histogram};
use std::time::Duration;

const HANDLED: &str = "recharge_notifications_total";
const FAULTS: &str = "recharge_notification_faults_total";
const DEAD_LETTERS: &str = "recharge_dead_letters_total";
const CREDIT_SECONDS: &str = "recharge_credit_delay_seconds";
const SET_ROWS: &str = "recharge_handler_set_rows";
const SET_SECONDS: &str = "recharge_handler_set_duration_seconds";
const RESCUED: &str = "recharge_rescued_rows_total";
const BROKER_GAVE_UP: &str = "recharge_broker_gave_up_rows_total";
const SUSPECTED: &str = "recharge_suspected_rows_total";
const LATE_PAYMENTS: &str = "recharge_late_payments_total";

/// From a hundredth of a second to a day: the ladder's steps are among them.
const DELAYS: &[f64] = &[
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 600.0, 1_800.0, 7_200.0, 21_600.0,
    86_400.0,
];

pub(super) const METRICS: &[Metric] = &[
    Metric::counter(
        HANDLED,
        "Attempts at stored notifications by what became of the notification; `retrying` is a retry.",
    ),
    Metric::counter(FAULTS, "Failed attempts by class and code of what went wrong."),
    Metric::counter(DEAD_LETTERS, "Notifications that became dead letters, by code."),
    Metric::histogram(CREDIT_SECONDS, DELAYS, "From a notification's arrival to the commit of what it changed."),
    Metric::histogram(SET_ROWS, ROWS, "Notifications that were handled in one transaction."),
    Metric::histogram(SET_SECONDS, SECONDS, "One such transaction, from its claim to its commit."),
    Metric::counter(
        RESCUED,
        "Rows that the rescue loop handled; beside a broker, those that it did not deliver in time.",
    ),
    Metric::counter(BROKER_GAVE_UP, "Rows named by messages that RabbitMQ gave out twenty times and gave up."),
    Metric::counter(SUSPECTED, "Rows that a worker held when it died; each is handled alone since."),
    Metric::counter(LATE_PAYMENTS, "Payments that settled an order which had been given up."),
];

/// What an attempt may leave a notification in.
const ENDS: [ProcessStatus; 5] = [
    ProcessStatus::Processed,
    ProcessStatus::Duplicate,
    ProcessStatus::Retrying,
    ProcessStatus::Dead,
    ProcessStatus::Rejected,
];

pub(super) fn begin() {
    for status in ENDS {
        counter!(HANDLED, "status" => status.as_str()).absolute(0);
    }
    for fault in Fault::each() {
        counter!(FAULTS, "class" => fault.class().as_str(), "code" => fault.code()).absolute(0);
        // What is not ours is rejected, never given up.
        if fault.class() != Class::NotOurs {
            counter!(DEAD_LETTERS, "code" => fault.code()).absolute(0);
        }
    }
    for name in [CREDIT_SECONDS, SET_ROWS, SET_SECONDS] {
        let _ = histogram!(name);
    }
    for name in [RESCUED, BROKER_GAVE_UP, SUSPECTED] {
        counter!(name).absolute(0);
    }
}

/// Both processes may hear of late money.
pub(super) fn begin_late_payments() {
    counter!(LATE_PAYMENTS).absolute(0);
}

/// Notifications changed our state, each so many seconds after its arrival. After the commit.
pub fn notifications_credited(seconds: &[f64]) {
    let delays = histogram!(CREDIT_SECONDS);
    for seconds in seconds {
        delays.record(seconds.max(0.0));
    }
}

/// The broker gave up on messages that named so many notifications.
pub fn broker_gave_up(rows: usize) {
    counter!(BROKER_GAVE_UP).increment(rows as u64);
}

/// Notifications were found in the hands of a worker that had died.
pub fn suspected(rows: usize) {
    counter!(SUSPECTED).increment(rows as u64);
}

/// Attempts left so many notifications in this status.
pub fn notifications_closed(status: ProcessStatus, count: u64) {
    counter!(HANDLED, "status" => status.as_str()).increment(count);
}

/// An attempt failed, whatever became of the notification then.
pub fn notification_failed(fault: &Fault) {
    counter!(FAULTS, "class" => fault.class().as_str(), "code" => fault.code()).increment(1);
}

/// A notification became a dead letter.
pub fn dead_letter(fault: &Fault) {
    counter!(DEAD_LETTERS, "code" => fault.code()).increment(1);
}

/// A set of so many notifications was committed, so long after its claim.
pub fn set_handled(rows: usize, took: Duration) {
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    histogram!(SET_ROWS).record(rows as f64);
    histogram!(SET_SECONDS).record(took);
}

/// The rescue loop handled so many rows.
pub fn rescued(rows: usize) {
    counter!(RESCUED).increment(rows as u64);
}

/// Money came for an order that had been given up, and was honoured.
pub fn late_payment() {
    counter!(LATE_PAYMENTS).increment(1);
}
