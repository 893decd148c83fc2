//! What people did by hand: who, to what, and why. Written in the transaction of the deed itself.

pub mod sql;

use crate::users::UserId;
use serde_json::Value;

/// One deed.
#[derive(Clone, Debug)]
pub struct Deed<'a> {
    /// Who did it.
    pub actor: &'a UserId,
    /// What, as `subject.verb`.
    pub action: &'static str,
    /// To what: the id or number of it.
    pub subject: String,
    /// Why, if they said so.
    pub reason: Option<&'a str>,
    /// What changed.
    pub detail: Value,
}
