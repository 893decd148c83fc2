//! Instants in a query: RFC 3339, with any offset.

use crate::fields::Fields;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

/// What a parameter that takes an instant expects.
pub const EXPECTS: &str = "an RFC 3339 time with its offset, such as 2026-01-31T08:00:00+08:00";

/// Some time, open where it has no end.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// Where it begins, inclusive.
    pub from: Option<DateTime<Utc>>,
    /// Where it ends, exclusive.
    pub to: Option<DateTime<Utc>>,
}

/// Takes `from` and `to`, of which either may be absent; `to` must be the later one.
pub fn range(fields: &mut Fields) -> Option<Range> {
    let mut time = |name| fields.or(name, EXPECTS, None, |value| read(value).map(Some));
    let (from, to) = (time("from"), time("to"));
    if let (Some(Some(from)), Some(Some(to))) = (from, to)
        && from >= to
    {
        fields.fault("to".into(), "must be later than from".into());
        return None;
    }
    Some(Range { from: from?, to: to? })
}

/// Reads one.
pub fn read(value: &Value) -> Option<DateTime<Utc>> {
    let mut text = value.as_str()?.to_owned();
    // In a query a plus means a blank, unless it is written %2B; in `…T08:00:00+08:00` only one of them can be meant.
    if let Some(at) = text.len().checked_sub("+08:00".len())
        && text.is_char_boundary(at)
        && text[at..].starts_with(' ')
    {
        text.replace_range(at..=at, "+");
    }
    let instant = DateTime::parse_from_rfc3339(&text).ok()?.to_utc();
    // PostgreSQL's instants are whole microseconds: what is between two of them means the same as the later one.
    match i64::from(instant.timestamp_subsec_nanos() % 1_000) {
        0 => Some(instant),
        over => instant.checked_add_signed(TimeDelta::nanoseconds(1_000 - over)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_instant_has_an_offset() {
        for (text, utc) in [
            ("2026-01-31T08:00:00+08:00", "2026-01-31T00:00:00Z"),
            ("2026-01-31T08:00:00 08:00", "2026-01-31T00:00:00Z"),
            ("2026-01-31T08:00:00-01:30", "2026-01-31T09:30:00Z"),
            ("2026-01-31T08:00:00.123456Z", "2026-01-31T08:00:00.123456Z"),
            ("2026-01-31T08:00:00.123456001Z", "2026-01-31T08:00:00.123457Z"),
        ] {
            assert_eq!(read(&json!(text)), utc.parse().ok(), "{text}");
        }
        for bad in ["", "x", "2026-01-31", "2026-01-31T08:00:00", "2026-02-30T08:00:00Z", "1767225600", "时 08:00"] {
            assert_eq!(read(&json!(bad)), None, "{bad}");
        }
    }
}
