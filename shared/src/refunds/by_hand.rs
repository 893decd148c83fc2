//! What an operator does to a refund by hand: having it looked at again, and settling one that is abnormal. Each deed is in
//! the audit log, in its own transaction.

use super::{Decision, Refund, RefundEvent, RefundNo, RefundStatus, Report, apply::apply, sql};
use crate::{
    audit::{self, Deed},
    db,
    notify::{Fault, Ladder, retry::By},
    orders::OrderNo,
    wechat::{self, Client},
};
use serde_json::{Value, json};
use sqlx::{PgPool, PgTransaction};

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum ByHandError {
    /// No such refund.
    #[error("there is no refund {0}")]
    NoRefund(RefundNo),
    /// It is in another state.
    #[error("refund {0} is {1}, not abnormal")]
    NotAbnormal(RefundNo, &'static str),
    /// What is said of it does not fit what is known of it.
    #[error("it does not fit what is known here: {0}")]
    Misfit(Fault),
    /// WeChat Pay did not do it, or nobody knows.
    #[error("WeChat Pay did not take it")]
    Wechat(#[from] wechat::Error),
    /// Our side.
    #[error("the database could not do it")]
    Database(#[from] sqlx::Error),
}

/// How an abnormal refund ended outside this service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The payer has the money.
    Success,
    /// The payer does not get it: the points are given back.
    Closed,
}

/// Has those of the refunds looked at now that are at no end, from the ladder's first step on; answers which.
///
/// # Errors
/// What PostgreSQL says.
pub async fn retry(db: &PgPool, by: By<'_>, refund_nos: &[RefundNo]) -> sqlx::Result<Vec<RefundNo>> {
    let mut tx = db::begin(db).await?;
    let known = sql::lock(&mut tx, &refund_nos.iter().map(RefundNo::as_str).collect::<Vec<_>>()).await?;
    let woken = sql::wake(&mut *tx, refund_nos).await?;
    for refund in woken.iter().filter_map(|refund_no| known.get(refund_no)) {
        let detail =
            json!({"status": refund.status, "attempts": refund.attempts, "failureReason": refund.failure_reason});
        record(&mut tx, by, "refund.retry", &refund.refund_no, detail).await?;
    }
    tx.commit().await?;
    Ok(woken)
}

/// Sends an abnormal refund to the merchant's own settlement account, from where it is paid out by hand
/// (wechatpay-v3.md §7.6); the worker then asks what becomes of it. Answers the refund after it.
///
/// # Errors
/// [`ByHandError`]. After one of WeChat Pay's it may have been done all the same: the worker asks in that case too.
pub async fn redirect(
    db: &PgPool,
    wechat: &Client,
    by: By<'_>,
    refund_no: &RefundNo,
    ladder: Ladder,
) -> Result<Refund, ByHandError> {
    let refund = sql::find(db, refund_no).await?.ok_or_else(|| ByHandError::NoRefund(refund_no.clone()))?;
    let refund_id = abnormal(&refund)?;
    let answer = wechat.redirect_abnormal(refund_id, refund_no).await;
    let answer = match answer {
        // Nothing was done, and nothing is new.
        Err(error @ (wechat::Error::Rejected(_) | wechat::Error::NotAuthenticated(_))) => return Err(error.into()),
        answer => answer,
    };
    let mut tx = db::begin(db).await?;
    let known = json!({"wechatRefundId": refund_id, "outcomeKnown": answer.is_ok()});
    record(&mut tx, by, "refund.redirect", refund_no, known).await?;
    let report = answer.as_ref().ok().and_then(|answer| answer.report().ok().flatten());
    let decision = match report {
        Some(report) => apply(&mut tx, &[&report], ladder).await?.pop(),
        None => None,
    };
    sql::wake(&mut *tx, std::slice::from_ref(refund_no)).await?;
    tx.commit().await?;
    answer?;
    accept(decision)?;
    Ok(sql::find(db, refund_no).await?.unwrap_or(refund))
}

/// Ends an abnormal refund that was settled outside this service, by the same decision as if WeChat Pay had said so.
///
/// # Errors
/// [`ByHandError`]
pub async fn settle(
    db: &PgPool,
    by: By<'_>,
    refund_no: &RefundNo,
    end: End,
    ladder: Ladder,
) -> Result<Refund, ByHandError> {
    let refund = sql::find(db, refund_no).await?.ok_or_else(|| ByHandError::NoRefund(refund_no.clone()))?;
    let refund_id = abnormal(&refund)?;
    let (event, status) = match end {
        End::Success => (RefundEvent::Succeeded, RefundStatus::Success),
        End::Closed => (RefundEvent::Closed, RefundStatus::Closed),
    };
    let report = Report {
        refund_no: refund_no.clone(),
        // Money that settled no order may have come for none of ours; then nothing is looked up by it.
        order_no: refund.order_no.clone().unwrap_or_else(no_order),
        transaction_id: refund.transaction_id.clone(),
        wechat_refund_id: refund_id.to_owned(),
        event,
        succeeded_at: None,
        amount: refund.amount,
        total: refund.total,
    };
    let mut tx = db::begin(db).await?;
    accept(apply(&mut tx, &[&report], ladder).await?.pop())?;
    record(&mut tx, by, "refund.settle", refund_no, json!({"as": status})).await?;
    tx.commit().await?;
    Ok(sql::find(db, refund_no).await?.unwrap_or(refund))
}

fn no_order() -> OrderNo {
    "misdirected".parse().expect("an order number")
}

/// WeChat Pay's number of an abnormal refund.
fn abnormal(refund: &Refund) -> Result<&str, ByHandError> {
    let refund_id = refund.wechat_refund_id.as_deref().filter(|_| refund.status == RefundStatus::Abnormal);
    refund_id.ok_or_else(|| ByHandError::NotAbnormal(refund.refund_no.clone(), refund.status.as_str()))
}

fn accept(decision: Option<Decision>) -> Result<(), ByHandError> {
    match decision {
        Some(Decision::Refuse(fault)) => Err(ByHandError::Misfit(fault)),
        Some(Decision::Apply(_) | Decision::Duplicate) | None => Ok(()),
    }
}

async fn record(
    tx: &mut PgTransaction<'_>,
    by: By<'_>,
    action: &'static str,
    refund_no: &RefundNo,
    detail: Value,
) -> sqlx::Result<()> {
    let deed = Deed { actor: by.actor, action, subject: refund_no.to_string(), reason: by.reason, detail };
    audit::sql::record(tx, &deed).await
}
