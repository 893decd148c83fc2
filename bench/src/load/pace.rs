//! When requests are to be sent: at a fixed rate, whatever becomes of the ones before. What is late is counted from when it
//! should have been sent (no coordinated omission).

use crate::figures::{float, whole};
use std::{sync::Arc, thread, time::Duration, time::Instant};
use tokio::sync::Semaphore;

/// A fixed rate of arrivals.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    per_second: f64,
}

impl Schedule {
    /// So many a second.
    pub const fn new(per_second: f64) -> Self {
        Self { per_second }
    }

    /// When the `n`-th should be sent, after the start.
    pub fn at(self, n: u64) -> Duration {
        Duration::from_secs_f64(float(n) / self.per_second)
    }

    /// How many should have been sent by then.
    fn due(self, elapsed: Duration) -> u64 {
        // Whatever rounding does: the n-th is due exactly when its time has come.
        let mut due = whole(elapsed.as_secs_f64() * self.per_second).saturating_sub(1);
        while self.at(due) <= elapsed {
            due += 1;
        }
        due
    }
}

/// Gives out a permit for each of `count` requests when its time has come, then `extra` more, so that whoever waits wakes up.
/// On a thread of its own: the runtime's timer ticks in milliseconds.
pub fn give_out(schedule: Schedule, start: Instant, count: u64, extra: usize, permits: &Arc<Semaphore>) {
    let permits = Arc::clone(permits);
    thread::spawn(move || {
        let mut given = 0;
        while given < count {
            let due = schedule.due(start.elapsed()).min(count);
            if due > given {
                permits.add_permits(usize::try_from(due - given).unwrap_or(0));
                given = due;
            }
            thread::sleep(schedule.at(given).saturating_sub(start.elapsed()));
        }
        permits.add_permits(extra);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_due_when_its_time_has_come() {
        let schedule = Schedule::new(3_000.0);
        assert_eq!(schedule.at(0), Duration::ZERO);
        assert_eq!(schedule.at(3_000), Duration::from_secs(1));
        assert_eq!(schedule.due(Duration::ZERO), 1, "the first is due at once");
        for n in [1, 2, 7, 999, 1_000, 123_456] {
            let at = schedule.at(n);
            assert_eq!(schedule.due(at), n + 1, "{n}");
            assert_eq!(schedule.due(at.saturating_sub(Duration::from_micros(1))), n, "{n}");
        }
    }
}
