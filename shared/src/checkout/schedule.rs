//! When to ask WeChat Pay about a pending order: densely while its buyer is likely to be paying, then less and less, and
//! once more when its time is up.

use chrono::{DateTime, TimeDelta, Utc};

/// The pause by the order's age, in seconds: up to this age, ask this often.
const PAUSES_SECONDS: [(i64, i64); 3] = [(125, 6), (600, 20), (1_800, 60)];
/// The pause of older ones.
const LATE_PAUSE: TimeDelta = TimeDelta::seconds(180);
/// The pause once its time is up and WeChat Pay could not be asked.
const OVERDUE_PAUSE: TimeDelta = TimeDelta::seconds(15);

/// When to ask next about an order that is still to be paid at `now`.
pub fn next_check(created_at: DateTime<Utc>, expired_at: DateTime<Utc>, now: DateTime<Utc>) -> DateTime<Utc> {
    if now >= expired_at {
        return now + OVERDUE_PAUSE;
    }
    let age = (now - created_at).num_seconds();
    let pause = PAUSES_SECONDS.iter().find(|(up_to, _)| age < *up_to).map(|(_, pause)| TimeDelta::seconds(*pause));
    (now + pause.unwrap_or(LATE_PAUSE)).min(expired_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All checks of an order that is never paid, in seconds of its age.
    fn checks(ttl: TimeDelta) -> Vec<i64> {
        let created_at = DateTime::UNIX_EPOCH;
        let expired_at = created_at + ttl;
        let mut now = created_at + TimeDelta::seconds(5);
        let mut ages = Vec::new();
        while now <= expired_at {
            ages.push((now - created_at).num_seconds());
            now = next_check(created_at, expired_at, now);
        }
        ages
    }

    #[test]
    fn young_orders_are_asked_about_often_enough_for_ten_seconds() {
        let ages = checks(TimeDelta::minutes(30));
        let young: Vec<i64> = ages.iter().copied().take_while(|age| *age <= 130).collect();
        assert!(*young.last().expect("some") >= 120);
        assert!(young.windows(2).all(|pair| pair[1] - pair[0] <= 7), "{young:?}");
    }

    #[test]
    fn older_ones_are_asked_about_seldom_and_always_at_the_end() {
        for minutes in [1, 30, 120] {
            let ages = checks(TimeDelta::minutes(minutes));
            assert_eq!(ages.last(), Some(&(minutes * 60)), "the last check is at the end");
            assert!(ages.len() < 110, "{} checks in {minutes} minutes", ages.len());
        }
    }

    #[test]
    fn an_overdue_order_is_asked_about_until_it_ends() {
        let (created_at, now) = (DateTime::UNIX_EPOCH, DateTime::UNIX_EPOCH + TimeDelta::hours(3));
        let next = next_check(created_at, created_at + TimeDelta::minutes(30), now);
        assert_eq!(next, now + OVERDUE_PAUSE);
    }
}
