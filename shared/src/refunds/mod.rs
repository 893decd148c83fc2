//! Refunds: money that goes back, and the points that go back before it.

pub mod apply;
pub mod by_hand;
pub mod create;
pub mod dead_letter;
pub mod schedule;
pub mod search;
pub mod sql;
pub mod step;

mod decide;

pub use decide::{Change, Decision, Parent, Share, Taken, decide_set, share};

use crate::{
    money::Fen,
    orders::{OrderNo, TransactionId},
    points::Points,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// Our number of a refund, and WeChat Pay's `out_refund_no`: 1 to 64 of `[0-9A-Za-z_|*@-]` (wechatpay-v3.md §7.1). The same
/// for ever: a new one would refund twice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(try_from = "String")]
#[sqlx(transparent)]
#[schema(value_type = String, pattern = "^[0-9A-Za-z_|*@-]{1,64}$")]
pub struct RefundNo(String);

/// The text is no refund number.
#[derive(Debug, thiserror::Error)]
#[error("a refund number is 1 to 64 of 0-9, A-Z, a-z, _, -, |, * and @")]
pub struct BadRefundNo;

impl RefundNo {
    /// A new number. Sorts by the time it was made (`UUIDv7`, RFC 9562).
    pub fn generate() -> Self {
        Self(Uuid::now_v7().simple().to_string())
    }

    /// The number as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for RefundNo {
    type Err = BadRefundNo;

    fn from_str(text: &str) -> Result<Self, BadRefundNo> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for RefundNo {
    type Error = BadRefundNo;

    fn try_from(text: String) -> Result<Self, BadRefundNo> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'|' | b'*' | b'@');
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) { Ok(Self(text)) } else { Err(BadRefundNo) }
    }
}

impl std::fmt::Display for RefundNo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a refund is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum RefundStatus {
    /// Accepted by us.
    Pending,
    /// Accepted by WeChat Pay.
    Processing,
    /// The money went back.
    Success,
    /// WeChat Pay did not execute it, and will not.
    Closed,
    /// The payer's account cannot take it: a person must help.
    Abnormal,
    /// WeChat Pay refused it.
    Failed,
}

/// What can happen to a refund.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefundEvent {
    /// WeChat Pay has accepted it.
    Accepted,
    /// The money went back.
    Succeeded,
    /// It was not executed.
    Closed,
    /// It is stuck at the payer's account.
    Stuck,
    /// It was refused.
    Refused,
}

/// What an event does to a refund.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It goes on to this state.
    To(RefundStatus),
    /// It has been there, or further.
    Nothing,
    /// It ended otherwise: a person must look.
    Contradiction,
}

/// The text is no status.
#[derive(Debug, thiserror::Error)]
#[error("a status is pending, processing, success, closed, abnormal or failed")]
pub struct BadRefundStatus;

impl std::str::FromStr for RefundStatus {
    type Err = BadRefundStatus;

    fn from_str(text: &str) -> Result<Self, BadRefundStatus> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(BadRefundStatus)
    }
}

impl RefundStatus {
    /// All there are.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Processing, Self::Success, Self::Closed, Self::Abnormal, Self::Failed];

    /// As the contract and the database spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Success => "success",
            Self::Closed => "closed",
            Self::Abnormal => "abnormal",
            Self::Failed => "failed",
        }
    }

    /// Whether its share of money and points is taken, or about to be.
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Pending | Self::Processing | Self::Success | Self::Abnormal)
    }

    /// What `event` does. Every change of a refund's state goes through here. News comes twice, late and out of order.
    pub const fn after(self, event: RefundEvent) -> Step {
        use {RefundEvent as E, RefundStatus as S};
        match (self, event) {
            (S::Pending, E::Accepted) => Step::To(S::Processing),
            (S::Pending | S::Processing | S::Abnormal, E::Succeeded) => Step::To(S::Success),
            (S::Pending | S::Processing | S::Abnormal, E::Closed) => Step::To(S::Closed),
            (S::Pending | S::Processing, E::Stuck) => Step::To(S::Abnormal),
            (S::Pending, E::Refused) => Step::To(S::Failed),
            // Older than what is known.
            (S::Processing | S::Success | S::Closed | S::Abnormal, E::Accepted)
            | (S::Success | S::Abnormal | S::Closed, E::Stuck)
            | (S::Success, E::Succeeded)
            | (S::Closed, E::Closed)
            | (S::Failed, E::Refused) => Step::Nothing,
            // The points were given back, or kept, for another end than the money's.
            (S::Closed | S::Failed, E::Succeeded)
            | (S::Success, E::Closed)
            | (S::Failed, E::Accepted | E::Closed | E::Stuck)
            | (S::Processing | S::Success | S::Closed | S::Abnormal, E::Refused) => Step::Contradiction,
        }
    }
}

/// Where a refund began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Origin {
    /// Here.
    Ours,
    /// In WeChat Pay's own console.
    External,
}

/// A refund, whole.
#[derive(Clone, Debug)]
pub struct Refund {
    /// Our number, and WeChat Pay's `out_refund_no`.
    pub refund_no: RefundNo,
    /// The order; `None` for money that came for none of ours.
    pub order_no: Option<OrderNo>,
    /// Where it began.
    pub origin: Origin,
    /// What goes back.
    pub amount: Fen,
    /// Always `CNY`.
    pub currency: String,
    /// The paid points that it took.
    pub points: Points,
    /// The bonus points that it took.
    pub bonus_points: Points,
    /// Shown to the payer.
    pub reason: Option<String>,
    /// Where it is.
    pub status: RefundStatus,
    /// WeChat Pay's number, once it has one.
    pub wechat_refund_id: Option<String>,
    /// Why it is not getting on, or how it failed.
    pub failure_reason: Option<String>,
    /// The payment that it takes from.
    pub transaction_id: TransactionId,
    /// That payment's total.
    pub total: Fen,
    /// The payment settled no order: no points go back, and no order changes.
    pub misdirected: bool,
    /// It took points that were not there any more.
    pub overdrawn: bool,
    /// Failed calls, or queries, since it last changed.
    pub attempts: i32,
    /// When a worker looks at it next.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// When it ended.
    pub completed_at: Option<DateTime<Utc>>,
}

/// What WeChat Pay vouches for about a refund: a callback's plaintext, or a query's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Our number; of a refund that began elsewhere, WeChat Pay's or a colleague's.
    pub refund_no: RefundNo,
    /// The order's number.
    pub order_no: OrderNo,
    /// The payment that it takes from.
    pub transaction_id: TransactionId,
    /// WeChat Pay's number of the refund.
    pub wechat_refund_id: String,
    /// What happened.
    pub event: RefundEvent,
    /// When, by WeChat Pay's clock; only of a success.
    pub succeeded_at: Option<DateTime<Utc>>,
    /// What goes back.
    pub amount: Fen,
    /// The payment's total.
    pub total: Fen,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refund_number_has_an_alphabet_and_a_length() {
        for good in ["a", "A_b-c|d*9@", &"x".repeat(64), RefundNo::generate().as_str()] {
            assert!(good.parse::<RefundNo>().is_ok(), "{good}");
        }
        for bad in ["", "a b", "退款", "a/b", &"x".repeat(65)] {
            assert!(bad.parse::<RefundNo>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_whole_table_of_states() {
        use RefundEvent as E;
        let events = [E::Accepted, E::Succeeded, E::Closed, E::Stuck, E::Refused];
        let table: Vec<String> = RefundStatus::ALL
            .iter()
            .flat_map(|&from| {
                events.iter().map(move |&event| format!("{from:?} + {event:?} = {:?}", from.after(event)))
            })
            .collect();
        insta::assert_snapshot!(table.join("\n"));
    }
}
