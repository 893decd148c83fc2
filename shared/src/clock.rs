//! The only place that asks what time it is.

use chrono::{DateTime, Utc};

/// Now, by this machine's clock. Where processes must agree on an instant (due times, leases) the database's `now()` is
/// used instead.
#[expect(clippy::disallowed_methods, reason = "this is the substitute that clippy.toml names")]
pub fn now() -> DateTime<Utc> {
    Utc::now()
}
