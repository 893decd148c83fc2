//! The simulator's clock: real time plus an offset that the control API may set.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::SystemTime,
};

use chrono::{DateTime, FixedOffset, SecondsFormat, TimeDelta, Utc};

/// Tells what time it is at WeChat Pay.
#[derive(Debug, Default)]
pub struct Clock {
    offset_seconds: AtomicI64,
}

impl Clock {
    /// The largest shift, a hundred years: beyond it dates stop to make sense.
    pub const MAX_OFFSET_SECONDS: i64 = 100 * 366 * 86_400;

    /// The moment it is now, as the simulator sees it.
    pub fn now(&self) -> DateTime<Utc> {
        DateTime::<Utc>::from(SystemTime::now()) + TimeDelta::seconds(self.offset_seconds())
    }

    /// Seconds that the clock is ahead of real time (negative: behind).
    pub fn offset_seconds(&self) -> i64 {
        self.offset_seconds.load(Ordering::Relaxed)
    }

    /// Sets the shift against real time.
    pub fn shift_to(&self, offset_seconds: i64) {
        let limit = Self::MAX_OFFSET_SECONDS;
        self.offset_seconds.store(offset_seconds.clamp(-limit, limit), Ordering::Relaxed);
    }
}

/// RFC 3339 in China time with whole seconds, the way WeChat Pay writes it.
pub fn china(at: DateTime<Utc>) -> String {
    in_china(at).to_rfc3339_opts(SecondsFormat::Secs, false)
}

/// The day in China, `yyyymmdd`, as it stands in transaction numbers.
pub fn china_day(at: DateTime<Utc>) -> String {
    in_china(at).format("%Y%m%d").to_string()
}

fn in_china(at: DateTime<Utc>) -> DateTime<FixedOffset> {
    const SECONDS_EAST: i32 = 8 * 3600;
    // Eight hours are within the range of offsets, so the fallback is never taken.
    FixedOffset::east_opt(SECONDS_EAST).map_or_else(|| at.fixed_offset(), |china| at.with_timezone(&china))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn china_is_eight_hours_ahead() {
        let at = DateTime::parse_from_rfc3339("2026-01-01T17:25:40.75Z").unwrap().to_utc();
        assert_eq!(china(at), "2026-01-02T01:25:40+08:00");
        assert_eq!(china_day(at), "20260102");
    }

    #[test]
    fn the_offset_moves_now() {
        let clock = Clock::default();
        let before = clock.now();
        clock.shift_to(3600);
        assert!(clock.now() - before >= TimeDelta::seconds(3600));
    }
}
