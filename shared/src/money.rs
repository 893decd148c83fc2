//! Money. Integers of fen, never floats.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An amount of money in fen, a hundredth of a yuan. Never negative; the migration says so too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(try_from = "i64", into = "i64")]
#[sqlx(transparent)]
#[schema(value_type = i64, minimum = 0)]
pub struct Fen(i64);

/// The amount was below zero.
#[derive(Debug, thiserror::Error)]
#[error("{0} fen is negative; an amount of money is never below zero")]
pub struct NegativeAmount(i64);

impl Fen {
    /// No money.
    pub const ZERO: Self = Self(0);
    /// The smallest amount WeChat Pay takes.
    pub const ONE: Self = Self(1);

    /// The number of fen.
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl TryFrom<i64> for Fen {
    type Error = NegativeAmount;

    fn try_from(fen: i64) -> Result<Self, NegativeAmount> {
        if fen < 0 { Err(NegativeAmount(fen)) } else { Ok(Self(fen)) }
    }
}

impl From<Fen> for i64 {
    fn from(fen: Fen) -> Self {
        fen.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_never_negative() {
        assert!(Fen::try_from(-1).is_err());
        assert_eq!(Fen::try_from(0).expect("zero is an amount"), Fen::ZERO);
        assert!(serde_json::from_str::<Fen>("-1").is_err());
        assert!(serde_json::from_str::<Fen>("0.5").is_err());
    }
}
