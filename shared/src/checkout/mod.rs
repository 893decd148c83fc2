//! An order across our database and WeChat Pay: making it, asking about it, ending it. The rule is the same everywhere:
//! WeChat Pay holds the truth about money, so we ask before we conclude, and close there before we mark here.

mod ask;
mod place;

pub mod budget;
pub mod idempotency;
pub mod schedule;

pub use ask::{AskError, End, Ended, Truth, ask, end};
pub use place::{ABANDONED_AFTER_SECONDS, PlaceError, Placed, find_repeated, place};
