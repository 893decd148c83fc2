//! Taking a refund one step further at WeChat Pay: the call, or the question what became of it (wechatpay-v3.md §7.5).

use super::{
    Refund, RefundEvent, RefundStatus,
    apply::{apply, fail, report_changes},
    decide::Decision,
    schedule,
    sql::{self, Trouble, put_off},
};
use crate::{
    crash, db,
    notify::{Fault, Ladder},
    orders::OrderNo,
    wechat::{Client, Error, NewRefund, error::Refusal},
};
use chrono::TimeDelta;
use sqlx::PgPool;

/// What a step came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Stepped {
    /// The refund changed; so did this order, if it has one.
    Changed(Option<OrderNo>),
    /// Nothing is new. It is looked at again after this time, on this step of the ladder if it is on it.
    Again {
        /// Until then.
        after: TimeDelta,
        /// Which delay of the ladder, from 0.
        step: Option<usize>,
    },
    /// The ladder has ended: a dead letter. Nobody looks at it until an operator wants it.
    Dead,
}

/// Takes a claimed refund one step further. `too_fast` is told when WeChat Pay finds us so. `contested` says that another
/// worker may have it in hand too, and for how long at most: then a refusal is not the last word, for the other's call may be
/// on its way.
///
/// # Errors
/// When the database is away. The refund is another worker's when its claim ends; a step that was done twice does no harm.
pub async fn step(
    db: &PgPool,
    wechat: &Client,
    refund: &Refund,
    ladder: Ladder,
    contested: Option<TimeDelta>,
    too_fast: impl AsyncFnOnce() -> sqlx::Result<()>,
) -> sqlx::Result<Stepped> {
    let found = match refund.status {
        RefundStatus::Pending => call(wechat, refund).await,
        _ => find(wechat, refund).await,
    };
    crash::point("refund called", refund.refund_no.as_str());
    match found {
        Found::Answer(answer) => conclude(db, refund, &answer, ladder).await,
        Found::Refused(refusal) if let Some(after) = contested => {
            let trouble = Trouble { code: &refusal.code.to_lowercase(), message: &refusal.message };
            put_off(db, refund, Some(after), Some(trouble)).await?;
            Ok(Stepped::Again { after, step: None })
        }
        Found::Refused(refusal) => {
            let mut tx = db::begin(db).await?;
            let failed = fail(&mut tx, refund, &reason(&refusal)).await?;
            crash::point("refund applied", refund.refund_no.as_str());
            tx.commit().await?;
            crash::point("refund committed", refund.refund_no.as_str());
            if failed {
                tracing::error!(refund.no = %refund.refund_no, "refund {} failed, and its points are given back: {refusal}", refund.refund_no);
            }
            Ok(Stepped::Changed(refund.order_no.clone()))
        }
        Found::NotEnough(refusal) => {
            // As long again as by now, by PostgreSQL's clock. The ladder is for what fails: its end is no end of waiting.
            let waited = db::now(db).await? - refund.created_at;
            let after = waited.clamp(ladder.delay(0, rand::random()).unwrap_or_default(), ladder.last(rand::random()));
            wait(db, refund, 0, after, "not_enough", "money on the merchant's account", &refusal).await
        }
        Found::NotBelieved(refusal) => {
            // What this worker gets wrong spends no attempt, and keeps no other from it for long.
            let after = ladder.delay(1, rand::random()).unwrap_or_default();
            let cause = "a request that is signed and timed right";
            wait(db, refund, refund.attempts, after, "sign_error", cause, &refusal).await
        }
        Found::Nothing(error) => {
            if error.is_too_fast() {
                too_fast().await?;
            }
            again(db, refund, ladder, &code(&error), &error.to_string()).await
        }
    }
}

/// What WeChat Pay said.
enum Found {
    Answer(crate::wechat::Refund),
    /// Refused for good: the points go back.
    Refused(Refusal),
    /// There is not enough money on the merchant's account, which may take days.
    NotEnough(Refusal),
    /// Our clock is off, or our key is not the merchant's. Another worker's may be right.
    NotBelieved(Refusal),
    /// Nothing that can be concluded from, or a refusal that another try may turn.
    Nothing(Error),
}

/// Asks for the refund. Whatever is not known after that is asked about.
async fn call(wechat: &Client, refund: &Refund) -> Found {
    let new = NewRefund {
        transaction_id: &refund.transaction_id,
        out_refund_no: &refund.refund_no,
        reason: refund.reason.as_deref(),
        refund: refund.amount,
        total: refund.total,
    };
    match wechat.refund(&new).await {
        Ok(answer) => Found::Answer(answer),
        Err(Error::Rejected(refusal)) if refusal.is("NOT_ENOUGH") => Found::NotEnough(refusal),
        Err(Error::NotAuthenticated(refusal)) if refusal.status == 401 => Found::NotBelieved(refusal),
        // It may be refused because it is there already: an earlier call went through although its answer was lost. Only
        // when WeChat Pay has none of this number do the points go back.
        Err(Error::Rejected(refusal)) if is_for_good(&refusal) => match wechat.find_refund(&refund.refund_no).await {
            Ok(answer) => Found::Answer(answer),
            Err(Error::Rejected(absent)) if absent.is("RESOURCE_NOT_EXISTS") => Found::Refused(refusal),
            Err(error) => Found::Nothing(error),
        },
        Err(Error::Rejected(refusal)) => Found::Nothing(Error::Rejected(refusal)),
        Err(error) => match wechat.find_refund(&refund.refund_no).await {
            Ok(answer) => Found::Answer(answer),
            Err(_) => Found::Nothing(error),
        },
    }
}

/// Refusals after which nothing will be executed, however often it is asked for (wechatpay-v3.md §7.5, §7.7).
fn is_for_good(refusal: &Refusal) -> bool {
    const CODES: [&str; 4] = ["INVALID_REQUEST", "USER_ACCOUNT_ABNORMAL", "TRADE_OVERDUE", "REFUND_FEE_MISMATCH"];
    CODES.iter().any(|code| refusal.is(code))
}

async fn find(wechat: &Client, refund: &Refund) -> Found {
    match wechat.find_refund(&refund.refund_no).await {
        Ok(answer) => Found::Answer(answer),
        Err(Error::NotAuthenticated(refusal)) if refusal.status == 401 => Found::NotBelieved(refusal),
        Err(error) => Found::Nothing(error),
    }
}

/// Puts off what has not failed: it waits for `cause`, and somebody must hear of it.
async fn wait(
    db: &PgPool,
    refund: &Refund,
    attempts: i32,
    after: TimeDelta,
    code: &str,
    cause: &str,
    refusal: &Refusal,
) -> sqlx::Result<Stepped> {
    tracing::error!(refund.no = %refund.refund_no, code, "refund {} waits for {cause}: {refusal}", refund.refund_no);
    sql::wait(db, refund, attempts, after, Trouble { code, message: &refusal.message }).await?;
    Ok(Stepped::Again { after, step: None })
}

async fn conclude(
    db: &PgPool,
    refund: &Refund,
    answer: &crate::wechat::Refund,
    ladder: Ladder,
) -> sqlx::Result<Stepped> {
    let report = match answer.report() {
        Ok(Some(report)) => report,
        Ok(None) => {
            return again(db, refund, ladder, "status_unknown", "a state that this service does not know").await;
        }
        Err(fault) => return again(db, refund, ladder, fault.code(), &fault.to_string()).await,
    };
    let event = report.event;
    let mut tx = db::begin(db).await?;
    let decisions = apply(&mut tx, &[&report], ladder).await?;
    crash::point("refund applied", refund.refund_no.as_str());
    tx.commit().await?;
    crash::point("refund committed", refund.refund_no.as_str());
    report_changes(&decisions);
    match decisions.first() {
        Some(Decision::Apply(_)) => Ok(Stepped::Changed(refund.order_no.clone())),
        Some(Decision::Refuse(fault)) => give_up(db, refund, fault).await,
        // Accepted, and nothing else so far.
        _ if event == RefundEvent::Accepted || refund.status == RefundStatus::Abnormal => {
            let after = schedule::next_query(refund.attempts, ladder);
            put_off(db, refund, Some(after), None).await?;
            Ok(Stepped::Again { after, step: None })
        }
        _ => Ok(Stepped::Changed(refund.order_no.clone())),
    }
}

/// Tries again by the ladder while the call is not accepted, by the schedule of questions after.
async fn again(db: &PgPool, refund: &Refund, ladder: Ladder, code: &str, message: &str) -> sqlx::Result<Stepped> {
    let trouble = Some(Trouble { code, message });
    tracing::warn!(refund.no = %refund.refund_no, code, "refund {} did not get on: {message}", refund.refund_no);
    if refund.status != RefundStatus::Pending {
        let after = schedule::next_query(refund.attempts, ladder);
        put_off(db, refund, Some(after), trouble).await?;
        return Ok(Stepped::Again { after, step: None });
    }
    let step = usize::try_from(refund.attempts).unwrap_or(0);
    let after = ladder.delay(step, rand::random());
    put_off(db, refund, after, trouble).await?;
    if let Some(after) = after {
        return Ok(Stepped::Again { after, step: Some(step) });
    }
    tracing::error!(refund.no = %refund.refund_no, code, "dead letter: refund {} cannot be asked for: {message}; put its cause right, then `ops refund retry`", refund.refund_no);
    Ok(Stepped::Dead)
}

/// WeChat Pay's refund is not the one that is here: nothing can be done without a person.
async fn give_up(db: &PgPool, refund: &Refund, fault: &Fault) -> sqlx::Result<Stepped> {
    let message = fault.to_string();
    put_off(db, refund, None, Some(Trouble { code: fault.code(), message: &message })).await?;
    tracing::error!(refund.no = %refund.refund_no, code = fault.code(), "dead letter: refund {}: {fault}", refund.refund_no);
    Ok(Stepped::Dead)
}

fn reason(refusal: &Refusal) -> String {
    format!("{}: {}", refusal.code.to_lowercase(), refusal.message)
}

/// A stable code for a call that came to nothing: WeChat Pay's own, in small letters, or ours.
fn code(error: &Error) -> String {
    match error.refusal().map(|refusal| refusal.code.to_lowercase()) {
        Some(code) if !code.is_empty() => code,
        _ => "outcome_unknown".into(),
    }
}
