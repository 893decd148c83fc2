//! From the callback to the credit, all through RabbitMQ.

use crate::{
    figures::{float, millis, percentile},
    generator::{Replayed, Way, replay},
    installation::{Batch, Installation},
    ledger,
    load::Outcome,
    meter::{Cpu, Meter},
    observer::{Observer, Sightings},
    service::Service,
    wal,
};
use anyhow::ensure;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Between two looks at what is visible; so late may a credit's instant be.
const LOOK_PAUSE: Duration = Duration::from_millis(3);

/// What one run cost, and how long it took.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EndToEnd {
    /// The callbacks.
    pub load: Outcome,
    /// From the first request to the last credit.
    pub seconds: f64,
    /// Payments credited in a second of that.
    pub credited_per_second: f64,
    /// From the ack to the credit, in milliseconds; 0 where the credit was there first.
    pub p50_ms: f64,
    /// 99 of 100.
    pub p99_ms: f64,
    /// The slowest.
    pub max_ms: f64,
    /// Processor seconds for 1,000 payments.
    pub cpu: Cpu,
    /// Bytes of write-ahead log for one payment.
    pub wal_bytes: f64,
    /// Of that, images of whole pages.
    pub wal_page_images: f64,
}

/// Sends the batch and waits for all credits.
pub async fn measure(
    installation: &Installation,
    api: &Service,
    meter: &Meter,
    batch: &Batch,
    way: Way,
) -> anyhow::Result<EndToEnd> {
    let db = &installation.db;
    let observer = Observer::start(&installation.url, LOOK_PAUSE).await?;
    let (wal, cpu) = (wal::now(db).await?, meter.read());
    let Replayed { outcome, acks } = replay(batch, api.address, way).await?;
    installation.note_acked(outcome.acked);
    ledger::wait_for(installation, &batch.orders).await?;
    let (cpu, wal_end) = (meter.since(cpu, outcome.cpu_seconds).per_thousand(outcome.acked), wal::now(db).await?);
    let sightings = observer.finish().await?;
    let written = wal::between(db, &wal, &wal_end).await?;

    let (mut waits, last) = waits(installation, batch, &acks, &sightings).await?;
    waits.sort_unstable();
    let seconds = float(last.saturating_sub(outcome.began_at)) / 1e9;
    let each = |bytes: u64| float(bytes) / float(batch.len());
    let run = EndToEnd {
        credited_per_second: float(batch.len()) / seconds,
        seconds,
        p50_ms: millis(percentile(&waits, 0.5)),
        p99_ms: millis(percentile(&waits, 0.99)),
        max_ms: millis(percentile(&waits, 1.0)),
        cpu,
        wal_bytes: each(written.bytes),
        wal_page_images: each(written.page_images),
        load: outcome,
    };
    say!(
        "end to end, {way}: {:.0} credited/s, {:.0} acks/s, ack to credit p50 {:.0} ms, p99 {:.0} ms",
        run.credited_per_second,
        run.load.per_second,
        run.p50_ms,
        run.p99_ms
    );
    Ok(run)
}

/// How long each waited for its credit, in nanoseconds, and when the last one was there.
pub async fn waits(
    installation: &Installation,
    batch: &Batch,
    acks: &[u64],
    sightings: &Sightings,
) -> anyhow::Result<(Vec<u64>, u64)> {
    let credits = ledger::credits(installation, &batch.orders, sightings).await?;
    ensure!(credits.len() as u64 == batch.len(), "{} of {} credits were seen", credits.len(), batch.len());
    let last = credits.iter().map(|(_, at)| *at).max().unwrap_or(0);
    let wait = |(n, at): &(u64, u64)| {
        let ack = acks.get(usize::try_from(n - batch.orders.start).unwrap_or(usize::MAX)).copied().unwrap_or(0);
        at.saturating_sub(ack)
    };
    Ok((credits.iter().map(wait).collect(), last))
}
