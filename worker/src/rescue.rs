//! The rescue loop: rows whose time has come and that nobody has finished. In embedded mode it is the whole transport;
//! beside a broker it is what makes a lost message, or a lost broker, cost seconds instead of a payment.

use crate::notify::{Care, Handler, Work};
use chrono::TimeDelta;
use shared::metrics;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Rows that are claimed at once.
const BATCH: i64 = 256;
/// The pause while the database is away.
const OUTAGE_PAUSE: Duration = Duration::from_millis(500);
/// So many times as long as a find took it leaves to the others, when they have work: a quarter of the time is its own.
const REST: u32 = 3;

/// How eagerly it looks.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The pause after it found nothing.
    idle: Duration,
    /// How long a row must have been due: the broker may be about to deliver it.
    grace: TimeDelta,
    /// Whether a find is worth a line in the log.
    finds_are_news: bool,
}

impl Pace {
    /// The broker delivers; this loop only looks after it.
    pub const BESIDE_BROKER: Self =
        Self { idle: Duration::from_millis(500), grace: TimeDelta::seconds(2), finds_are_news: true };
    /// This loop is all there is.
    pub const EMBEDDED: Self =
        Self { idle: Duration::from_millis(25), grace: TimeDelta::zero(), finds_are_news: false };
}

/// Looks until `stop`.
pub async fn run(handler: Handler, pace: Pace, stop: CancellationToken) {
    let mut away = false;
    while !stop.is_cancelled() {
        let begun = Instant::now();
        let found = find(&handler, pace).await;
        let pause = match &found {
            Ok(0) => pace.idle,
            Ok(rows) => {
                metrics::rescued(*rows);
                if pace.finds_are_news {
                    tracing::info!("rescue: {rows} rows were due and not finished");
                }
                // Its sets are alone. While the others have work too, what is due may be in the queues before them.
                if handler.is_idle() { Duration::ZERO } else { begun.elapsed() * REST }
            }
            Err(error) => {
                if !away {
                    tracing::warn!("the database is away; rescue waits for it: {error}");
                }
                OUTAGE_PAUSE
            }
        };
        away = found.is_err();
        if !pause.is_zero() {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
    }
}

/// Looks before it takes its turn, in which nothing else is in hand.
async fn find(handler: &Handler, pace: Pace) -> sqlx::Result<usize> {
    if !handler.finds_due(pace.grace).await? {
        return Ok(0);
    }
    handler.handle(Work::Due(BATCH, pace.grace), Care::Again).await
}
