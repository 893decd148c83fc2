//! How long to wait after a failed attempt.

use chrono::TimeDelta;

/// Seconds until the next attempt, by the number of attempts that failed: 5 s, 30 s, 2 min, 10 min, 30 min, 2 h, 6 h.
const STEPS_SECONDS: [i32; 7] = [5, 30, 120, 600, 1_800, 7_200, 21_600];

/// How far jitter moves a step, to either side. Rows that failed together then do not come back together.
const JITTER: f64 = 0.2;

/// The wait after `attempts` failed attempts (1 or more), or `None` when it is time to give up. `jitter` is in 0..1.
pub fn delay(attempts: u32, jitter: f64) -> Option<TimeDelta> {
    let step = usize::try_from(attempts.saturating_sub(1)).ok()?;
    let seconds = f64::from(*STEPS_SECONDS.get(step)?);
    let spread = (jitter.clamp(0.0, 1.0) * 2.0 - 1.0) * JITTER;
    #[expect(clippy::cast_possible_truncation, reason = "at most 26 million milliseconds")]
    let milliseconds = (seconds * (1.0 + spread) * 1_000.0) as i64;
    Some(TimeDelta::milliseconds(milliseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ladder_has_seven_steps_and_then_ends() {
        let seconds: Vec<i64> = (1..).map_while(|n| delay(n, 0.5)).map(|d| d.num_seconds()).collect();
        assert_eq!(seconds, [5, 30, 120, 600, 1_800, 7_200, 21_600]);
    }

    #[test]
    fn jitter_moves_a_step_by_a_fifth_at_most() {
        assert_eq!(delay(1, 0.0), Some(TimeDelta::milliseconds(4_000)));
        assert_eq!(delay(1, 1.0), Some(TimeDelta::milliseconds(6_000)));
    }
}
