//! Instants that several processes of this machine can compare.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970 that only go forward: the system's clock when it began, and a steady one from there.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    began_at: u64,
    began: Instant,
}

impl Clock {
    /// Begins now.
    pub fn start() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self { began_at: nanos(since), began: Instant::now() }
    }

    /// Now.
    pub fn now(self) -> u64 {
        self.at(Instant::now())
    }

    /// That instant.
    pub fn at(self, instant: Instant) -> u64 {
        self.began_at + nanos(instant.saturating_duration_since(self.began))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
