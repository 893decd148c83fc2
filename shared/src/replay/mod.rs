//! Replaying the notify log: what would today's code make of what came then? Stored notifications go through
//! [`handling`](crate::handling) once more, in transactions that are rolled back; what would change can then be applied.
//!
//! Sets are looked at whole, which is cheap where nothing changes. What does is replayed by itself, in a transaction of its own:
//! so locks are taken in the order in which all others take them, and each row is applied alone or not at all.

mod sql;

use crate::{
    audit::{self, Deed},
    db,
    handling::{Handled, fault_of, handle},
    notify::{Claimed, Closing, Fault, Ladder, NotifyId, NotifyType, Outcome, ProcessStatus, retry::By},
    orders::OrderNo,
    users::UserId,
    wechat::Opener,
};
use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::{PgPool, PgTransaction};
use std::sync::Arc;

/// Rows that are looked at in one transaction.
const SET: i64 = 256;
/// Where the ladder has any jitter: nothing here waits for it.
const JITTER: f64 = 0.5;

/// Which notifications: those that have ended, but for those that the door refused, and those that killed workers.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Arrived at this instant or later.
    pub from: DateTime<Utc>,
    /// Arrived before this instant.
    pub to: DateTime<Utc>,
    /// Those that name this order.
    pub order_no: Option<OrderNo>,
}

/// A status, and the error code that goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The status.
    pub status: ProcessStatus,
    /// The code.
    pub error_code: Option<String>,
}

/// A stored notification that has ended.
#[derive(Clone, Debug)]
struct Stored {
    claimed: Claimed,
    state: State,
}

/// What would change, or has.
#[derive(Clone, Debug)]
pub struct Change {
    /// Which notification.
    pub id: NotifyId,
    /// The order it names, if that could be read.
    pub order_no: Option<OrderNo>,
    /// What became of it then.
    pub was: State,
    /// What becomes of it today.
    pub is: State,
    /// How points move: user, order, and by how much.
    pub movements: Vec<(UserId, OrderNo, i64)>,
    /// It was done. What was good then and is refused today never is: that is for a person to look at.
    pub applied: bool,
}

/// What today's code makes of a notification, beside what was made of it then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The same.
    Same,
    /// Something better, or something else that failed.
    Change,
    /// It was good, and would be refused.
    Refused,
    /// Nobody can tell: the keys of that time are gone, or the database was busy.
    Unclear,
}

/// A set that was replayed.
#[derive(Debug, Default)]
pub struct Set {
    /// How many.
    pub notifications: usize,
    /// How many of them nobody can tell about.
    pub unclear: usize,
    /// What changes.
    pub changes: Vec<Change>,
}

/// A walk over the log, oldest first.
#[derive(Debug)]
pub struct Replay<'a> {
    db: &'a PgPool,
    opener: Opener,
    scope: Scope,
    /// On whose behalf changes are applied; `None` where they are only looked at.
    apply: Option<By<'a>>,
    after: Option<NotifyId>,
}

impl<'a> Replay<'a> {
    /// A walk over `scope`.
    pub const fn new(db: &'a PgPool, opener: Opener, scope: Scope, apply: Option<By<'a>>) -> Self {
        Self { db, opener, scope, apply, after: None }
    }

    /// Replays the next set; `None` at the end.
    pub async fn next(&mut self) -> sqlx::Result<Option<Set>> {
        let stored = sql::ended(self.db, &self.scope, self.after, SET).await?;
        let Some(last) = stored.last() else { return Ok(None) };
        self.after = Some(last.claimed.id);
        let mut set = Set { notifications: stored.len(), ..Set::default() };
        // The two lock accounts at different times, so they never share a transaction.
        let (refunds, payments): (Vec<_>, Vec<_>) =
            stored.into_iter().partition(|row| row.claimed.notify_type == NotifyType::Refund);
        for rows in [payments, refunds] {
            for row in self.conspicuous(rows).await? {
                self.replay(row.claimed.id, &mut set).await?;
            }
        }
        Ok(Some(set))
    }

    /// Those that come to another end today, as far as a look at all of them together can tell.
    async fn conspicuous(&self, rows: Vec<Stored>) -> sqlx::Result<Vec<Stored>> {
        if rows.is_empty() {
            return Ok(rows);
        }
        let claimed: Arc<[Claimed]> = rows.iter().map(|row| row.claimed.clone()).collect();
        let mut tx = db::begin(self.db).await?;
        let handled = handle(&mut tx, &self.opener, &claimed, Ladder::default(), JITTER).await;
        tx.rollback().await?;
        match handled {
            Ok(handled) => {
                let outcomes = handled.closings.into_iter().map(|closing| closing.outcome);
                let judged = rows.into_iter().zip(outcomes);
                Ok(judged
                    .filter(|(row, outcome)| verdict(&row.state, outcome) != Verdict::Same)
                    .map(|(row, _)| row)
                    .collect())
            }
            Err(error) if db::is_outage(&error) => Err(error),
            // One of them is to blame, and is found alone.
            Err(_) => Ok(rows),
        }
    }

    /// Replays one row alone, and applies what it comes to, where that is wanted.
    async fn replay(&self, id: NotifyId, set: &mut Set) -> sqlx::Result<()> {
        let mut tx = db::begin(self.db).await?;
        // Somebody has it in hand, or has just let it be tried again: then it is theirs.
        let Some(row) = sql::lock(&mut tx, id).await? else { return Ok(()) };
        let claimed: Arc<[Claimed]> = Arc::new([row.claimed]);
        let handled = match handle(&mut tx, &self.opener, &claimed, Ladder::default(), JITTER).await {
            Ok(handled) => handled,
            Err(error) if db::is_outage(&error) => return Err(error),
            Err(error) => {
                tx.rollback().await?;
                tx = db::begin(self.db).await?;
                let outcome = Outcome::of_fault(fault_of(&error), &claimed[0], Ladder::default(), JITTER);
                Handled::nothing(vec![Closing { id, order_no: None, outcome }])
            }
        };
        let movements = handled.movements();
        let Some(closing) = handled.closings.into_iter().next() else { return Ok(()) };
        let verdict = verdict(&row.state, &closing.outcome);
        let is = State::of(&closing.outcome);
        let change = Change { id, order_no: closing.order_no.clone(), was: row.state, is, movements, applied: false };
        match (verdict, self.apply) {
            (Verdict::Same, _) => {}
            (Verdict::Unclear, _) => set.unclear += 1,
            (Verdict::Change, Some(by)) => {
                write(&mut tx, &change, closing, by).await?;
                tx.commit().await?;
                set.changes.push(Change { applied: true, ..change });
            }
            (Verdict::Change | Verdict::Refused, _) => set.changes.push(change),
        }
        Ok(())
    }
}

async fn write(tx: &mut PgTransaction<'_>, change: &Change, closing: Closing, by: By<'_>) -> sqlx::Result<()> {
    if change.was != change.is {
        sql::leave_figures(tx, change.id).await?;
        crate::notify::sql::close(tx, &[closing], by.actor.as_str(), None).await?;
    }
    let points: i64 = change.movements.iter().map(|(_, _, points)| points).sum();
    let state = |state: &State| json!({"status": state.status, "errorCode": state.error_code});
    let detail = json!({"was": state(&change.was), "is": state(&change.is), "points": points});
    let (action, subject) = ("notify_log.replay", change.id.to_string());
    audit::sql::record(tx, &Deed { actor: by.actor, action, subject, reason: by.reason, detail }).await
}

impl State {
    fn of(outcome: &Outcome) -> Self {
        Self { status: outcome.status(), error_code: outcome.fault().map(|fault| fault.code().to_owned()) }
    }
}

fn verdict(was: &State, outcome: &Outcome) -> Verdict {
    let was_good = matches!(was.status, ProcessStatus::Processed | ProcessStatus::Duplicate);
    match outcome {
        Outcome::Duplicate if was_good => Verdict::Same,
        // What it did then is gone, or what it failed for is.
        Outcome::Processed | Outcome::Duplicate => Verdict::Change,
        Outcome::Retry { fault, .. } | Outcome::Dead(fault) | Outcome::Rejected(fault) => {
            if was.error_code.as_deref() == Some(fault.code()) {
                Verdict::Same
            } else if fault.is_about_the_signature() || matches!(fault, Fault::DecryptFailed | Fault::DatabaseError(_))
            {
                Verdict::Unclear
            } else if was_good {
                Verdict::Refused
            } else {
                Verdict::Change
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    fn state(status: ProcessStatus, code: Option<&str>) -> State {
        State { status, error_code: code.map(str::to_owned) }
    }

    fn retry(fault: Fault) -> Outcome {
        Outcome::Retry { step: 0, after: TimeDelta::seconds(5), fault }
    }

    #[test]
    fn what_was_good_stays_good() {
        for status in [ProcessStatus::Processed, ProcessStatus::Duplicate] {
            let was = state(status, None);
            assert_eq!(verdict(&was, &Outcome::Duplicate), Verdict::Same);
            assert_eq!(verdict(&was, &Outcome::Processed), Verdict::Change, "what it did is gone");
            assert_eq!(verdict(&was, &Outcome::Dead(Fault::AmountMismatch)), Verdict::Refused);
            assert_eq!(verdict(&was, &retry(Fault::OrderNotFound)), Verdict::Refused);
        }
    }

    #[test]
    fn what_was_dead_changes_when_it_comes_to_another_end() {
        let was = state(ProcessStatus::Dead, Some("order_not_found"));
        assert_eq!(verdict(&was, &Outcome::Processed), Verdict::Change);
        assert_eq!(verdict(&was, &Outcome::Duplicate), Verdict::Change);
        assert_eq!(verdict(&was, &Outcome::Dead(Fault::AmountMismatch)), Verdict::Change);
        assert_eq!(verdict(&was, &retry(Fault::OrderNotFound)), Verdict::Same, "it would fail as it did");
    }

    #[test]
    fn without_the_keys_of_that_time_nobody_can_tell() {
        for fault in [Fault::KeyUnavailable, Fault::SignatureInvalid, Fault::DecryptFailed] {
            for was in [state(ProcessStatus::Processed, None), state(ProcessStatus::Dead, Some("amount_mismatch"))] {
                assert_eq!(verdict(&was, &retry(fault.clone())), Verdict::Unclear, "{fault}");
            }
        }
        let was = state(ProcessStatus::Dead, Some("decrypt_failed"));
        assert_eq!(verdict(&was, &Outcome::Dead(Fault::DecryptFailed)), Verdict::Same);
    }
}
