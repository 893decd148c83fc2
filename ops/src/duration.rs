//! Spans and points of time as they are typed.

use anyhow::{Context, bail, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use shared::clock;
use std::str::FromStr;

const EXPECTED: &str = "a number and s, m, h or d, such as 12h";

/// Reads a number and its unit, from 1s to 3660d.
pub fn parse(text: &str) -> anyhow::Result<TimeDelta> {
    let unit = text.chars().last().context(EXPECTED)?;
    let number: u32 = text[..text.len() - unit.len_utf8()].parse().context(EXPECTED)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => bail!(EXPECTED),
    };
    let span = TimeDelta::seconds(i64::from(number) * seconds);
    ensure!((TimeDelta::seconds(1)..=TimeDelta::days(3_660)).contains(&span), "from 1s to 3660d");
    Ok(span)
}

/// A point in time: RFC 3339, or so long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instant(pub DateTime<Utc>);

impl FromStr for Instant {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        if let Ok(at) = DateTime::parse_from_rfc3339(text) {
            return Ok(Self(at.to_utc()));
        }
        let ago = parse(text).context("a time such as 2026-01-31T12:00:00+08:00, or so long ago, such as 2h")?;
        Ok(Self(clock::now() - ago))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_a_number_and_a_unit() {
        assert_eq!(parse("12h").expect("hours"), TimeDelta::hours(12));
        assert_eq!(parse("90s").expect("seconds"), TimeDelta::seconds(90));
        for bad in ["", "h", "12", "-1h", "1.5h", "0s", "12时", "4294967295d"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_instant_is_a_time_or_so_long_ago() {
        let noon: Instant = "2026-01-31T12:00:00+08:00".parse().expect("a time");
        assert_eq!(noon.0.to_rfc3339(), "2026-01-31T04:00:00+00:00");
        let ago: Instant = "2h".parse().expect("so long ago");
        let hours = clock::now() - ago.0;
        assert!(hours >= TimeDelta::hours(2) && hours < TimeDelta::hours(3), "{hours}");
        for bad in ["2026-01-31", "2026-01-31T12:00:00", "yesterday", ""] {
            assert!(bad.parse::<Instant>().is_err(), "{bad}");
        }
    }
}
