//! How long to wait after a failed attempt: a ladder of delays, for notifications and refunds alike.

use chrono::TimeDelta;

/// One step of the ladder.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    seconds: u32,
    /// As it stands in a queue's name.
    pub name: &'static str,
}

/// The delays after the first failed attempt, the second, and so on.
pub const STEPS: [Step; 7] = [
    Step { seconds: 5, name: "5s" },
    Step { seconds: 30, name: "30s" },
    Step { seconds: 120, name: "2m" },
    Step { seconds: 600, name: "10m" },
    Step { seconds: 1_800, name: "30m" },
    Step { seconds: 7_200, name: "2h" },
    Step { seconds: 21_600, name: "6h" },
];

/// How far jitter moves a step, to either side. Sets that failed together then do not come back together.
const JITTER: f64 = 0.2;

/// The ladder, at a scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ladder {
    scale: f64,
}

impl Default for Ladder {
    fn default() -> Self {
        Self { scale: 1.0 }
    }
}

impl Ladder {
    /// A ladder whose delays are `scale` times those of [`STEPS`] (`RETRY_DELAY_SCALE`); above zero.
    pub const fn scaled(scale: f64) -> Self {
        Self { scale }
    }

    /// The delay of `step`, which counts from 0, or `None` when it is time to give up. `jitter` is in 0..1.
    pub fn delay(self, step: usize, jitter: f64) -> Option<TimeDelta> {
        let seconds = f64::from(STEPS.get(step)?.seconds) * self.scale;
        let spread = (jitter.clamp(0.0, 1.0) * 2.0 - 1.0) * JITTER;
        #[expect(clippy::cast_possible_truncation, reason = "at most 26 million milliseconds, times the scale")]
        let milliseconds = (seconds * (1.0 + spread) * 1_000.0) as i64;
        Some(TimeDelta::milliseconds(milliseconds))
    }

    /// Another delay, at the ladder's scale.
    pub fn scale(self, delay: TimeDelta) -> TimeDelta {
        #[expect(clippy::cast_possible_truncation, reason = "days, in milliseconds, times the scale")]
        let milliseconds = (delay.as_seconds_f64() * self.scale * 1_000.0) as i64;
        TimeDelta::milliseconds(milliseconds)
    }

    /// The longest delay: for what is worth trying for ever.
    pub fn last(self, jitter: f64) -> TimeDelta {
        self.delay(STEPS.len() - 1, jitter).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ladder_has_seven_steps_and_then_ends() {
        let ladder = Ladder::default();
        let seconds: Vec<i64> = (0..).map_while(|n| ladder.delay(n, 0.5)).map(|d| d.num_seconds()).collect();
        assert_eq!(seconds, [5, 30, 120, 600, 1_800, 7_200, 21_600]);
    }

    #[test]
    fn jitter_moves_a_step_by_a_fifth_at_most() {
        let ladder = Ladder::default();
        assert_eq!(ladder.delay(0, 0.0), Some(TimeDelta::milliseconds(4_000)));
        assert_eq!(ladder.delay(0, 1.0), Some(TimeDelta::milliseconds(6_000)));
    }

    #[test]
    fn the_whole_ladder_scales() {
        assert_eq!(Ladder::scaled(0.001).delay(6, 0.5), Some(TimeDelta::milliseconds(21_600)));
        assert_eq!(Ladder::scaled(0.001).last(0.5), TimeDelta::milliseconds(21_600));
    }

    #[test]
    fn a_delay_that_is_longer_has_another_name() {
        let mut names = STEPS.map(|step| step.name);
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
        assert!(STEPS.windows(2).all(|pair| pair[0].seconds < pair[1].seconds));
    }
}
