//! When to ask WeChat Pay about a refund that it has accepted: every minute at first, then less and less, for as long as it
//! takes (wechatpay-v3.md §7.5). Also about a stuck one: it may be settled in WeChat Pay's console without a word to us.

use super::RefundStatus;
use crate::notify::Ladder;
use chrono::TimeDelta;

/// Minutes until the next query, by how many there were; then the last one for ever.
const PAUSES_MINUTES: [i64; 13] = [1, 1, 1, 1, 1, 5, 10, 20, 30, 60, 120, 240, 360];

/// When to ask for the first time about a refund that has come into this state; `None` where nothing is left to ask.
pub fn first_query(status: RefundStatus, ladder: Ladder) -> Option<TimeDelta> {
    match status {
        RefundStatus::Pending => Some(TimeDelta::zero()),
        RefundStatus::Processing | RefundStatus::Abnormal => Some(next_query(0, ladder)),
        RefundStatus::Success | RefundStatus::Closed | RefundStatus::Failed => None,
    }
}

/// When to ask again, after `queries` that found nothing new. `ladder` only scales it.
pub fn next_query(queries: i32, ladder: Ladder) -> TimeDelta {
    let at = usize::try_from(queries).unwrap_or(0).min(PAUSES_MINUTES.len() - 1);
    ladder.scale(TimeDelta::minutes(PAUSES_MINUTES[at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_become_rare_and_never_end() {
        let minutes = |queries| next_query(queries, Ladder::default()).num_minutes();
        assert_eq!((0..8).map(minutes).collect::<Vec<_>>(), [1, 1, 1, 1, 1, 5, 10, 20]);
        assert_eq!(minutes(1_000), 360);
        let first_day = (0..).scan(0, |age, queries| {
            *age += minutes(queries);
            (*age < 24 * 60).then_some(())
        });
        assert!(first_day.count() < 20);
    }
}
