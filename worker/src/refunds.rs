//! Taking refunds further at WeChat Pay: those that RabbitMQ names, and those that are due. Any number of workers share
//! them: each claims what no other has, and all draw on one budget.

use futures_util::{StreamExt, stream};
use shared::{
    checkout::budget::Budget,
    crash,
    notify::Ladder,
    queue::{Announcer, BrokerConfig, Consumer, Line, Link, Publisher},
    refunds::{
        Refund, RefundNo,
        sql::{claim, count_due},
        step::{Stepped, step},
    },
    wechat::Client,
};
use sqlx::PgPool;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Refunds that one worker has in hand at once.
const CONCURRENCY: usize = 16;
/// Refunds that are claimed at once.
const MAX_CLAIMED: u32 = 64;
/// A claimed refund is another worker's again after this: longer than a call and a question, each with its repeats.
const LEASE: chrono::TimeDelta = chrono::TimeDelta::seconds(30);
/// The pause when nothing was due, and when the budget was empty.
const IDLE_PAUSE: Duration = Duration::from_millis(250);
const BUDGET_PAUSE: Duration = Duration::from_millis(100);
/// The pause before the same work is tried again while the database is away.
const OUTAGE_PAUSE: Duration = Duration::from_millis(500);

/// Takes refunds further. Clones share everything.
#[derive(Clone, Debug)]
pub struct Refunder {
    /// PostgreSQL.
    pub db: PgPool,
    /// WeChat Pay.
    pub wechat: Client,
    /// How fast it may be asked.
    pub budget: Budget,
    /// Tells those who watch an order.
    pub announcer: Announcer,
    /// Brings back what did not get on; `None` without a broker.
    pub publisher: Option<Publisher>,
    /// When.
    pub ladder: Ladder,
}

impl Refunder {
    /// Takes those further that are due, until `stop`: without a broker all of them, beside one those that it lost.
    pub async fn run(self, stop: CancellationToken) {
        let mut away = false;
        while !stop.is_cancelled() {
            let pause = match self.round(None).await {
                Ok(pause) => {
                    away = false;
                    pause
                }
                Err(error) => {
                    if !away {
                        tracing::warn!("the database is away; refunds wait for it: {error}");
                    }
                    away = true;
                    Some(OUTAGE_PAUSE)
                }
            };
            if let Some(length) = pause {
                self::pause(length, &stop).await;
            }
        }
    }

    /// Takes those further that the broker names, until `stop`.
    pub async fn consume(self, broker: BrokerConfig, stop: CancellationToken) {
        let queue = broker.names.of(Line::Refund).main.clone();
        let mut consumer = Consumer::<RefundNo>::new(broker, &queue, Link::default());
        while let Some(batch) = consumer.next(&stop).await {
            while let Err(error) = self.round(Some(&batch.ids)).await {
                tracing::warn!("the database is away; refunds wait for it: {error}");
                if !pause(OUTAGE_PAUSE, &stop).await {
                    return;
                }
            }
            let acked = batch.ack().await;
            crash::point("refund acked", "");
            if let Err(error) = acked {
                consumer.lost(&error, &stop).await;
            }
        }
    }

    /// Looks after what the broker gave up, until `stop`. The rows are what counts: they are due when their claim ends.
    pub async fn consume_dead(self, broker: BrokerConfig, stop: CancellationToken) {
        let queue = broker.names.of(Line::Refund).dead.clone();
        let mut consumer = Consumer::<RefundNo>::new(broker, &queue, Link::default());
        while let Some(batch) = consumer.next(&stop).await {
            for refund_no in &batch.ids {
                tracing::warn!(refund.no = %refund_no, "the broker gave up on refund {refund_no}; it is found by its row");
            }
            if let Err(error) = batch.ack().await {
                consumer.lost(&error, &stop).await;
            }
        }
    }

    /// Takes those further that are due, of `only` or of all, as far as the budget goes; answers how long to pause.
    async fn round(&self, only: Option<&[RefundNo]>) -> sqlx::Result<Option<Duration>> {
        let due = count_due(&self.db, only, MAX_CLAIMED.into()).await?;
        if due == 0 {
            return Ok(Some(IDLE_PAUSE));
        }
        let granted = self.budget.take(&self.db, u32::try_from(due).unwrap_or(MAX_CLAIMED)).await?;
        if granted == 0 {
            return Ok(Some(BUDGET_PAUSE));
        }
        let refunds = claim(&self.db, only, granted.into(), LEASE).await?;
        for refund in &refunds {
            crash::point("refund claimed", refund.refund_no.as_str());
        }
        let steps = stream::iter(refunds).map(|refund| self.step(refund)).buffer_unordered(CONCURRENCY);
        steps.collect::<Vec<_>>().await.into_iter().collect::<sqlx::Result<()>>()?;
        Ok(None)
    }

    async fn step(&self, refund: Refund) -> sqlx::Result<()> {
        let too_fast = async || self.budget.slow_down(&self.db).await;
        match step(&self.db, &self.wechat, &refund, self.ladder, too_fast).await? {
            Stepped::Changed(order_no) => self.announcer.announce(order_no.into_iter().collect()),
            Stepped::Again { after, step: Some(step) } => {
                crash::point("refund put off", refund.refund_no.as_str());
                if let Some(publisher) = &self.publisher {
                    publisher.publish_later(Line::Refund, step, after, &[refund.refund_no]);
                }
            }
            Stepped::Again { step: None, .. } | Stepped::Dead => {}
        }
        Ok(())
    }
}

/// False when the process stops.
async fn pause(length: Duration, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = tokio::time::sleep(length) => true,
        () = stop.cancelled() => false,
    }
}
