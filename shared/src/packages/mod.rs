//! What can be bought: points packages.

pub mod sql;

use crate::{money::Fen, points::Points};
use chrono::{DateTime, Utc};

/// A package's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type)]
#[sqlx(transparent)]
pub struct PackageId(i64);

impl PackageId {
    /// The id as a number.
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl From<i64> for PackageId {
    fn from(id: i64) -> Self {
        Self(id)
    }
}

/// A package as it is offered now. An order copies its price, points and name.
#[derive(Clone, Debug)]
pub struct Package {
    /// Its id.
    pub id: PackageId,
    /// What the buyer sees, 1 to 64 characters.
    pub name: String,
    /// At most 500 characters.
    pub description: String,
    /// The price.
    pub amount: Fen,
    /// Always `CNY`.
    pub currency: String,
    /// The points that are paid for.
    pub points: Points,
    /// The points that come on top.
    pub bonus_points: Points,
    /// Whether it can be bought.
    pub is_active: bool,
    /// Smaller comes first.
    pub sort_order: i32,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}
