//! One callback alone, one after another with pauses: what nobody else slows down.

use crate::{
    figures::{millis, percentile},
    generator::{Replayed, Way, replay},
    installation::Installation,
    ledger,
    load::Outcome,
    observer::Observer,
    phases::end_to_end::waits,
    service::Service,
};
use serde::{Deserialize, Serialize};
use sqlx::{Connection, PgConnection};
use std::time::{Duration, Instant};

/// Between two looks at what is visible.
const LOOK_PAUSE: Duration = Duration::from_millis(1);
/// Between two callbacks, and between two commits.
const PAUSE_MS: u64 = 15;

/// What one callback takes when nothing else goes on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AtRest {
    /// The acks.
    pub load: Outcome,
    /// From the ack to the credit, milliseconds: half of them.
    pub credit_p50_ms: f64,
    /// 99 of 100.
    pub credit_p99_ms: f64,
    /// One row of the same size inserted and committed by one client, milliseconds: half of them.
    pub commit_p50_ms: f64,
}

/// Measures `callbacks` of them, and as many commits: half before and half after.
pub async fn measure(installation: &Installation, api: &Service, callbacks: u64) -> anyhow::Result<AtRest> {
    let batch = installation.batch(callbacks).await?;
    let mut commits = commits(installation, callbacks / 2).await?;
    let observer = Observer::start(&installation.url, LOOK_PAUSE).await?;
    let way = Way { connections: 1, rate: None, pause_ms: PAUSE_MS };
    let Replayed { outcome, acks } = replay(&batch, api.address, way).await?;
    installation.note_acked(outcome.acked);
    ledger::wait_for(installation, &batch.orders).await?;
    let sightings = observer.finish().await?;
    let (mut waits, _) = waits(installation, &batch, &acks, &sightings).await?;
    waits.sort_unstable();
    commits.extend(self::commits(installation, callbacks / 2).await?);
    commits.sort_unstable();
    let rest = AtRest {
        credit_p50_ms: millis(percentile(&waits, 0.5)),
        credit_p99_ms: millis(percentile(&waits, 0.99)),
        commit_p50_ms: millis(percentile(&commits, 0.5)),
        load: outcome,
    };
    say!(
        "at rest: ack p50 {:.2} ms, a commit {:.2} ms; ack to credit p50 {:.1} ms",
        rest.load.p50_ms,
        rest.commit_p50_ms,
        rest.credit_p50_ms
    );
    Ok(rest)
}

/// How long each commit of one row took, nanoseconds.
async fn commits(installation: &Installation, count: u64) -> anyhow::Result<Vec<u64>> {
    let mut connection = PgConnection::connect(&installation.url).await?;
    sqlx::query(
        "create table if not exists bench_commits (id bigint generated always as identity primary key, body text)",
    )
    .execute(&mut connection)
    .await?;
    let (body, mut took) = ("x".repeat(1_200), Vec::new());
    for _ in 0..count {
        let begun = Instant::now();
        sqlx::query("insert into bench_commits (body) values ($1)").bind(&body).execute(&mut connection).await?;
        took.push(u64::try_from(begun.elapsed().as_nanos())?);
        tokio::time::sleep(Duration::from_millis(PAUSE_MS)).await;
    }
    connection.close().await?;
    Ok(took)
}
