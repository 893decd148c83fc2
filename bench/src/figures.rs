//! Numbers as people read them, and the casts that figures need.

use std::time::Duration;

/// For figures only: exact up to 2⁵³.
#[expect(clippy::cast_precision_loss, reason = "a figure is rounded anyway")]
pub const fn float(number: u64) -> f64 {
    number as f64
}

/// The number without its fraction; 0 for one below.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "that is what it is for")]
pub const fn whole(number: f64) -> u64 {
    number as u64
}

/// So many in that time, for one second.
pub fn per_second(count: u64, time: Duration) -> f64 {
    float(count) / time.as_secs_f64().max(1e-9)
}

/// Nanoseconds as milliseconds.
pub fn millis(nanos: u64) -> f64 {
    float(nanos) / 1e6
}

/// With as many digits as say something: three at least, but for whole numbers.
pub fn readable(number: f64) -> String {
    let magnitude = number.abs();
    match magnitude {
        _ if magnitude >= 1_000.0 || magnitude.fract() == 0.0 => thousands(number),
        _ if magnitude >= 100.0 => format!("{number:.0}"),
        _ if magnitude >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

fn thousands(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut text = String::from(if number < 0.0 { "-" } else { "" });
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The value that this share of them does not exceed; 0 of none. `sorted` is in order.
pub fn percentile(sorted: &[u64], share: f64) -> u64 {
    let rank = whole((float(sorted.len() as u64) * share).ceil()).max(1);
    let at = usize::try_from(rank - 1).unwrap_or(0).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_or_are_whole() {
        let shown = [0.0, 0.123, 9.996, 12.34, 123.4, 1_234.5, 1_234_567.0, -4_321.0].map(readable);
        assert_eq!(shown, ["0", "0.12", "10.00", "12.3", "123", "1,234", "1,234,567", "-4,321"]);
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let sorted: Vec<u64> = (1..=1_000).collect();
        assert_eq!([0.5, 0.99, 0.999, 1.0].map(|share| percentile(&sorted, share)), [500, 990, 999, 1_000]);
        assert_eq!(percentile(&[7], 0.5), 7);
        assert_eq!(percentile(&[], 0.5), 0);
    }
}
