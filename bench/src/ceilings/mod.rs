//! What this machine could do at most, by the simplest means there are: the measure for all else.

pub mod broker;
pub mod own_tables;
pub mod pgbench;

use broker::Loop;
use pgbench::Best;
use serde::{Deserialize, Serialize};

/// The ceilings of one session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ceilings {
    /// One row of 1.2 KB in a transaction of its own.
    pub insert: Best,
    /// Everything about one payment in one statement and transaction.
    pub single_transaction: Best,
    /// As `insert`, into the service's own tables.
    pub own_insert: Best,
    /// As `single_transaction`, on the service's own tables.
    pub own_single_transaction: Best,
    /// One id in a message, each acknowledged by itself.
    pub one_by_one: Loop,
    /// A group of ids in a message, many messages acknowledged at once.
    pub in_groups: Loop,
}
