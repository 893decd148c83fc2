//! The rescue loop: rows whose time has come and that nobody has finished. In embedded mode it is the whole transport;
//! beside a broker it is what makes a lost message, or a lost broker, cost seconds instead of a payment.

use crate::notify::{Care, Handler, Work};
use chrono::TimeDelta;
use shared::metrics;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Rows that are claimed at once.
const BATCH: i64 = 256;
/// The pause while the database is away.
const OUTAGE_PAUSE: Duration = Duration::from_millis(500);

/// How eagerly it looks.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The pause after it found nothing, or while the broker brings enough.
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
        let pause = match find(&handler, pace).await {
            Ok(0) => Some(pace.idle),
            Ok(rows) => {
                metrics::rescued(rows);
                if pace.finds_are_news {
                    tracing::info!("rescue: {rows} rows were due and not finished");
                }
                // While the others have work they get on faster without this loop, whose sets are alone: what is due is
                // likely to be in the queues before them.
                (!handler.is_idle()).then_some(pace.idle)
            }
            Err(error) => {
                if !away {
                    tracing::warn!("the database is away; rescue waits for it: {error}");
                }
                away = true;
                Some(OUTAGE_PAUSE)
            }
        };
        if pause != Some(OUTAGE_PAUSE) {
            away = false;
        }
        if let Some(pause) = pause {
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
