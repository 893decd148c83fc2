//! Money that settled no order, given back in one step from the dead letter that told of it.

pub mod sql;

use super::{
    Origin, Parent, Refund, RefundNo, Share,
    create::{NotAllowed, WINDOW, record},
    sql as refund_sql,
};
use crate::{
    audit::{self, Deed},
    db,
    money::Fen,
    notify::{
        self, Closing, Fault, NotifyId, Outcome, ProcessStatus,
        retry::{
            By,
            sql::{give_back, now},
        },
    },
    payments::{self, Payment},
    users::UserId,
    wechat::Opener,
};
use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::{PgPool, PgTransaction};

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// No such notification.
    #[error("there is no notification {0}")]
    NoNotification(NotifyId),
    /// It has not come to its end, or it was never believed.
    #[error("notification {0} is {1}, not dead")]
    NotDead(NotifyId, &'static str),
    /// A worker has it in its hands.
    #[error("notification {0} is being handled this moment")]
    Busy(NotifyId),
    /// It vouches for no money that could be given back.
    #[error("it vouches for no payment that could be given back: {0}")]
    NoPayment(Fault),
    /// The payment cannot be refunded as one that settled nothing.
    #[error("{0}")]
    NotAllowed(NotAllowed),
    /// Our side.
    #[error("the database could not do it")]
    Database(#[from] sqlx::Error),
}

/// What was made of a dead letter.
#[derive(Clone, Debug)]
pub enum GivenBack {
    /// Its money goes back now.
    Now(Refund),
    /// It was going back, or had gone, already; the notification is a duplicate.
    Before(Refund),
}

/// A dead letter and the payment that it vouches for.
#[derive(Clone, Debug)]
pub struct DeadMoney {
    /// Why it is dead.
    pub error_code: Option<String>,
    /// The money.
    pub payment: Payment,
}

/// Opens a dead letter, and changes nothing.
///
/// # Errors
/// [`DeadLetterError`]
pub async fn look(db: &PgPool, opener: &Opener, id: NotifyId) -> Result<DeadMoney, DeadLetterError> {
    let mut tx = db::begin(db).await?;
    let (_, money) = open(&mut tx, opener, id).await?;
    tx.rollback().await?;
    Ok(money)
}

/// Stores the refund of the payment that a dead letter vouches for, and ends the dead letter, together or not at all. Asked
/// again after that refund has come to nothing, it makes another one.
///
/// # Errors
/// [`DeadLetterError`]
pub async fn give_money_back(
    db: &PgPool,
    opener: &Opener,
    by: By<'_>,
    id: NotifyId,
) -> Result<GivenBack, DeadLetterError> {
    let mut tx = db::begin(db).await?;
    let (status, DeadMoney { error_code, payment }) = open(&mut tx, opener, id).await?;
    let given = match create_misdirected(&mut tx, &payment, by.reason, by.actor).await {
        Ok(refund) => GivenBack::Now(refund),
        Err(DeadLetterError::NotAllowed(NotAllowed::NothingLeft)) => {
            let last = refund_sql::misdirected(&mut *tx, &payment.transaction_id).await?.pop();
            GivenBack::Before(last.ok_or(DeadLetterError::NotAllowed(NotAllowed::NothingLeft))?)
        }
        Err(error) => return Err(error),
    };
    let (refund, outcome) = match &given {
        GivenBack::Now(refund) => (refund, Outcome::Processed),
        // Nothing is left to do.
        GivenBack::Before(_) if status != ProcessStatus::Dead => return Ok(given),
        GivenBack::Before(refund) => (refund, Outcome::Duplicate),
    };
    if status == ProcessStatus::Dead {
        // By the way of a retry, so that its failure stays in its attempts and leaves the figures.
        let at = now(&mut *tx).await?;
        give_back(&mut tx, &[id], at, 0.0, by.actor).await?;
        let closing = Closing { id, order_no: Some(payment.order_no.clone()), outcome };
        notify::sql::close(&mut tx, &[closing], by.actor.as_str(), None).await?;
    }
    let detail = json!({"refundNo": refund.refund_no, "amount": refund.amount, "errorCode": error_code,
        "transactionId": payment.transaction_id});
    let (action, subject) = ("notify_log.refund", id.to_string());
    audit::sql::record(&mut tx, &Deed { actor: by.actor, action, subject, reason: by.reason, detail }).await?;
    tx.commit().await?;
    Ok(given)
}

/// Stores a refund of a payment that settled no order: it came for one that was paid already, or for another amount, or for
/// none. Of all of it, less what went back in WeChat Pay's console. No points go back, because none came.
///
/// # Errors
/// [`DeadLetterError::NotAllowed`] when it settled an order after all, or could, or has gone back already.
pub async fn create_misdirected(
    tx: &mut PgTransaction<'_>,
    payment: &Payment,
    reason: Option<&str>,
    requested_by: &UserId,
) -> Result<Refund, DeadLetterError> {
    let parent = refund_sql::lock_parents(tx, &[payment.order_no.as_str()]).await?.remove(&payment.order_no);
    let now = db::now(&mut **tx).await?;
    let going = refund_sql::misdirected(&mut **tx, &payment.transaction_id).await?;
    let amount = left_of(payment, parent.as_ref(), &going, now).map_err(DeadLetterError::NotAllowed)?;
    let new = refund_sql::NewRefund {
        refund_no: &RefundNo::generate(),
        order_no: parent.as_ref().map(|parent| &parent.order_no),
        origin: Origin::Ours,
        amount,
        share: Share::NONE,
        reason,
        transaction_id: &payment.transaction_id,
        total: payment.amount,
        misdirected: true,
        overdrawn: false,
        requested_by: Some(requested_by),
    };
    let refund = refund_sql::insert(tx, &new).await?;
    record(tx, &new).await?;
    Ok(refund)
}

/// What of a payment that settled no order can go back. Pure.
fn left_of(payment: &Payment, order: Option<&Parent>, going: &[Refund], now: DateTime<Utc>) -> Result<Fen, NotAllowed> {
    if let Some(order) = order {
        match payments::decide(&order.payable(), payment) {
            payments::Decision::Duplicate => return Err(NotAllowed::Settled),
            // Its points would be credited for money that is gone.
            payments::Decision::Settle(_) => return Err(NotAllowed::Settles),
            payments::Decision::Refuse(_) => {}
        }
    }
    if now > payment.paid_at + WINDOW {
        return Err(NotAllowed::TooLate);
    }
    let gone: i64 = going.iter().map(|refund| refund.amount.get()).sum();
    let left = Fen::try_from(payment.amount.get() - gone).ok().filter(|left| *left >= Fen::ONE);
    left.ok_or(NotAllowed::NothingLeft)
}

/// Locks the notification, and reads the payment with today's keys.
async fn open(
    tx: &mut PgTransaction<'_>,
    opener: &Opener,
    id: NotifyId,
) -> Result<(ProcessStatus, DeadMoney), DeadLetterError> {
    let Some(stored) = sql::lock(tx, id).await? else {
        let exists = notify::retry::sql::exists(&mut **tx, id).await?;
        return Err(if exists { DeadLetterError::Busy(id) } else { DeadLetterError::NoNotification(id) });
    };
    // What was done already may have to be done again: a refund can come to nothing. What was rejected may be anybody's.
    if !matches!(stored.status, ProcessStatus::Dead | ProcessStatus::Processed | ProcessStatus::Duplicate) {
        return Err(DeadLetterError::NotDead(id, stored.status.as_str()));
    }
    let payment = opener.open_money(&stored.headers, &stored.body).map_err(DeadLetterError::NoPayment)?;
    Ok((stored.status, DeadMoney { error_code: stored.error_code, payment }))
}
