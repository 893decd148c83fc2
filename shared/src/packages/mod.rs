//! What can be bought: points packages.

pub mod change;
pub mod sql;

use crate::{money::Fen, points::Points};
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::ops::RangeInclusive;

/// The prices a package may have, in fen. The migration says so too.
pub const AMOUNTS: RangeInclusive<i64> = 1..=100_000_000;
/// The points a package may have.
pub const POINTS: RangeInclusive<i64> = 1..=1_000_000_000;
/// The bonus points a package may have.
pub const BONUS_POINTS: RangeInclusive<i64> = 0..=1_000_000_000;

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

/// A package's name: 1 to 64 characters, none of them a control character, and not only blanks. Buyers see it, also at
/// WeChat Pay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, sqlx::Type)]
#[sqlx(transparent)]
pub struct PackageName(String);

/// The text cannot be a package's name.
#[derive(Debug, thiserror::Error)]
#[error("a package's name is 1 to 64 characters, on one line, and not blank")]
pub struct BadPackageName;

impl std::str::FromStr for PackageName {
    type Err = BadPackageName;

    fn from_str(text: &str) -> Result<Self, BadPackageName> {
        let sound = (1..=64).contains(&text.chars().count()) && !text.contains(char::is_control);
        if sound && !text.trim().is_empty() { Ok(Self(text.to_owned())) } else { Err(BadPackageName) }
    }
}

/// A package's description: at most 500 characters, on any number of lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, sqlx::Type)]
#[sqlx(transparent)]
pub struct Description(String);

/// The text cannot be a description.
#[derive(Debug, thiserror::Error)]
#[error("a description is at most 500 characters, without control characters but tabs and line ends")]
pub struct BadDescription;

impl std::str::FromStr for Description {
    type Err = BadDescription;

    fn from_str(text: &str) -> Result<Self, BadDescription> {
        let printable = |char: char| !char.is_control() || matches!(char, '\n' | '\r' | '\t');
        if text.chars().count() <= 500 && text.chars().all(printable) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadDescription)
        }
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
