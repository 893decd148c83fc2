//! The notify log as operators see it: lists, newest first, a page at a time; and one notification with all that is known
//! of it.
//!
//! Ids grow with time, so a list is sorted by the primary key, a page begins right behind the last id of the page before,
//! and a span of time is a stretch of ids. Each of the queries reads one stretch of one index: which one depends on what
//! the list is narrowed to, and is not left to the planner's guess.

pub mod sql;

use super::{NotifyHeaders, NotifyId, NotifyType, ProcessStatus, remedy::remedy};
use crate::orders::OrderNo;
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;

/// What a list is narrowed to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Filter {
    /// Those in this state.
    pub status: Option<ProcessStatus>,
    /// Those of this family.
    pub notify_type: Option<NotifyType>,
    /// Those that name this order.
    pub order_no: Option<OrderNo>,
    /// Arrived at this instant or later.
    pub from: Option<DateTime<Utc>>,
    /// Arrived before this instant.
    pub to: Option<DateTime<Utc>>,
}

/// A notification, as far as lists show it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its key.
    pub id: NotifyId,
    /// How the order is paid that it is about.
    pub payment_method: String,
    /// The family of its event.
    pub notify_type: NotifyType,
    /// The order it names, once that could be read.
    pub order_no: Option<String>,
    /// What became of it so far.
    pub status: ProcessStatus,
    /// Why the last attempt failed.
    pub error_code: Option<String>,
    /// The same in words.
    pub error_message: Option<String>,
    /// How often it was tried again, by itself and by hand.
    pub retry_count: i32,
    /// When a worker looks at it by itself; `None` when nothing is left to do.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// The sender's address.
    pub client_ip: Option<String>,
    /// When it was stored.
    pub created_at: DateTime<Utc>,
    /// When it ended.
    pub processed_at: Option<DateTime<Utc>>,
}

impl Entry {
    /// Whole milliseconds from its arrival to its end; `None` until then.
    pub fn process_time_ms(&self) -> Option<i64> {
        self.processed_at.map(|at| (at - self.created_at).num_milliseconds().max(0))
    }
}

/// An attempt that failed, or what was done by hand.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// When.
    pub at: DateTime<Utc>,
    /// The process that tried, or who let it be tried again.
    pub worker: String,
    /// What the notification became.
    pub outcome: ProcessStatus,
    /// Why.
    pub error_code: Option<String>,
    /// The same in words.
    pub error_message: Option<String>,
}

/// What an operator needs to know of a dead letter.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// Since when it is dead.
    pub since: DateTime<Utc>,
    /// How many are dead for the same reason, itself included; counted up to [`MAX_ALIKE`].
    pub alike: i64,
    /// What the reason means, and what to do.
    pub remedy: &'static str,
}

/// All that is known of one notification.
#[derive(Clone, Debug)]
pub struct Detail {
    /// What lists show.
    pub entry: Entry,
    /// As received.
    pub headers: NotifyHeaders,
    /// The bytes received, as text.
    pub body: String,
    /// Oldest first, at most [`MAX_ATTEMPTS`].
    pub attempts: Vec<Attempt>,
    /// For a dead one.
    pub dead_letter: Option<DeadLetter>,
}

/// The newest rows that are looked through, in the hope for a page of what is received.
const RECENT: i64 = 10_000;
/// Dead letters of one reason are counted up to this many.
pub const MAX_ALIKE: i64 = 100_000;
/// The attempts that are shown, the latest ones. The ladder makes eight, and each retry by hand as many again.
pub const MAX_ATTEMPTS: i64 = 1_000;

/// The newest notifications that pass `filter` and come after `after`, which is the last one of the page before.
pub async fn list(db: &PgPool, filter: &Filter, after: Option<NotifyId>, limit: i64) -> sqlx::Result<Vec<Entry>> {
    use ProcessStatus as S;
    let page = sql::Page::of(filter, after, limit);
    match (&filter.order_no, filter.status, filter.notify_type) {
        (Some(order_no), ..) => sql::of_order(db, order_no, &page).await,
        (None, Some(S::Received), _) => {
            // A large backlog is usually the newest of all; a small one is quickly read whole.
            let recent = sql::recent(db, &page, RECENT).await?;
            let is_full = i64::try_from(recent.len()).is_ok_and(|rows| rows >= limit);
            if is_full { Ok(recent) } else { sql::unfinished(db, &page).await }
        }
        (None, Some(S::Duplicate | S::Retrying | S::Dead | S::Rejected), _) => sql::set_aside(db, &page).await,
        (None, None | Some(S::Processed), Some(NotifyType::Refund)) => sql::refunds(db, &page).await,
        (None, None | Some(S::Processed), _) => sql::any(db, &page).await,
    }
}

/// One notification; `None` when there is no such.
pub async fn find(db: &PgPool, id: NotifyId) -> sqlx::Result<Option<Detail>> {
    let Some((entry, headers, body)) = sql::find(db, id).await? else { return Ok(None) };
    let attempts = sql::attempts(db, id, MAX_ATTEMPTS).await?;
    let dead_letter = match (entry.status, entry.processed_at, &entry.error_code) {
        (ProcessStatus::Dead, Some(since), Some(code)) => {
            let alike = sql::count_dead(db, code, MAX_ALIKE).await?;
            Some(DeadLetter { since, alike, remedy: remedy(code) })
        }
        _ => None,
    };
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Some(Detail { entry, headers, body, attempts, dead_letter }))
}
