//! Taking refunds further at WeChat Pay: those that RabbitMQ names, and those that are due. Any number of workers share
//! them: each claims what no other has, and all draw on one budget.

use chrono::TimeDelta;
use futures_util::{StreamExt, stream};
use shared::{
    checkout::budget::Budget,
    crash,
    notify::Ladder,
    queue::{Announcer, Batch, BrokerConfig, Consumer, Line, Link, Publisher},
    refunds::{
        Refund, RefundNo,
        sql::{Wanted, claim, count_due},
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
const LEASE: TimeDelta = TimeDelta::seconds(30);
/// What the broker has not delivered after this is taken without it.
const BROKER_GRACE: TimeDelta = TimeDelta::seconds(2);
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

/// What a round came to.
enum Round {
    /// Something was due, and was taken a step further.
    Worked,
    /// Nothing was due.
    Idle,
    /// WeChat Pay must not be asked yet.
    TooFast,
}

impl Refunder {
    /// Takes those further that are due, until `stop`: without a broker all of them, beside one those that it lost.
    pub async fn run(self, stop: CancellationToken) {
        let early = if self.publisher.is_some() { -BROKER_GRACE } else { TimeDelta::zero() };
        let mut away = false;
        while !stop.is_cancelled() {
            let round = self.round(Wanted { only: None, early }).await;
            away &= round.is_err();
            let pause = match round {
                Ok(Round::Worked) => None,
                Ok(Round::Idle) => Some(IDLE_PAUSE),
                Ok(Round::TooFast) => Some(BUDGET_PAUSE),
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
            if !self.finish(&batch, &stop).await {
                return;
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

    /// Takes those further that the batch names, until none of them is due; false when the process stops first.
    async fn finish(&self, batch: &Batch<RefundNo>, stop: &CancellationToken) -> bool {
        // What comes again was in the hands of a worker that is gone, or has lost its connection: its claim does not count.
        let mut early = if batch.is_repeated { LEASE } else { TimeDelta::zero() };
        loop {
            let length = match self.round(Wanted { only: Some(&batch.ids), early }).await {
                Ok(Round::Worked) => {
                    early = TimeDelta::zero();
                    continue;
                }
                Ok(Round::Idle) => return true,
                Ok(Round::TooFast) => BUDGET_PAUSE,
                Err(error) => {
                    tracing::warn!("the database is away; refunds wait for it: {error}");
                    OUTAGE_PAUSE
                }
            };
            if !pause(length, stop).await {
                return false;
            }
        }
    }

    /// Takes those further that are wanted and due, as far as the budget goes.
    async fn round(&self, wanted: Wanted<'_>) -> sqlx::Result<Round> {
        let due = count_due(&self.db, wanted, MAX_CLAIMED.into()).await?;
        if due == 0 {
            return Ok(Round::Idle);
        }
        let granted = self.budget.take(&self.db, u32::try_from(due).unwrap_or(MAX_CLAIMED)).await?;
        if granted == 0 {
            return Ok(Round::TooFast);
        }
        let refunds = claim(&self.db, wanted, granted.into(), LEASE).await?;
        if refunds.is_empty() {
            return Ok(Round::Idle);
        }
        for refund in &refunds {
            crash::point("refund claimed", refund.refund_no.as_str());
        }
        // Taken from a worker that may be alive, and calling.
        let contested = (wanted.early > TimeDelta::zero()).then_some(LEASE);
        let steps = stream::iter(refunds).map(|refund| self.step(refund, contested)).buffer_unordered(CONCURRENCY);
        steps.collect::<Vec<_>>().await.into_iter().collect::<sqlx::Result<()>>()?;
        Ok(Round::Worked)
    }

    async fn step(&self, refund: Refund, contested: Option<TimeDelta>) -> sqlx::Result<()> {
        let too_fast = async || self.budget.slow_down(&self.db).await;
        match step(&self.db, &self.wechat, &refund, self.ladder, contested, too_fast).await? {
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
