//! Spans of time as they are typed.

use anyhow::{Context, bail, ensure};
use chrono::TimeDelta;

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
}
