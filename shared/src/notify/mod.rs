//! The notify log: what WeChat Pay sent, what became of it, and what a failure means.

pub mod amend;
pub mod causes;
pub mod ladder;
pub mod progress;
pub mod remedy;
pub mod retry;
pub mod search;
pub mod sql;
pub mod statistics;
pub mod suspects;
pub mod upkeep;

mod fault;
mod headers;
pub(crate) mod window;

pub use fault::{Class, Fault};
pub use headers::NotifyHeaders;
pub use ladder::Ladder;

use crate::{orders::OrderNo, payments::Payment, refunds::Report};
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
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

/// The text is no id.
#[derive(Debug, thiserror::Error)]
#[error("an id is a UUID, such as 019aab38-f6f0-7b1c-9d1d-2f3a4b5c6d7e")]
pub struct BadNotifyId;

impl std::str::FromStr for NotifyId {
    type Err = BadNotifyId;

    fn from_str(text: &str) -> Result<Self, BadNotifyId> {
        // Of a UUID's spellings, the one that we write.
        let id = Uuid::try_parse(text).ok().filter(|_| text.len() == 36);
        id.map(Self).ok_or(BadNotifyId)
    }
}

impl std::fmt::Display for NotifyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Which family of events a notification belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum NotifyType {
    /// `TRANSACTION.*`
    Payment,
    /// `REFUND.*`
    Refund,
}

/// The text is no such word.
#[derive(Debug, thiserror::Error)]
#[error("not one of the words that the contract has for it")]
pub struct BadWord;

impl std::str::FromStr for NotifyType {
    type Err = BadWord;

    fn from_str(text: &str) -> Result<Self, BadWord> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(BadWord)
    }
}

impl NotifyType {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Payment, Self::Refund];

    /// As the database and the API spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Payment => "payment",
            Self::Refund => "refund",
        }
    }
}

/// What a notification vouches for, once it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// Money came.
    Payment(Payment),
    /// Money went back, or did not.
    Refund(Report),
}

/// What became of a notification so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type, ToSchema)]
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

impl std::str::FromStr for ProcessStatus {
    type Err = BadWord;

    fn from_str(text: &str) -> Result<Self, BadWord> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(BadWord)
    }
}

impl ProcessStatus {
    /// All there are.
    pub const ALL: [Self; 6] =
        [Self::Received, Self::Processed, Self::Duplicate, Self::Retrying, Self::Dead, Self::Rejected];

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
    /// Which family of events it belongs to.
    pub notify_type: NotifyType,
    /// The ladder's step that a failure takes, from 0.
    pub ladder_step: i16,
    /// How many processes died with it in their hands.
    pub crashes: i16,
    /// The door refused it, so that its signature may be anybody's; an operator wants it tried.
    pub refused_at_door: bool,
    /// As received.
    pub headers: NotifyHeaders,
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
        /// Which delay of the ladder, from 0.
        step: usize,
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
    /// What a failed attempt at `row` leads to; `jitter` is in 0..1.
    pub fn of_fault(fault: Fault, row: &Claimed, ladder: Ladder, jitter: f64) -> Self {
        let step = usize::try_from(row.ladder_step).unwrap_or(0);
        match fault.class() {
            Class::NotOurs => Self::Rejected(fault),
            // Nobody has verified it yet, and waiting would not make it true.
            Class::Passing if row.refused_at_door && fault.is_about_the_signature() => Self::Rejected(fault),
            Class::Final => Self::Dead(fault),
            Class::Passing => match ladder.delay(step, jitter) {
                Some(after) => Self::Retry { step, after, fault },
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

    fn outcome(fault: Fault, ladder_step: i16, refused_at_door: bool) -> Outcome {
        let row = Claimed {
            id: NotifyId::generate(),
            notify_type: NotifyType::Payment,
            ladder_step,
            crashes: 0,
            refused_at_door,
            headers: NotifyHeaders::default(),
            body: Vec::new(),
        };
        Outcome::of_fault(fault, &row, Ladder::default(), 0.5)
    }

    #[test]
    fn every_word_can_be_read_again() {
        for status in ProcessStatus::ALL {
            assert_eq!(status.as_str().parse().ok(), Some(status));
        }
        for kind in NotifyType::ALL {
            assert_eq!(kind.as_str().parse().ok(), Some(kind));
        }
        for bad in ["", "Dead", "dead ", "done"] {
            assert!(bad.parse::<ProcessStatus>().is_err() && bad.parse::<NotifyType>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_id_has_one_spelling() {
        let id = NotifyId::generate();
        assert_eq!(id.to_string().parse().ok(), Some(id));
        let simple = id.get().simple().to_string();
        for bad in ["", "x", "1", &simple, &format!("{{{id}}}"), &id.get().urn().to_string(), &id.to_string()[1..]] {
            assert!(bad.parse::<NotifyId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_passing_fault_is_tried_again_until_the_ladder_ends() {
        for step in 0..7 {
            assert_eq!(outcome(Fault::OrderNotFound, step, false).status(), ProcessStatus::Retrying);
        }
        assert_eq!(outcome(Fault::OrderNotFound, 7, false), Outcome::Dead(Fault::OrderNotFound));
    }

    #[test]
    fn a_final_fault_is_dead_at_once() {
        assert_eq!(outcome(Fault::AmountMismatch, 0, false), Outcome::Dead(Fault::AmountMismatch));
    }

    #[test]
    fn what_the_door_refused_is_not_believed_later_for_having_been_stored() {
        assert_eq!(outcome(Fault::SignatureInvalid, 0, false).status(), ProcessStatus::Retrying);
        assert_eq!(outcome(Fault::SignatureInvalid, 0, true), Outcome::Rejected(Fault::SignatureInvalid));
        assert_eq!(outcome(Fault::OrderNotFound, 0, true).status(), ProcessStatus::Retrying);
    }
}
