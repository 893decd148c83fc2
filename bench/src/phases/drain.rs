//! A backlog: callbacks that were stored while no worker ran, and a worker that comes.

use crate::{
    figures::float, installation::Installation, ledger, observer::Observer, proc, service::Service, stamp::Clock,
};
use serde::{Deserialize, Serialize};
use std::{ops::Range, time::Duration};

/// Between two looks at what is visible.
const LOOK_PAUSE: Duration = Duration::from_millis(10);
/// Between two looks at the worker's memory.
const MEMORY_PAUSE: Duration = Duration::from_millis(250);

/// How a backlog went away.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Drain {
    /// Callbacks in it.
    pub backlog: u64,
    /// From the worker's start to the last credit.
    pub seconds: f64,
    /// Credits in a second of that.
    pub credited_per_second: f64,
    /// Credits in a second of each tenth of the backlog, in order.
    pub tenths: Vec<f64>,
    /// The worker's memory in bytes, at equal distances in time.
    pub memory: Vec<u64>,
}

impl Drain {
    /// Memory in the last quarter of the time, against the second one: what grows with the backlog shows here.
    pub fn memory_growth(&self) -> f64 {
        let quarter = (self.memory.len() / 4).max(1);
        let peak = |at: usize| self.memory.iter().skip(at).take(quarter).max().copied().unwrap_or(0);
        float(peak(3 * quarter)) / float(peak(quarter).max(1))
    }
}

/// Starts a worker and waits until it has credited these orders, whose callbacks are stored.
pub async fn measure(installation: &Installation, orders: &Range<u64>) -> anyhow::Result<(Drain, Service)> {
    let observer = Observer::start(&installation.url, LOOK_PAUSE).await?;
    let began_at = Clock::start().now();
    let worker = installation.start("worker").await?;
    let (pid, mut memory) = (worker.pid(), Vec::new());
    let waiting = ledger::wait_for(installation, orders);
    tokio::pin!(waiting);
    loop {
        tokio::select! {
            waited = &mut waiting => break waited?,
            () = tokio::time::sleep(MEMORY_PAUSE) => memory.push(proc::memory_of(pid).now),
        }
    }
    let sightings = observer.finish().await?;
    let credits = ledger::credits(installation, orders, &sightings).await?;
    let mut times: Vec<u64> = credits.iter().map(|(_, at)| *at).collect();
    times.sort_unstable();
    let backlog = orders.end - orders.start;
    let seconds = float(times.last().copied().unwrap_or(0).saturating_sub(began_at)) / 1e9;
    let drain = Drain {
        backlog,
        seconds,
        credited_per_second: float(backlog) / seconds,
        tenths: tenths(&times, began_at),
        memory,
    };
    say!(
        "backlog of {backlog}: {:.0} credited/s, worker's memory {:.0} MB at most",
        drain.credited_per_second,
        float(proc::memory_of(pid).peak) / 1e6
    );
    Ok((drain, worker))
}

/// The rate of each tenth. `times` are in order.
fn tenths(times: &[u64], began_at: u64) -> Vec<f64> {
    let mut since = began_at;
    let parts = times.chunks(times.len().div_ceil(10).max(1));
    let rate = |part: &[u64]| {
        let until = part.last().copied().unwrap_or(since);
        let seconds = float(until.saturating_sub(since)) / 1e9;
        since = until;
        float(part.len() as u64) / seconds.max(1e-9)
    };
    parts.map(rate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tenth_has_its_rate() {
        let second = 1_000_000_000;
        let times: Vec<u64> = (1..=100).map(|n| n * second / 10).collect();
        let rates = tenths(&times, 0);
        assert_eq!(rates.len(), 10);
        assert!(rates.iter().all(|rate| (rate - 10.0).abs() < 0.01), "{rates:?}");
    }

    #[test]
    fn memory_that_stays_does_not_grow() {
        let drain = |memory: &[u64]| Drain {
            backlog: 1,
            seconds: 1.0,
            credited_per_second: 1.0,
            tenths: Vec::new(),
            memory: memory.to_vec(),
        };
        assert!((drain(&[10, 40, 50, 50, 50, 50, 50, 50]).memory_growth() - 1.0).abs() < 1e-9);
        assert!(drain(&[10, 40, 50, 60, 70, 80, 90, 100]).memory_growth() > 1.5);
    }
}
