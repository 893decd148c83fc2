//! Points: accounts, and the append-only ledger that proves them.

pub mod sql;

use crate::orders::OrderNo;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A number of points, never negative. A movement or a balance, which can be, is a plain `i64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(try_from = "i64", into = "i64")]
#[sqlx(transparent)]
#[schema(value_type = i64, minimum = 0)]
pub struct Points(i64);

/// The number was below zero.
#[derive(Debug, thiserror::Error)]
#[error("{0} points is negative")]
pub struct NegativePoints(i64);

impl Points {
    /// None.
    pub const ZERO: Self = Self(0);

    /// The number.
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl TryFrom<i64> for Points {
    type Error = NegativePoints;

    fn try_from(points: i64) -> Result<Self, NegativePoints> {
        if points < 0 { Err(NegativePoints(points)) } else { Ok(Self(points)) }
    }
}

impl From<Points> for i64 {
    fn from(points: Points) -> Self {
        points.0
    }
}

/// Why points moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum EntryKind {
    /// An order was paid.
    Recharge,
    /// A refund took its share back.
    Refund,
    /// That refund came to nothing, and its share was given back.
    RefundReturned,
}

/// One line of the ledger.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Grows with time within one account.
    pub id: i64,
    /// Why.
    pub kind: EntryKind,
    /// What the balance moved by, bonus points included.
    pub delta: i64,
    /// The balance after it.
    pub balance_after: i64,
    /// The order it belongs to.
    pub order_no: OrderNo,
    /// The refund it belongs to, if it is one.
    pub refund_no: Option<String>,
    /// When.
    pub created_at: DateTime<Utc>,
}
