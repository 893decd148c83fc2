//! When a credit became visible, to everybody, without asking the tables for it.
//!
//! While a run goes on one connection asks PostgreSQL for nothing but its snapshot, every few milliseconds: which
//! transactions have ended. Afterwards the ledger's rows say which transaction each was written by (`xmin`), and the first
//! snapshot in which that one had ended says by when the credit was there. So a credit's instant is late by the pause between
//! two looks at most, and never early.

use crate::stamp::Clock;
use anyhow::Context;
use sqlx::{Connection, PgConnection};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinHandle;

/// Which transactions had ended, `pg_snapshot`: all below `xmax` but those `running`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Snapshot {
    xmax: u64,
    running: Vec<u64>,
}

impl Snapshot {
    /// Reads `xmin:xmax:running,running`.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':').skip(1);
        let xmax = parts.next()?.parse().ok()?;
        let running = parts.next()?.split(',').filter(|xid| !xid.is_empty());
        Some(Self { xmax, running: running.map(|xid| xid.parse().ok()).collect::<Option<_>>()? })
    }

    /// Whether what the transaction wrote was to be seen. A row knows only the lower half of its transaction's number.
    fn sees(&self, xmin: u32) -> bool {
        let epoch = self.xmax & !u64::from(u32::MAX);
        let xid = epoch | u64::from(xmin);
        // A number above the next one to be given out is of the epoch before.
        let xid = if xid > self.xmax + u64::from(u32::MAX / 2) { xid.saturating_sub(1 << 32) } else { xid };
        xid < self.xmax && !self.running.contains(&xid)
    }
}

/// Looks until it is told to stop.
#[derive(Debug)]
pub struct Observer {
    stop: Arc<AtomicBool>,
    looking: JoinHandle<anyhow::Result<Sightings>>,
}

/// What was seen, and when: nanoseconds since 1970.
#[derive(Debug, Default)]
pub struct Sightings(Vec<(u64, Snapshot)>);

impl Observer {
    /// Begins to look, with this pause between two looks.
    pub async fn start(url: &str, pause: Duration) -> anyhow::Result<Self> {
        let connection = PgConnection::connect(url).await?;
        let stop = Arc::new(AtomicBool::new(false));
        let looking = tokio::spawn(look(connection, pause, Arc::clone(&stop)));
        Ok(Self { stop, looking })
    }

    /// Ends it.
    pub async fn finish(self) -> anyhow::Result<Sightings> {
        self.stop.store(true, Ordering::Relaxed);
        self.looking.await?
    }
}

async fn look(mut connection: PgConnection, pause: Duration, stop: Arc<AtomicBool>) -> anyhow::Result<Sightings> {
    let clock = Clock::start();
    let mut seen: Vec<(u64, Snapshot)> = Vec::new();
    loop {
        // One more look after the end: what is there by then is dated.
        let ending = stop.load(Ordering::Relaxed);
        let text: String = sqlx::query_scalar("select pg_current_snapshot()::text").fetch_one(&mut connection).await?;
        let snapshot = Snapshot::parse(&text).context("a snapshot has another shape")?;
        // Now, and not when it was asked for: what is seen is never claimed too early.
        if seen.last().is_none_or(|(_, last)| *last != snapshot) {
            seen.push((clock.now(), snapshot));
        }
        if ending {
            break;
        }
        tokio::time::sleep(pause).await;
    }
    connection.close().await?;
    Ok(Sightings(seen))
}

impl Sightings {
    /// By when what the transaction wrote was to be seen. What is seen once is seen ever after.
    pub fn first(&self, xmin: u32) -> Option<u64> {
        let at = self.0.partition_point(|(_, snapshot)| !snapshot.sees(xmin));
        self.0.get(at).map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(text: &str) -> Snapshot {
        Snapshot::parse(text).expect("a snapshot")
    }

    #[test]
    fn a_transaction_is_seen_once_it_has_ended() {
        let now = snapshot("100:110:100,105");
        assert!(now.sees(99) && now.sees(104));
        assert!(!now.sees(100) && !now.sees(105), "they run");
        assert!(!now.sees(110) && !now.sees(200), "they have not begun");
        assert_eq!(snapshot("7:7:"), Snapshot { xmax: 7, running: Vec::new() });
        assert_eq!(Snapshot::parse("nonsense"), None);
    }

    #[test]
    fn the_epoch_is_found_again() {
        let epoch = 3_u64 << 32;
        let now = snapshot(&format!("{}:{}:{}", epoch + 100, epoch + 110, epoch + 100));
        assert!(now.sees(99) && !now.sees(100) && !now.sees(110));
        assert!(now.sees(u32::MAX - 5), "it is of the epoch before");
    }

    #[test]
    fn a_credit_is_dated_by_the_first_look_that_shows_it() {
        let looks = [(10, "5:8:5,7"), (20, "5:9:5,8"), (30, "9:12:9"), (40, "12:12:")];
        let sightings = Sightings(looks.map(|(at, text)| (at, snapshot(text))).into());
        let first: Vec<_> = [4, 5, 6, 7, 8, 9, 11, 12].map(|xid| sightings.first(xid)).into();
        assert_eq!(first, [Some(10), Some(30), Some(10), Some(20), Some(30), Some(40), Some(30), None]);
    }
}
