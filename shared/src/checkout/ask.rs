//! Asking WeChat Pay about an order, and ending one: query, close there, then mark here. A race between a payment and a
//! close always ends in the truth that WeChat Pay holds.

use crate::{
    crash, db,
    notify::Fault,
    orders::{Order, OrderEvent, OrderNo, sql},
    payments::{
        Decision,
        apply::{apply, report_late},
    },
    wechat::{Client, Error, TradeState},
};
use sqlx::PgPool;

/// What WeChat Pay holds about an order. What it holds of a payment is applied by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It is paid.
    Paid,
    /// It can still be paid.
    Open,
    /// It cannot be paid any more.
    Closed,
    /// It was never made there.
    Absent,
}

/// Why nothing could be concluded.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// WeChat Pay gave no usable answer.
    #[error("WeChat Pay could not be asked")]
    Wechat(#[from] Error),
    /// It is paid there, but the payment must not be applied here. A person must look.
    #[error("WeChat Pay's payment does not fit the order: {0}")]
    Misfit(Fault),
    /// Our side.
    #[error("the database could not be asked")]
    Database(#[from] sqlx::Error),
}

impl AskError {
    /// Whether WeChat Pay finds us too fast.
    pub fn is_too_fast(&self) -> bool {
        matches!(self, Self::Wechat(error) if error.is_too_fast())
    }
}

/// Asks about an order, and applies a payment that was not known here.
pub async fn ask(db: &PgPool, wechat: &Client, order_no: &OrderNo) -> Result<Truth, AskError> {
    let found = wechat.find_order(order_no).await;
    crash::point("order asked", order_no.as_str());
    let transaction = match found {
        Ok(transaction) => transaction,
        Err(Error::Rejected(refusal)) if refusal.is("ORDER_NOT_EXIST") => return Ok(Truth::Absent),
        Err(error) => return Err(error.into()),
    };
    match transaction.trade_state {
        TradeState::Success | TradeState::Refund => {}
        TradeState::Closed => return Ok(Truth::Closed),
        // A state that this service does not know is none to conclude anything from.
        TradeState::NotPay | TradeState::Unknown => return Ok(Truth::Open),
    }
    let payment = wechat.payment(&transaction).map_err(AskError::Misfit)?;
    let mut tx = db::begin(db).await?;
    let mut decisions = apply(&mut tx, &[&payment]).await?;
    crash::point("payment applied", order_no.as_str());
    tx.commit().await?;
    crash::point("payment committed", order_no.as_str());
    report_late(&decisions);
    match decisions.pop() {
        Some(Decision::Settle(settlement)) => {
            tracing::info!(order.no = %order_no, "order {order_no} was {:?} and is paid, as WeChat Pay says", settlement.from);
            Ok(Truth::Paid)
        }
        Some(Decision::Duplicate) => Ok(Truth::Paid),
        Some(Decision::Refuse(fault)) => Err(AskError::Misfit(fault)),
        None => unreachable!("there is one decision for each payment"),
    }
}

/// How an order that nobody paid ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its buyer gave it up.
    Cancelled,
    /// Its time was up.
    Expired,
}

impl End {
    const fn event(self) -> OrderEvent {
        match self {
            Self::Cancelled => OrderEvent::Cancelled,
            Self::Expired => OrderEvent::Expired,
        }
    }
}

/// How it truly ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// As was asked.
    AsAsked,
    /// It was paid before it could be closed; that is applied.
    Paid,
    /// Somebody else ended it meanwhile.
    Otherwise,
}

/// Ends a pending order. Never marks it before WeChat Pay has closed it.
///
/// # Errors
/// When nothing could be concluded; the order is then as it was.
pub async fn end(db: &PgPool, wechat: &Client, order: &Order, end: End) -> Result<Ended, AskError> {
    let order_no = &order.order_no;
    match ask(db, wechat, order_no).await? {
        Truth::Paid => return Ok(Ended::Paid),
        Truth::Closed | Truth::Absent => {}
        Truth::Open => {
            if let Err(error) = wechat.close(order_no).await {
                // Paid at the last moment, closed by somebody else, or not known: only asking again tells.
                match ask(db, wechat, order_no).await? {
                    Truth::Paid => return Ok(Ended::Paid),
                    Truth::Closed | Truth::Absent => {}
                    Truth::Open => return Err(error.into()),
                }
            }
        }
    }
    let Ok(status) = order.status.after(end.event()) else { return Ok(Ended::Otherwise) };
    crash::point("order closed", order_no.as_str());
    let is_ended = sql::end_unpaid(db, order_no, status).await?;
    crash::point("order ended", order_no.as_str());
    Ok(if is_ended { Ended::AsAsked } else { Ended::Otherwise })
}
