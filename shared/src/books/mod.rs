//! The books: what must hold in the database at any time, whatever happened to it. `ops audit` asks, and so does the end of
//! every system test.

pub mod sql;

mod figures;
mod log;
mod points;

use chrono::{DateTime, Utc};
use serde::Serialize;

/// What must hold, and what does not.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// A stable name.
    pub name: &'static str,
    /// What must hold, in a sentence.
    pub about: &'static str,
    /// How many things break it.
    pub violations: i64,
    /// A few of these: order numbers, user ids, refund numbers or log ids, whichever `about` is about.
    pub samples: Vec<String>,
}

/// All checks, on the database as it was at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Audit {
    /// Whether all of them hold.
    pub ok: bool,
    /// Each of them.
    pub checks: Vec<Check>,
    /// The moment.
    pub at: DateTime<Utc>,
}
