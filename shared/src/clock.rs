//! The only place that asks what time it is.
//!
//! In debug builds only, a test can set one process's clock off: `RECHARGE_CLOCK_SKEW_SECONDS=-240` makes it four minutes
//! slow. A release has none of it. What the libraries ask for themselves (the time in a UUIDv7, the expiry of a token) stays
//! right, and so do timers, which run on another clock.

use chrono::{DateTime, TimeDelta, Utc};

/// Now, by this machine's clock. Where processes must agree on an instant (due times, leases) the database's `now()` is
/// used instead.
#[expect(clippy::disallowed_methods, reason = "this is the substitute that clippy.toml names")]
pub fn now() -> DateTime<Utc> {
    Utc::now() + skew()
}

#[cfg(debug_assertions)]
fn skew() -> TimeDelta {
    static SKEW: std::sync::LazyLock<TimeDelta> = std::sync::LazyLock::new(wanted);
    *SKEW
}

/// A test that asks for what cannot be would test nothing, so that ends the process.
#[cfg(debug_assertions)]
#[expect(clippy::disallowed_methods, reason = "a hook for tests is no configuration")]
fn wanted() -> TimeDelta {
    let Ok(text) = std::env::var("RECHARGE_CLOCK_SKEW_SECONDS") else { return TimeDelta::zero() };
    let seconds = text.parse().ok().and_then(TimeDelta::try_seconds);
    seconds.expect("RECHARGE_CLOCK_SKEW_SECONDS: expected a number of seconds")
}

/// Nothing, in a release.
#[cfg(not(debug_assertions))]
const fn skew() -> TimeDelta {
    TimeDelta::zero()
}
