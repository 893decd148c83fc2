//! The notify log: what WeChat Pay sent, what became of it, and what a failure means.

pub mod ladder;
pub mod sql;
pub mod upkeep;

mod fault;

pub use fault::{Class, Fault};

use crate::orders::OrderNo;
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The key of a stored notification, and all that RabbitMQ carries of it. `UUIDv7`: sorts by the time of its arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type)]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct NotifyId(Uuid);

impl NotifyId {
    /// A new id. Ids of one process never repeat and grow.
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }

    /// The id as the database has it.
    pub const fn get(self) -> Uuid {
        self.0
    }
}

impl std::fmt::Display for NotifyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Which family of events a notification belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum NotifyType {
    /// `TRANSACTION.*`
    Payment,
    /// `REFUND.*`
    Refund,
}

impl NotifyType {
    /// As the database and the API spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Payment => "payment",
            Self::Refund => "refund",
        }
    }
}

/// What became of a notification so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum ProcessStatus {
    /// Stored, not yet handled.
    Received,
    /// It changed our state.
    Processed,
    /// True, but nothing was left to change.
    Duplicate,
    /// Failed for a passing cause; tried again by itself.
    Retrying,
    /// Gave up; waits for an operator.
    Dead,
    /// Not from WeChat Pay, or not for us.
    Rejected,
}

impl ProcessStatus {
    /// As the database and the API spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Processed => "processed",
            Self::Duplicate => "duplicate",
            Self::Retrying => "retrying",
            Self::Dead => "dead",
            Self::Rejected => "rejected",
        }
    }
}

/// The headers that are kept with a notification: those that were signed, and those that help support. Exactly as
/// received.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct NotifyHeaders {
    /// Unix seconds, decimal.
    pub wechatpay_timestamp: String,
    /// Random text of WeChat Pay's.
    pub wechatpay_nonce: String,
    /// Standard base64, or a probe.
    pub wechatpay_signature: String,
    /// `PUB_KEY_ID_…`, or a certificate's serial number.
    pub wechatpay_serial: String,
    /// Absent on some deliveries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wechatpay_signature_type: Option<String>,
    /// To quote to WeChat Pay's support.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Usually `application/json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Says nothing about the sender; shown only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
}

/// A notification about to be stored.
#[derive(Clone, Debug)]
pub struct NewNotify {
    /// A fresh id.
    pub id: NotifyId,
    /// By its event, else by the route it came in on.
    pub notify_type: NotifyType,
    /// Why it is refused; `None` for one that is acknowledged and handled.
    pub rejected: Option<Fault>,
    /// The sender's address, for the log only.
    pub client_ip: Option<String>,
    /// As received.
    pub headers: NotifyHeaders,
    /// The exact bytes received.
    pub body: Vec<u8>,
}

/// A stored notification that a worker has claimed.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// Its key.
    pub id: NotifyId,
    /// How many attempts have failed so far.
    pub retry_count: i32,
    /// As received.
    pub headers: sqlx::types::Json<NotifyHeaders>,
    /// As received.
    pub body: Vec<u8>,
}

/// What a worker made of one notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It changed our state.
    Processed,
    /// Nothing was left to change.
    Duplicate,
    /// Its cause may pass: tried again after this time.
    Retry {
        /// Until the next attempt.
        after: TimeDelta,
        /// What went wrong.
        fault: Fault,
    },
    /// Nothing but an operator can help.
    Dead(Fault),
    /// Signed by WeChat Pay, but not for us.
    Rejected(Fault),
}

impl Outcome {
    /// What a failed attempt leads to: `attempts` have failed, this one included; `jitter` is in 0..1.
    pub fn of_fault(fault: Fault, attempts: u32, jitter: f64) -> Self {
        match fault.class() {
            Class::NotOurs => Self::Rejected(fault),
            Class::Final => Self::Dead(fault),
            Class::Passing => match ladder::delay(attempts, jitter) {
                Some(after) => Self::Retry { after, fault },
                None => Self::Dead(fault),
            },
        }
    }

    /// The row's status after it.
    pub const fn status(&self) -> ProcessStatus {
        match self {
            Self::Processed => ProcessStatus::Processed,
            Self::Duplicate => ProcessStatus::Duplicate,
            Self::Retry { .. } => ProcessStatus::Retrying,
            Self::Dead(_) => ProcessStatus::Dead,
            Self::Rejected(_) => ProcessStatus::Rejected,
        }
    }

    /// What went wrong, if anything did.
    pub const fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Processed | Self::Duplicate => None,
            Self::Retry { fault, .. } | Self::Dead(fault) | Self::Rejected(fault) => Some(fault),
        }
    }
}

/// What to write into a claimed row.
#[derive(Clone, Debug)]
pub struct Closing {
    /// Which row.
    pub id: NotifyId,
    /// The order it names, once that could be read.
    pub order_no: Option<OrderNo>,
    /// What became of it.
    pub outcome: Outcome,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passing_fault_is_tried_again_until_the_ladder_ends() {
        for attempts in 1..=7 {
            assert_eq!(Outcome::of_fault(Fault::OrderNotFound, attempts, 0.5).status(), ProcessStatus::Retrying);
        }
        assert_eq!(Outcome::of_fault(Fault::OrderNotFound, 8, 0.5), Outcome::Dead(Fault::OrderNotFound));
    }

    #[test]
    fn a_final_fault_is_dead_at_once() {
        assert_eq!(Outcome::of_fault(Fault::AmountMismatch, 1, 0.5), Outcome::Dead(Fault::AmountMismatch));
    }
}
