//! Asking WeChat Pay about pending orders on a schedule, so that points arrive although a callback did not, and ending
//! those whose time is up. Any number of workers share the orders (each claims what no other has) and the budget.

use futures_util::{StreamExt, stream};
use shared::{
    checkout::{AskError, End, Ended, Truth, ask, budget::Budget, end, schedule::next_check},
    crash, db,
    orders::{Order, PaymentStatus, sql},
    queue::Announcer,
    wechat::Client,
};
use sqlx::PgPool;
use std::{error::Error, time::Duration};
use tokio_util::sync::CancellationToken;

/// Orders that one worker asks about at once.
const CONCURRENCY: usize = 16;
/// Orders that are claimed at once.
const MAX_CLAIMED: u32 = 48;
/// A claimed order is another worker's again after this: longer than three calls that hang, one after the other, of 12 s each,
/// which is what all that are claimed take at most when nobody answers.
const LEASE_SECONDS: f64 = 40.0;
/// The pause when nothing was due, and when the budget was empty.
const IDLE_PAUSE: Duration = Duration::from_millis(500);
const BUDGET_PAUSE: Duration = Duration::from_millis(100);

/// Asks about orders, and ends them.
#[derive(Clone, Debug)]
pub struct Confirmer {
    /// PostgreSQL.
    pub db: PgPool,
    /// WeChat Pay.
    pub wechat: Client,
    /// How fast it may be asked.
    pub budget: Budget,
    /// Tells those who watch an order.
    pub announcer: Announcer,
}

impl Confirmer {
    /// Asks until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut away = false;
        while !stop.is_cancelled() {
            let pause = match self.round().await {
                Ok(pause) => {
                    away = false;
                    pause
                }
                Err(error) => {
                    if !away {
                        tracing::warn!("the database is away; confirming waits for it: {error}");
                    }
                    away = true;
                    Some(IDLE_PAUSE)
                }
            };
            if let Some(pause) = pause {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stop.cancelled() => {}
                }
            }
        }
    }

    /// Asks about what is due, as far as the budget goes; answers how long to pause.
    async fn round(&self) -> sqlx::Result<Option<Duration>> {
        let due = sql::count_due(&self.db, MAX_CLAIMED.into()).await?;
        if due == 0 {
            return Ok(Some(IDLE_PAUSE));
        }
        let granted = self.budget.take(&self.db, u32::try_from(due).unwrap_or(MAX_CLAIMED)).await?;
        if granted == 0 {
            return Ok(Some(BUDGET_PAUSE));
        }
        let orders = sql::claim_due(&self.db, granted.into(), LEASE_SECONDS).await?;
        let checks = stream::iter(orders).map(|order| self.check(order)).buffer_unordered(CONCURRENCY);
        checks.collect::<Vec<_>>().await.into_iter().collect::<sqlx::Result<()>>()?;
        Ok(None)
    }

    /// Asks about one order, and says when to ask again.
    async fn check(&self, order: Order) -> sqlx::Result<()> {
        // What `now` is must be the same to all workers.
        let is_overdue = db::now(&self.db).await? >= order.expired_at;
        let concluded = if is_overdue {
            end(&self.db, &self.wechat, &order, End::Expired).await.map(|ended| ended != Ended::Otherwise)
        } else {
            match ask(&self.db, &self.wechat, &order.order_no).await {
                // Closed there and pending here: whoever cancelled it is about to mark it, or died.
                Ok(Truth::Closed) => Ok(sql::end_unpaid(&self.db, &order.order_no, PaymentStatus::Cancelled).await?),
                Ok(truth) => Ok(truth == Truth::Paid),
                Err(error) => Err(error),
            }
        };
        crash::point("order checked", order.order_no.as_str());
        match concluded {
            Ok(true) => {
                self.announcer.announce(vec![order.order_no]);
                Ok(())
            }
            Err(AskError::Misfit(fault)) => {
                tracing::error!(order.no = %order.order_no, code = fault.code(), "WeChat Pay's order does not fit ours; not asked about again: {fault}");
                sql::check_at(&self.db, &order.order_no, None).await
            }
            Err(AskError::Database(error)) => Err(error),
            Ok(false) => self.ask_again(&order).await,
            Err(error) => {
                tracing::warn!(order.no = %order.order_no, error = &error as &dyn Error, "an order could not be confirmed");
                if error.is_too_fast() {
                    self.budget.slow_down(&self.db).await?;
                }
                self.ask_again(&order).await
            }
        }
    }

    async fn ask_again(&self, order: &Order) -> sqlx::Result<()> {
        let at = next_check(order.created_at, order.expired_at, db::now(&self.db).await?);
        sql::check_at(&self.db, &order.order_no, Some(at)).await
    }
}
