//! Letting notifications be tried again: one at once, or many at a pace. What it means is decided here; the workers find
//! the rows by themselves when they come due, so nothing of it is lost with any process.
//!
//! A row that a worker has in its hands is left alone, and never waited for: no lock of a retry is asked for while another
//! one is held, but for the pace's, which is always the last. So no retry can deadlock, however many run.

pub mod sql;

use super::{NotifyId, NotifyType, ProcessStatus};
use crate::{
    audit::{self, Deed},
    crash, db,
    orders::OrderNo,
    users::UserId,
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;
use sqlx::{PgExecutor, PgPool};

/// Rows that are given back in one transaction. It holds the pace, so others wait for it: a quarter of a second at most.
const CHUNK: i64 = 5_000;

/// Which notifications to try again.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Filter {
    /// Those in this state; see [`can_be_retried`].
    pub status: ProcessStatus,
    /// Those of this family.
    pub notify_type: Option<NotifyType>,
    /// Those that failed for this reason.
    pub error_code: Option<String>,
    /// Those that name this order.
    pub order_no: Option<OrderNo>,
    /// Arrived at this instant or later.
    pub from: Option<DateTime<Utc>>,
    /// Arrived before this instant.
    pub to: Option<DateTime<Utc>>,
    /// The oldest so many; see [`Filter::LIMITS`].
    pub limit: i64,
}

impl Filter {
    /// What `limit` may be.
    pub const LIMITS: std::ops::RangeInclusive<i64> = 1..=100_000;
    /// What `limit` is unless told.
    pub const DEFAULT_LIMIT: i64 = 10_000;

    /// All in this state, at most [`Self::DEFAULT_LIMIT`].
    pub const fn of(status: ProcessStatus) -> Self {
        let limit = Self::DEFAULT_LIMIT;
        Self { status, notify_type: None, error_code: None, order_no: None, from: None, to: None, limit }
    }
}

/// Who lets something be tried again, and why.
#[derive(Clone, Copy, Debug)]
pub struct By<'a> {
    /// A person, or a process that does it by itself.
    pub actor: &'a UserId,
    /// If they said so.
    pub reason: Option<&'a str>,
}

/// What became of the wish to try one again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retried {
    /// It is due now. Whoever publishes its id saves it the rescue loop's pause.
    Accepted,
    /// There is nothing to try, or it is being tried this very moment.
    Unchanged,
}

/// Whether a row in this state can be tried again. The others are about to be tried, or are done.
pub const fn can_be_retried(status: ProcessStatus) -> bool {
    matches!(status, ProcessStatus::Retrying | ProcessStatus::Dead | ProcessStatus::Rejected)
}

/// How many rows [`retry_all`] would accept now.
pub async fn count(db: impl PgExecutor<'_>, filter: &Filter) -> sqlx::Result<i64> {
    if can_be_retried(filter.status) { sql::count(db, filter).await } else { Ok(0) }
}

/// Lets one be tried again, now; `None` when there is no such row.
pub async fn retry_one(db: &PgPool, by: By<'_>, id: NotifyId) -> sqlx::Result<Option<Retried>> {
    let mut tx = db::begin(db).await?;
    let Some(locked) = sql::lock_one(&mut tx, id).await? else {
        let exists = sql::exists(&mut *tx, id).await?;
        return Ok(exists.then_some(Retried::Unchanged));
    };
    let now = sql::now(&mut *tx).await?;
    sql::give_back(&mut tx, &[id], now, 0.0, by.actor).await?;
    let detail = json!({"status": locked.status, "errorCode": locked.error_code, "retryCount": locked.retry_count});
    let (action, subject, reason) = ("notify_log.retry", id.to_string(), by.reason);
    audit::sql::record(&mut tx, &Deed { actor: by.actor, action, subject, reason, detail }).await?;
    tx.commit().await?;
    crash::point("retry stored", "");
    Ok(Some(Retried::Accepted))
}

/// Lets all that pass `filter` be tried again, the oldest first, `per_second` of them in a second; all retries in bulk
/// together keep that pace. Answers those that were accepted.
///
/// # Errors
/// What was accepted before the error stays so: each transaction takes a part, and asking again takes the rest.
pub async fn retry_all(db: &PgPool, by: By<'_>, filter: &Filter, per_second: u32) -> sqlx::Result<Vec<NotifyId>> {
    let mut accepted = Vec::new();
    let mut left = if can_be_retried(filter.status) { filter.limit } else { 0 };
    while left > 0 {
        // Behind the last one: what fails again meanwhile is not met twice.
        let after = accepted.last().copied();
        let ids = retry_chunk(db, by, filter, after, left.min(CHUNK), per_second).await?;
        let taken = i64::try_from(ids.len()).unwrap_or(i64::MAX);
        let is_last = taken < left.min(CHUNK);
        accepted.extend(ids);
        left = if is_last { 0 } else { left - taken };
    }
    Ok(accepted)
}

async fn retry_chunk(
    db: &PgPool,
    by: By<'_>,
    filter: &Filter,
    after: Option<NotifyId>,
    most: i64,
    per_second: u32,
) -> sqlx::Result<Vec<NotifyId>> {
    let mut tx = db::begin(db).await?;
    let ids = sql::lock(&mut tx, filter, after, most).await?;
    if ids.is_empty() {
        return Ok(ids);
    }
    let rows = u32::try_from(ids.len()).unwrap_or(u32::MAX);
    let pause_seconds = 1.0 / f64::from(per_second.max(1));
    let first = sql::take_pace(&mut tx, f64::from(rows) * pause_seconds).await?;
    sql::give_back(&mut tx, &ids, first, pause_seconds, by.actor).await?;
    let detail = json!({"filter": filter, "count": rows, "perSecond": per_second});
    let (action, subject) = ("notify_logs.retry", filter.status.as_str().to_owned());
    audit::sql::record(&mut tx, &Deed { actor: by.actor, action, subject, reason: by.reason, detail }).await?;
    tx.commit().await?;
    crash::point("retry stored", "");
    Ok(ids)
}

/// Lets all be tried again that failed for one of these reasons, dead ones and those that wait for their next attempt:
/// for when the reason is gone.
pub async fn retry_cause(
    db: &PgPool,
    codes: &[&str],
    actor: &UserId,
    reason: &str,
    per_second: u32,
) -> sqlx::Result<Vec<NotifyId>> {
    let mut accepted = Vec::new();
    for code in codes {
        for status in [ProcessStatus::Dead, ProcessStatus::Retrying] {
            let limit = *Filter::LIMITS.end();
            let filter = Filter { error_code: Some((*code).to_owned()), limit, ..Filter::of(status) };
            accepted.extend(retry_all(db, By { actor, reason: Some(reason) }, &filter, per_second).await?);
        }
    }
    Ok(accepted)
}
