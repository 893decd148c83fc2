//! Orders: what was bought, by whom, and the one table of their states.

pub mod search;
pub mod sql;

use crate::{
    money::Fen,
    packages::{Package, PackageId},
    points::Points,
    users::UserId,
};
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// Our number of an order, and WeChat Pay's `out_trade_no`: 6 to 32 of `[0-9A-Za-z_|*-]` (wechatpay-v3.md §5.2).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, sqlx::Type, ToSchema)]
#[sqlx(transparent)]
#[schema(value_type = String, pattern = "^[0-9A-Za-z_|*-]{6,32}$")]
pub struct OrderNo(String);

/// The text is no order number.
#[derive(Debug, thiserror::Error)]
#[error("an order number is 6 to 32 of 0-9, A-Z, a-z, _, -, | and *")]
pub struct BadOrderNo;

impl OrderNo {
    /// A new number. Sorts by the time it was made (`UUIDv7`, RFC 9562); its 74 random bits make it unguessable.
    pub fn generate() -> Self {
        Self(Uuid::now_v7().simple().to_string())
    }

    /// The number as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for OrderNo {
    type Err = BadOrderNo;

    fn from_str(text: &str) -> Result<Self, BadOrderNo> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'|' | b'*');
        if (6..=32).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadOrderNo)
        }
    }
}

impl std::fmt::Display for OrderNo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// WeChat Pay's number of a payment: 1 to 32 visible ASCII characters, 28 digits in practice. Never a number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, sqlx::Type, ToSchema)]
#[sqlx(transparent)]
#[schema(value_type = String, pattern = "^[!-~]{1,32}$")]
pub struct TransactionId(String);

/// The text is no transaction id.
#[derive(Debug, thiserror::Error)]
#[error("a transaction id is 1 to 32 visible ASCII characters")]
pub struct BadTransactionId;

impl TransactionId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for TransactionId {
    type Err = BadTransactionId;

    fn from_str(text: &str) -> Result<Self, BadTransactionId> {
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        if (1..=32).contains(&text.len()) && visible { Ok(Self(text.to_owned())) } else { Err(BadTransactionId) }
    }
}

/// Where an order is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum PaymentStatus {
    /// Waits for the user.
    Pending,
    /// The money is here, and so are the points.
    Paid,
    /// Closed at WeChat Pay, then given up by the user.
    Cancelled,
    /// Closed at WeChat Pay after its time was up.
    Expired,
    /// No QR code could be had for it.
    Failed,
    /// Some of the money went back.
    PartiallyRefunded,
    /// All of the money went back.
    Refunded,
}

/// What can happen to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderEvent {
    /// WeChat Pay says that the money arrived.
    Paid,
    /// The user gave up, and WeChat Pay has closed it.
    Cancelled,
    /// Its time was up, and WeChat Pay has closed it.
    Expired,
    /// WeChat Pay gave no code for it.
    Failed,
    /// A refund succeeded; `left` is what of the amount is still with us.
    Refunded {
        /// What was not refunded yet.
        left: Fen,
    },
}

/// The order's state does not allow the event.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an order that is {from:?} cannot take {event:?}")]
pub struct Refused {
    /// The order's state.
    pub from: PaymentStatus,
    /// What was asked of it.
    pub event: OrderEvent,
}

/// The text is no status.
#[derive(Debug, thiserror::Error)]
#[error("a status is pending, paid, cancelled, expired, failed, partially_refunded or refunded")]
pub struct BadStatus;

impl std::str::FromStr for PaymentStatus {
    type Err = BadStatus;

    fn from_str(text: &str) -> Result<Self, BadStatus> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(BadStatus)
    }
}

impl PaymentStatus {
    /// All there are.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Paid,
        Self::Cancelled,
        Self::Expired,
        Self::Failed,
        Self::PartiallyRefunded,
        Self::Refunded,
    ];

    /// As the contract and the database spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Paid => "paid",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Failed => "failed",
            Self::PartiallyRefunded => "partially_refunded",
            Self::Refunded => "refunded",
        }
    }

    /// The state after `event`. Every change of an order's state goes through here.
    pub fn after(self, event: OrderEvent) -> Result<Self, Refused> {
        use {OrderEvent as E, PaymentStatus as S};
        match (self, event) {
            // Money that arrived is honoured, however late: the customer has paid.
            (S::Pending | S::Cancelled | S::Expired | S::Failed, E::Paid) => Ok(S::Paid),
            (S::Pending, E::Cancelled) => Ok(S::Cancelled),
            (S::Pending, E::Expired) => Ok(S::Expired),
            (S::Pending, E::Failed) => Ok(S::Failed),
            (S::Paid | S::PartiallyRefunded, E::Refunded { left: Fen::ZERO }) => Ok(S::Refunded),
            (S::Paid | S::PartiallyRefunded, E::Refunded { .. }) => Ok(S::PartiallyRefunded),
            (from, event) => Err(Refused { from, event }),
        }
    }
}

/// How an order is paid. One way so far.
pub const PAYMENT_METHOD: &str = "wechat_native";

/// An order, whole.
#[derive(Clone, Debug)]
pub struct Order {
    /// Our number, and WeChat Pay's `out_trade_no`.
    pub order_no: OrderNo,
    /// Who buys.
    pub user_id: UserId,
    /// What was bought; the package itself may have changed since.
    pub package_id: PackageId,
    /// Its name when it was bought.
    pub package_name: String,
    /// Its price when it was bought.
    pub amount: Fen,
    /// Always `CNY`.
    pub currency: String,
    /// Its points when it was bought.
    pub points: Points,
    /// Its bonus when it was bought.
    pub bonus_points: Points,
    /// Always [`PAYMENT_METHOD`].
    pub payment_method: String,
    /// Where it is.
    pub status: PaymentStatus,
    /// What the QR code says, once WeChat Pay has given it.
    pub code_url: Option<String>,
    /// WeChat Pay's number of the payment.
    pub transaction_id: Option<TransactionId>,
    /// What went back so far.
    pub refunded_amount: Fen,
    /// When it was paid, by WeChat Pay's clock.
    pub paid_at: Option<DateTime<Utc>>,
    /// Until when it can be paid. Whole seconds.
    pub expired_at: DateTime<Utc>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

impl Order {
    /// What the QR code should say, while there is something to pay at `now`.
    pub fn payable_code(&self, now: DateTime<Utc>) -> Option<&str> {
        self.code_url.as_deref().filter(|_| self.status == PaymentStatus::Pending && now < self.expired_at)
    }
}

/// An order about to be made.
#[derive(Clone, Debug)]
pub struct NewOrder {
    /// A fresh number.
    pub order_no: OrderNo,
    /// Who buys.
    pub user_id: UserId,
    /// What; its price, points and name are copied.
    pub package: Package,
    /// Until when it can be paid. Whole seconds.
    pub expired_at: DateTime<Utc>,
}

impl NewOrder {
    /// An order of `package`, made at `now`, which can be paid for `ttl`.
    pub fn of(package: Package, user_id: UserId, now: DateTime<Utc>, ttl: TimeDelta) -> Self {
        let expired_at = now + ttl;
        let expired_at = expired_at.duration_trunc(TimeDelta::seconds(1)).unwrap_or(expired_at);
        Self { order_no: OrderNo::generate(), user_id, package, expired_at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_numbers_are_valid_for_wechat_and_sort_by_time() {
        let numbers: Vec<OrderNo> = (0..1_000).map(|_| OrderNo::generate()).collect();
        assert!(numbers.is_sorted());
        assert!(numbers.iter().all(|no| no.as_str().parse::<OrderNo>().is_ok()));
    }

    #[test]
    fn an_order_number_has_an_alphabet_and_a_length() {
        for good in ["abcdef", "A_b-c|d*9", &"x".repeat(32)] {
            assert!(good.parse::<OrderNo>().is_ok(), "{good}");
        }
        for bad in ["abcde", "a b c d", "订单号码订单", "abc/def", &"x".repeat(33)] {
            assert!(bad.parse::<OrderNo>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_whole_table_of_states() {
        use {OrderEvent as E, PaymentStatus as S};
        let all = [S::Pending, S::Paid, S::Cancelled, S::Expired, S::Failed, S::PartiallyRefunded, S::Refunded];
        let events = [
            E::Paid,
            E::Cancelled,
            E::Expired,
            E::Failed,
            E::Refunded { left: Fen::ONE },
            E::Refunded { left: Fen::ZERO },
        ];
        let table: Vec<String> = all
            .iter()
            .flat_map(|&from| events.iter().map(move |&event| (from, event)))
            .filter_map(|(from, event)| Some(format!("{from:?} + {event:?} = {:?}", from.after(event).ok()?)))
            .collect();
        insta::assert_snapshot!(table.join("\n"));
    }
}
