//! Asking for a refund: the points go back first, in the transaction that stores it. The call to WeChat Pay is the worker's.

use super::{Origin, Parent, Refund, RefundNo, Share, share, sql};
use crate::{
    audit::{self, Deed},
    checkout::idempotency::{Claim, Key},
    db,
    money::Fen,
    orders::{OrderNo, PaymentStatus, TransactionId},
    users::UserId,
};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use sqlx::{PgPool, PgTransaction};

/// Refunds that one order can have (wechatpay-v3.md §7.4).
pub const MAX_REFUNDS: i64 = 50;
/// How long after the payment money can go back (wechatpay-v3.md §7.4).
pub(super) const WINDOW: TimeDelta = TimeDelta::days(365);

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The order.
    pub order_no: &'a OrderNo,
    /// How much of it; `None` for all that is left.
    pub amount: Option<Fen>,
    /// Shown to the payer, 1 to 80 bytes.
    pub reason: Option<&'a str>,
    /// Points that are not there any more are taken all the same.
    pub allow_negative_balance: bool,
    /// Who asks.
    pub requested_by: &'a UserId,
}

/// Why there is no refund. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// No such order.
    #[error("there is no such order")]
    NoOrder,
    /// The order does not allow it.
    #[error("{0}")]
    NotAllowed(NotAllowed),
    /// The user has spent some of the points.
    #[error("{0} points are missing on the user's account")]
    InsufficientPoints(i64),
    /// The key stands for another request.
    #[error("this idempotency key was used with another request")]
    KeyConflict,
    /// Our side.
    #[error("the refund could not be stored")]
    Database(#[from] sqlx::Error),
}

/// Why an order does not allow a refund.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    /// No money came.
    #[error("only a paid order can be refunded")]
    NotPaid,
    /// All of it has gone back, or is going.
    #[error("nothing is left to refund, those under way included")]
    NothingLeft,
    /// Some of it has.
    #[error("at most {0} fen are left to refund, those under way counted as gone")]
    TooMuch(i64),
    /// WeChat Pay allows no more.
    #[error("an order can have {MAX_REFUNDS} refunds at most")]
    TooMany,
    /// WeChat Pay allows a year.
    #[error("an order can be refunded within 365 days of its payment")]
    TooLate,
    /// Money that settled no order was looked for, and it settled one.
    #[error("this payment settled its order: refund the order")]
    Settled,
    /// The same, and it can settle one yet.
    #[error("this payment can still settle its order: let its notification be tried again")]
    Settles,
}

/// A refund that was asked for.
#[derive(Debug)]
pub enum Created {
    /// It was made now.
    New(Refund),
    /// An equal request with the same key made it before.
    Repeated(Refund),
}

impl Created {
    /// The refund, new or not.
    pub fn refund(self) -> Refund {
        match self {
            Self::New(refund) | Self::Repeated(refund) => refund,
        }
    }
}

/// What a request comes to, by the order under its lock: how much, and the points for it. Pure.
///
/// # Errors
/// [`NotAllowed`]
pub fn allowed(parent: &Parent, amount: Option<Fen>, now: DateTime<Utc>) -> Result<(Fen, Share), NotAllowed> {
    let (PaymentStatus::Paid | PaymentStatus::PartiallyRefunded, Some(paid_at)) = (parent.status, parent.paid_at)
    else {
        return Err(if parent.status == PaymentStatus::Refunded {
            NotAllowed::NothingLeft
        } else {
            NotAllowed::NotPaid
        });
    };
    if now > paid_at + WINDOW {
        return Err(NotAllowed::TooLate);
    }
    if parent.left() <= 0 {
        return Err(NotAllowed::NothingLeft);
    }
    if parent.count >= MAX_REFUNDS {
        return Err(NotAllowed::TooMany);
    }
    let left = Fen::try_from(parent.left()).unwrap_or(Fen::ZERO);
    let amount = amount.unwrap_or(left);
    if amount > left {
        return Err(NotAllowed::TooMuch(left.get()));
    }
    Ok((amount, share(parent, amount)))
}

/// What a request would do.
#[derive(Clone, Debug)]
pub struct Preview {
    /// Whose points.
    pub user_id: UserId,
    /// What goes back.
    pub amount: Fen,
    /// The points for it, bonus included.
    pub points: i64,
    /// What is left of them then.
    pub balance_after: i64,
}

/// Says what [`create`] would do now, and does nothing.
///
/// # Errors
/// [`CreateError`]
pub async fn preview(db: &PgPool, request: &Request<'_>) -> Result<Preview, CreateError> {
    let mut tx = db::begin(db).await?;
    let Prepared { parent, amount, taken, balance_after, .. } = prepare(&mut tx, request).await?;
    tx.rollback().await?;
    Ok(Preview { user_id: parent.user_id, amount, points: taken.sum(), balance_after })
}

/// What a request comes to, with the order and the account locked.
struct Prepared {
    parent: Parent,
    transaction_id: TransactionId,
    amount: Fen,
    taken: Share,
    balance_after: i64,
    overdrawn: bool,
}

async fn prepare(tx: &mut PgTransaction<'_>, request: &Request<'_>) -> Result<Prepared, CreateError> {
    let parent = sql::lock_parents(tx, &[request.order_no.as_str()]).await?.remove(request.order_no);
    let parent = parent.ok_or(CreateError::NoOrder)?;
    let now = db::now(&mut **tx).await?;
    let (amount, taken) = allowed(&parent, request.amount, now).map_err(CreateError::NotAllowed)?;
    let transaction_id = parent.transaction_id.clone().ok_or(CreateError::NotAllowed(NotAllowed::NotPaid))?;
    let balances = sql::lock_accounts(tx, &[parent.user_id.as_str()]).await?;
    let balance_after = balances.get(&parent.user_id).copied().unwrap_or(0) - taken.sum();
    let overdrawn = taken.sum() > 0 && balance_after < 0;
    if overdrawn && !request.allow_negative_balance {
        return Err(CreateError::InsufficientPoints(-balance_after));
    }
    Ok(Prepared { parent, transaction_id, amount, taken, balance_after, overdrawn })
}

/// Stores a refund and takes its points back; or answers the one that an equal request with the same `key` made.
///
/// # Errors
/// [`CreateError`]
pub async fn create(db: &PgPool, request: &Request<'_>, key: Option<&Key>) -> Result<Created, CreateError> {
    let mut tx = db::begin(db).await?;
    let refund_no = RefundNo::generate();
    if let Some(key) = key {
        match key.claim(&mut tx, refund_no.as_str()).await? {
            Claim::New => {}
            Claim::Conflict => return Err(CreateError::KeyConflict),
            Claim::Same(number) => {
                let number = number.parse().map_err(|_| sqlx::Error::RowNotFound)?;
                let first = sql::find(&mut *tx, &number).await?.ok_or(sqlx::Error::RowNotFound)?;
                return Ok(Created::Repeated(first));
            }
        }
    }
    let Prepared { parent, transaction_id, amount, taken, overdrawn, .. } = prepare(&mut tx, request).await?;
    let new = sql::NewRefund {
        refund_no: &refund_no,
        order_no: Some(request.order_no),
        origin: Origin::Ours,
        amount,
        share: taken,
        reason: request.reason,
        transaction_id: &transaction_id,
        total: parent.amount,
        misdirected: false,
        overdrawn,
        requested_by: Some(request.requested_by),
    };
    let refund = sql::insert(&mut tx, &new).await?;
    let whose = (request.order_no, &parent.user_id);
    sql::move_points(&mut tx, whose, &refund_no, crate::points::EntryKind::Refund, taken).await?;
    record(&mut tx, &new).await?;
    tx.commit().await?;
    tracing::info!(refund.no = %refund_no, order.no = %request.order_no, "refund {refund_no} of {} fen asked for", amount.get());
    Ok(Created::New(refund))
}

/// Keeps in the audit log who asked for a refund.
pub(super) async fn record(tx: &mut PgTransaction<'_>, new: &sql::NewRefund<'_>) -> sqlx::Result<()> {
    let Some(actor) = new.requested_by else { return Ok(()) };
    let deed = Deed {
        actor,
        action: "refund.create",
        subject: new.refund_no.to_string(),
        reason: new.reason,
        detail: json!({"orderNo": new.order_no.map(OrderNo::as_str), "amount": new.amount.get(),
            "points": new.share.sum(), "transactionId": new.transaction_id.as_str(), "overdrawn": new.overdrawn}),
    };
    audit::sql::record(tx, &deed).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parent(change: impl FnOnce(&mut Parent)) -> Parent {
        let mut parent = crate::refunds::decide::paid_parent("ORDER1");
        change(&mut parent);
        parent
    }

    fn fen(amount: i64) -> Fen {
        Fen::try_from(amount).expect("an amount")
    }

    fn check(parent: &Parent, amount: Option<i64>, expected: Result<i64, NotAllowed>) {
        let amount = amount.map(fen);
        assert_eq!(allowed(parent, amount, DateTime::UNIX_EPOCH).map(|(amount, _)| amount.get()), expected);
    }

    #[test]
    fn never_more_than_was_paid_with_those_under_way_counted() {
        check(&parent(|_| ()), None, Ok(100));
        check(&parent(|_| ()), Some(101), Err(NotAllowed::TooMuch(100)));
        check(&parent(|parent| parent.live.amount = 60), None, Ok(40));
        check(&parent(|parent| parent.live.amount = 60), Some(41), Err(NotAllowed::TooMuch(40)));
        check(&parent(|parent| parent.live.amount = 100), Some(1), Err(NotAllowed::NothingLeft));
    }

    #[test]
    fn only_what_was_paid_within_a_year_and_fifty_times() {
        for status in PaymentStatus::ALL {
            let is_paid = matches!(status, PaymentStatus::Paid | PaymentStatus::PartiallyRefunded);
            let answer = allowed(&parent(|parent| parent.status = status), None, DateTime::UNIX_EPOCH);
            assert_eq!(answer.is_ok(), is_paid, "{status:?}");
        }
        check(&parent(|parent| parent.count = 50), Some(1), Err(NotAllowed::TooMany));
        let late = DateTime::UNIX_EPOCH + WINDOW;
        assert!(allowed(&parent(|_| ()), None, late).is_ok());
        assert_eq!(allowed(&parent(|_| ()), None, late + TimeDelta::seconds(1)), Err(NotAllowed::TooLate));
    }
}
