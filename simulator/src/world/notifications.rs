//! A notification and the record of its deliveries.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use crate::{callbacks::Plaintext, faults::Fault};

/// Attempts that are remembered for each notification.
pub const ATTEMPTS_KEPT: usize = 32;

/// What has become of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Delivery {
    /// Will be sent (again).
    Pending,
    /// Taken with 200 or 204.
    Delivered,
    /// All deliveries failed.
    GivenUp,
}

/// One delivery, or what happened instead of it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// 1 for the first.
    pub number: u32,
    /// When it was sent.
    pub at: DateTime<Utc>,
    /// What was wrong with it on purpose; absent for the truth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// HTTP status of the answer.
    pub status: Option<u16>,
    /// Why there was no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The first 200 characters of the answer's body.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub answer: String,
    /// How long the answer took, milliseconds.
    pub duration_ms: u64,
}

impl Attempt {
    /// Whether the merchant took it: 200 or 204, nothing else.
    pub fn was_taken(&self) -> bool {
        matches!(self.status, Some(200 | 204))
    }
}

/// One notification: the same id, content and body at every delivery.
#[derive(Clone, Debug)]
pub struct Notification {
    /// `id` of the envelope.
    pub id: Uuid,
    /// Its place in the order of making.
    pub sequence: u64,
    /// The order it is about.
    pub out_trade_no: String,
    /// The refund it is about.
    pub out_refund_no: Option<String>,
    /// Where it goes.
    pub url: String,
    /// `event_type`
    pub event_type: &'static str,
    /// What it says, for making a lie out of it.
    pub plaintext: Plaintext,
    /// The envelope as it is sent.
    pub body: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// What has become of it.
    pub delivery: Delivery,
    /// The latest attempts, oldest first.
    pub attempts: VecDeque<Attempt>,
    /// Attempts ever made.
    pub attempt_count: u32,
    /// Steps of the retry schedule used up.
    pub steps: usize,
    /// When it will be sent next, in real time.
    pub next_at: Option<DateTime<Utc>>,
    /// Lies told under its name.
    pub lies: Vec<Fault>,
}

impl Notification {
    /// Whether it will be sent again.
    pub fn is_pending(&self) -> bool {
        self.delivery == Delivery::Pending
    }

    /// Keeps `attempt`, dropping the oldest when there are too many. Gives it its number.
    pub fn record(&mut self, mut attempt: Attempt) -> Attempt {
        self.attempt_count += 1;
        attempt.number = self.attempt_count;
        if self.attempts.len() == ATTEMPTS_KEPT {
            self.attempts.pop_front();
        }
        self.attempts.push_back(attempt.clone());
        attempt
    }
}
