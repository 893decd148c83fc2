//! Handling notifications, a set at a time: claim, open, decide, write, in one transaction. The log is the truth; an id may
//! come twice, late, or after its work is done.

use futures_util::future::join_all;
use shared::{
    db, metrics,
    notify::{Claimed, Closing, Fault, NotifyId, Outcome, ProcessStatus, sql},
    orders::OrderNo,
    payments::{
        Decision, Settlement,
        apply::{apply, report_late},
    },
    queue::Announcer,
    wechat::{Client, Opener, notification::Opened},
};
use sqlx::{Connection, PgConnection, PgPool, error::DatabaseError};
use std::{
    collections::HashMap,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::available_parallelism,
    time::Duration,
};

/// Rows below which spreading the cryptography over all cores costs more than it saves.
const WORTH_SPREADING: usize = 8;
/// For one set, from its claim to its commit. Longer than PostgreSQL's own limits, which say more when they strike.
const SET_TIMEOUT: Duration = Duration::from_secs(15);
/// How often one set is tried again when PostgreSQL could not serialise it.
const MAX_CONFLICTS: u32 = 3;

/// Which notifications to handle.
#[derive(Clone, Debug)]
pub enum Work {
    /// These, as far as they are still to be done.
    Ids(Vec<NotifyId>),
    /// Those whose time has come, at most so many.
    Due(i64),
}

/// Handles notifications. Clones share everything.
#[derive(Clone, Debug)]
pub struct Handler {
    db: PgPool,
    opener: Opener,
    wechat: Client,
    announcer: Announcer,
}

/// A set that could not be applied, and what was in it.
struct SetError {
    ids: Vec<NotifyId>,
    error: sqlx::Error,
}

impl Handler {
    /// A handler that applies to `db` what `opener` vouches for, fetches the keys that it misses with `wechat`, and tells
    /// those who watch an order by `announcer`.
    pub const fn new(db: PgPool, opener: Opener, wechat: Client, announcer: Announcer) -> Self {
        Self { db, opener, wechat, announcer }
    }

    /// Handles the set; answers how many rows it found to do. A set that PostgreSQL refuses is split, until the row that
    /// is to blame stands alone; that one is marked, and never holds the others.
    ///
    /// # Errors
    /// When the database is away: nothing is known, no attempt is spent, and the same work should be tried again.
    pub async fn handle(&self, work: Work) -> sqlx::Result<usize> {
        let (mut sets, mut conflicts, mut handled) = (vec![work], 0, 0);
        while let Some(work) = sets.pop() {
            let SetError { mut ids, error } = match self.handle_set(work).await {
                Ok(rows) => {
                    handled += rows;
                    continue;
                }
                Err(set) if set.ids.is_empty() || db::is_outage(&set.error) => {
                    return Err(set.error);
                }
                Err(set) => set,
            };
            if is_conflict(&error) && conflicts < MAX_CONFLICTS {
                conflicts += 1;
                sets.push(Work::Ids(ids));
            } else if ids.len() > 1 {
                tracing::warn!(rows = ids.len(), "a set of notifications is split: {error}");
                let half = ids.split_off(ids.len() / 2);
                sets.extend([Work::Ids(half), Work::Ids(ids)]);
            } else {
                handled += self.mark_failed(&ids, &fault_of(&error)).await?;
            }
        }
        Ok(handled)
    }

    /// Handles one set on one connection, within a time: a server that is gone without a word answers nothing, for ever.
    async fn handle_set(&self, work: Work) -> Result<usize, SetError> {
        let mut connection = self.db.acquire().await.map_err(|error| SetError { ids: Vec::new(), error })?;
        let within = tokio::time::timeout(SET_TIMEOUT, self.transact(&mut connection, work)).await;
        let handled = within.unwrap_or(Err(SetError { ids: Vec::new(), error: sqlx::Error::PoolTimedOut }));
        if handled.as_ref().is_err_and(|set| db::is_outage(&set.error)) {
            // It may be half-way through a statement: not to be used again.
            connection.close_on_drop();
        }
        handled
    }

    async fn transact(&self, connection: &mut PgConnection, work: Work) -> Result<usize, SetError> {
        let no_ids = |error| SetError { ids: Vec::new(), error };
        let mut tx = connection.begin().await.map_err(no_ids)?;
        let claimed = match &work {
            Work::Ids(ids) => sql::claim(&mut tx, ids).await,
            Work::Due(limit) => sql::claim_due(&mut tx, *limit).await,
        };
        let claimed: Arc<[Claimed]> = claimed.map_err(no_ids)?.into();
        if claimed.is_empty() {
            return Ok(0);
        }
        let opened = self.open(&claimed).await;

        let written = async {
            let payments: Vec<_> = opened.iter().filter_map(|opened| opened.payment.as_ref().ok()).collect();
            let decisions = apply(&mut tx, &payments).await?;
            let closings = close(&claimed, &opened, &decisions);
            sql::close(&mut tx, &closings).await?;
            tx.commit().await?;
            self.announcer.announce(settled(&decisions).map(|settlement| settlement.order_no.clone()).collect());
            report_late(&decisions);
            Ok(closings)
        };
        match written.await {
            Ok(closings) => {
                report(&closings);
                self.fetch_missing_key(&claimed, &closings);
                Ok(closings.len())
            }
            Err(error) => Err(SetError { ids: claimed.iter().map(|row| row.id).collect(), error }),
        }
    }

    /// The door has seen a key that is not here yet. By the rows' next attempt it will be.
    fn fetch_missing_key(&self, claimed: &[Claimed], closings: &[Closing]) {
        let missing = closings.iter().position(|closing| closing.outcome.fault() == Some(&Fault::KeyUnavailable));
        if let Some(at) = missing {
            let (wechat, serial) = (self.wechat.clone(), claimed[at].headers.wechatpay_serial.clone());
            tokio::spawn(async move { wechat.fetch_key(&serial).await });
        }
    }

    /// Verifies and decrypts on all cores.
    async fn open(&self, claimed: &Arc<[Claimed]>) -> Vec<Opened> {
        if claimed.len() < WORTH_SPREADING {
            return claimed.iter().map(|row| open_one(&self.opener, row)).collect();
        }
        let cores = available_parallelism().map_or(1, NonZeroUsize::get);
        let share = claimed.len().div_ceil(cores);
        let shares = (0..claimed.len()).step_by(share).map(|start| {
            let (opener, claimed) = (self.opener.clone(), Arc::clone(claimed));
            tokio::task::spawn_blocking(move || {
                claimed[start..].iter().take(share).map(|row| open_one(&opener, row)).collect::<Vec<_>>()
            })
        });
        let opened = join_all(shares).await.into_iter();
        opened.flat_map(|share| share.expect("a panic is caught at its row")).collect()
    }

    /// Marks a row that cannot be applied, in a transaction of its own.
    async fn mark_failed(&self, ids: &[NotifyId], fault: &Fault) -> sqlx::Result<usize> {
        let mut tx = self.db.begin().await?;
        let claimed = sql::claim(&mut tx, ids).await?;
        let closings: Vec<Closing> = claimed
            .into_iter()
            .map(|row| {
                let order_no = open_one(&self.opener, &row).order_no;
                Closing {
                    id: row.id,
                    order_no,
                    outcome: Outcome::of_fault(fault.clone(), attempts(&row), rand::random()),
                }
            })
            .collect();
        sql::close(&mut tx, &closings).await?;
        tx.commit().await?;
        report(&closings);
        Ok(closings.len())
    }
}

/// Failed attempts, if this one fails too.
fn attempts(row: &Claimed) -> u32 {
    u32::try_from(row.retry_count).unwrap_or(0) + 1
}

/// A bug that one row brings out must not take the others with it.
fn open_one(opener: &Opener, row: &Claimed) -> Opened {
    catch_unwind(AssertUnwindSafe(|| opener.open(&row.headers, &row.body)))
        .unwrap_or(Opened { order_no: None, payment: Err(Fault::HandlerPanicked) })
}

/// Puts the decisions back beside the rows that had a payment to decide on.
fn close(claimed: &[Claimed], opened: &[Opened], decisions: &[Decision]) -> Vec<Closing> {
    let mut decisions = decisions.iter();
    claimed
        .iter()
        .zip(opened)
        .map(|(row, opened)| {
            let fault = match &opened.payment {
                Err(fault) => Err(fault.clone()),
                Ok(_) => match decisions.next() {
                    Some(Decision::Settle(_)) => Ok(Outcome::Processed),
                    Some(Decision::Duplicate) => Ok(Outcome::Duplicate),
                    Some(Decision::Refuse(fault)) => Err(fault.clone()),
                    None => unreachable!("there is one decision for each payment"),
                },
            };
            let outcome = fault.unwrap_or_else(|fault| Outcome::of_fault(fault, attempts(row), rand::random()));
            Closing { id: row.id, order_no: opened.order_no.clone(), outcome }
        })
        .collect()
}

fn settled(decisions: &[Decision]) -> impl Iterator<Item = &Settlement> {
    decisions.iter().filter_map(|decision| match decision {
        Decision::Settle(settlement) => Some(settlement),
        Decision::Duplicate | Decision::Refuse(_) => None,
    })
}

/// One line for the set, and one for each row that a person may want to look at.
fn report(closings: &[Closing]) {
    let mut counts: HashMap<ProcessStatus, u64> = HashMap::new();
    for Closing { id, order_no, outcome } in closings {
        *counts.entry(outcome.status()).or_default() += 1;
        let order = order_no.as_ref().map_or("unknown", OrderNo::as_str);
        match outcome {
            Outcome::Processed | Outcome::Duplicate => {}
            Outcome::Retry { after, fault } => {
                let seconds = after.num_seconds();
                tracing::info!(notify.id = %id, order.no = order, code = fault.code(), "tried again in {seconds} s: {fault}");
            }
            Outcome::Dead(fault) => {
                tracing::warn!(notify.id = %id, order.no = order, code = fault.code(), "dead letter: {fault}");
            }
            Outcome::Rejected(fault) => {
                tracing::warn!(notify.id = %id, order.no = order, code = fault.code(), "rejected: {fault}");
            }
        }
    }
    for (status, count) in &counts {
        metrics::notifications_closed(*status, *count);
    }
    let of = |status: ProcessStatus| counts.get(&status).copied().unwrap_or(0);
    tracing::info!(
        processed = of(ProcessStatus::Processed),
        duplicate = of(ProcessStatus::Duplicate),
        retrying = of(ProcessStatus::Retrying),
        dead = of(ProcessStatus::Dead),
        rejected = of(ProcessStatus::Rejected),
        "handled {}",
        closings.len()
    );
}

/// 40001 and 40P01: the transaction lost against another one, and may win next time.
fn is_conflict(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(DatabaseError::code).is_some_and(|code| code.starts_with("40"))
}

/// What a row that fails alone is told of it. Class 23 is a constraint: trying again would not help.
fn fault_of(error: &sqlx::Error) -> Fault {
    let Some(database) = error.as_database_error() else {
        return Fault::DatabaseError("no code".into());
    };
    let code = database.code().unwrap_or_default();
    if code.starts_with("23") {
        Fault::DatabaseRefused(database.constraint().unwrap_or(&code).to_owned())
    } else {
        Fault::DatabaseError(code.into_owned())
    }
}
