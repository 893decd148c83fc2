//! Handling notifications, a set at a time: claim, open, decide, write, in one transaction. The log is the truth; an id may
//! come twice, late, or after its work is done.

use crate::in_hand::InHand;
use chrono::TimeDelta;
use shared::{
    checkout::{Truth, ask, budget::Budget},
    crash, db,
    handling::{Handled, fail_all, fault_of, handle},
    metrics,
    notify::{
        Claimed, Closing, Fault, Ladder, NotifyId, NotifyType, Outcome, ProcessStatus,
        remedy::remedy,
        sql,
        suspects::{self, MAX_CRASHES},
    },
    orders::OrderNo,
    queue::{Announcer, Line, Publisher},
    wechat::{Client, Opener},
};
use sqlx::{Connection, PgConnection, PgPool, PgTransaction, error::DatabaseError};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use uuid::Uuid;

/// For one set, from its claim to its commit. Longer than PostgreSQL's own limits, which say more when they strike.
const SET_TIMEOUT: Duration = Duration::from_secs(15);
/// For forgetting what was said to be held.
const LET_GO_TIMEOUT: Duration = Duration::from_secs(2);
/// How often one set is tried again when PostgreSQL could not serialise it.
const MAX_CONFLICTS: u32 = 3;

/// Which notifications to handle.
#[derive(Clone, Debug)]
pub enum Work {
    /// These, as far as they are still to be done.
    Ids(Vec<NotifyId>),
    /// At most so many of those that have been due for so long.
    Due(i64, TimeDelta),
}

/// Whether somebody may have had the rows in hand before, and died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// Nobody had them.
    Fresh,
    /// Somebody may have: what is held is said before it is touched (`notify::suspects`).
    Again,
}

/// What a handler works with. Clones share everything.
#[derive(Clone, Debug)]
pub struct Deps {
    /// PostgreSQL.
    pub db: PgPool,
    /// Opens what WeChat Pay vouches for.
    pub opener: Opener,
    /// Fetches the keys that are missing, and knows what was paid.
    pub wechat: Client,
    /// How fast it may be asked about orders.
    pub budget: Budget,
    /// Tells those who watch an order.
    pub announcer: Announcer,
    /// Brings back what failed; `None` without a broker, where the rescue loop does.
    pub publisher: Option<Publisher>,
    /// When.
    pub ladder: Ladder,
    /// Who this process is, for those who read what failed.
    pub worker: Arc<str>,
    /// What all its handlers have in hand.
    pub in_hand: InHand,
}

/// Handles notifications, one set after another.
#[derive(Debug)]
pub struct Handler {
    deps: Deps,
    /// Under which the rows in hand are known to other workers.
    slot: Uuid,
    /// Whether it may have said that it holds some.
    holds: AtomicBool,
}

/// What became of a set that the database was there for.
enum Set {
    /// So many rows were found to do, and are done.
    Handled(usize),
    /// Nothing was applied: it must be handled in these parts, the last one first.
    Apart(Vec<(Work, Care)>),
    /// Nothing was applied: PostgreSQL refused it.
    Refused { ids: Vec<NotifyId>, error: sqlx::Error },
}

impl Handler {
    /// A handler with nothing in hand.
    pub fn new(deps: Deps) -> Self {
        Self { deps, slot: Uuid::now_v7(), holds: AtomicBool::new(false) }
    }

    /// Handles the set; answers how many rows it found to do. A set that PostgreSQL refuses is split, until the row that
    /// is to blame stands alone; that one is marked, and never holds the others.
    ///
    /// # Errors
    /// When the database is away: nothing is known, no attempt is spent, and the same work should be tried again.
    pub async fn handle(&self, work: Work, care: Care) -> sqlx::Result<usize> {
        let (mut sets, mut conflicts, mut handled) = (vec![(work, care)], 0, 0);
        while let Some((work, care)) = sets.pop() {
            let (mut ids, error) = match self.handle_set(work, care).await? {
                Set::Handled(rows) => {
                    handled += rows;
                    continue;
                }
                Set::Apart(parts) => {
                    sets.extend(parts);
                    continue;
                }
                Set::Refused { ids, error } => (ids, error),
            };
            if is_conflict(&error) && conflicts < MAX_CONFLICTS {
                conflicts += 1;
                sets.push((Work::Ids(ids), care));
            } else if ids.len() > 1 {
                tracing::warn!(rows = ids.len(), "a set of notifications is split: {error}");
                let half = ids.split_off(ids.len() / 2);
                sets.extend([(Work::Ids(half), care), (Work::Ids(ids), care)]);
            } else {
                handled += self.mark_failed(&ids, &fault_of(&error)).await?;
            }
        }
        Ok(handled)
    }

    /// Whether no handler of this process has a set in hand.
    pub fn is_idle(&self) -> bool {
        self.deps.in_hand.is_free()
    }

    /// Whether rows have been due for so long. They may be in hand: only claiming tells.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn finds_due(&self, grace: TimeDelta) -> sqlx::Result<bool> {
        self.on_one_connection(async |connection| sql::is_any_due(connection, grace).await).await
    }

    /// Makes rows suspects, to be handled one by one: the broker has given them up.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn suspect(&self, ids: &[NotifyId]) -> sqlx::Result<()> {
        self.on_one_connection(async |connection| suspects::suspect(connection, ids).await).await
    }

    /// Handles one set. Its turn is waited for with nothing locked and no connection taken.
    async fn handle_set(&self, work: Work, care: Care) -> sqlx::Result<Set> {
        let _in_hand = match care {
            Care::Fresh => self.deps.in_hand.beside_others().await,
            Care::Again => self.deps.in_hand.alone().await,
        };
        let begun = Instant::now();
        let set = self.on_one_connection(async |connection| self.transact(connection, work, care).await).await;
        if let Ok(Set::Handled(rows @ 1..)) = set {
            metrics::set_handled(rows, begun.elapsed());
        }
        if self.holds.load(Ordering::Relaxed) {
            // Before anything else is in hand, which could kill this process and have this set blamed. Where even this
            // fails the database is away, and it is tried again after the next set.
            let letting_go = suspects::let_go(&self.deps.db, self.slot);
            if let Ok(Ok(())) = tokio::time::timeout(LET_GO_TIMEOUT, letting_go).await {
                self.holds.store(false, Ordering::Relaxed);
            }
        }
        set
    }

    /// Within a time: a server that is gone without a word answers nothing, for ever.
    async fn on_one_connection<T>(
        &self,
        work: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> sqlx::Result<T> {
        let mut connection = self.deps.db.acquire().await?;
        let within = tokio::time::timeout(SET_TIMEOUT, work(&mut connection)).await;
        let done = within.unwrap_or(Err(sqlx::Error::PoolTimedOut));
        if done.is_err() {
            // It may be half-way through a statement: not to be used again.
            connection.close_on_drop();
        }
        done
    }

    async fn transact(&self, connection: &mut PgConnection, work: Work, care: Care) -> sqlx::Result<Set> {
        let mut tx = connection.begin().await?;
        let claimed = match &work {
            Work::Ids(ids) => sql::claim(&mut tx, ids).await?,
            Work::Due(limit, grace) => sql::claim_due(&mut tx, *limit, *grace).await?,
        };
        let Some(first) = claimed.first() else { return Ok(Set::Handled(0)) };
        crash::point("claimed", "");
        if let Some(parts) = apart(&claimed, care) {
            // Now, and not when this connection is used next: the parts are claimed on another one.
            tx.rollback().await?;
            return Ok(Set::Apart(parts));
        }
        let crashes = first.crashes;
        if care == Care::Again {
            let held = ids(&claimed);
            self.holds.store(true, Ordering::Relaxed);
            let suspects = suspects::begin(&self.deps.db, self.slot, &held).await?;
            crash::point("held", "");
            if !suspects.is_empty() {
                // In the transaction that holds them, so that nobody else finds them in the meantime and blames them too.
                let blamed = suspects::blame(&mut *tx, self.slot, &suspects).await?;
                tx.commit().await?;
                self.holds.store(false, Ordering::Relaxed);
                metrics::suspected(usize::try_from(blamed).unwrap_or(0));
                tracing::warn!(
                    rows = blamed,
                    "a worker died with these notifications in hand; each is handled alone now"
                );
                return Ok(Set::Apart(vec![(work, care)]));
            }
        }
        let slot = (care == Care::Again).then_some(self.slot);
        let claimed: Arc<[Claimed]> = claimed.into();
        match self.apply_and_commit(tx, &claimed, crashes >= MAX_CRASHES, slot).await {
            Ok(rows) => {
                if slot.is_some() {
                    self.holds.store(false, Ordering::Relaxed);
                }
                Ok(Set::Handled(rows))
            }
            Err(error) if db::is_outage(&error) => Err(error),
            Err(error) => Ok(Set::Refused { ids: ids(&claimed), error }),
        }
    }

    async fn apply_and_commit(
        &self,
        mut tx: PgTransaction<'_>,
        claimed: &Arc<[Claimed]>,
        is_poison: bool,
        slot: Option<Uuid>,
    ) -> sqlx::Result<usize> {
        let Deps { opener, ladder, worker, .. } = &self.deps;
        let jitter = rand::random();
        let handled = if is_poison {
            Handled::nothing(fail_all(opener, claimed, &Fault::Poison, *ladder, jitter))
        } else {
            handle(&mut tx, opener, claimed, *ladder, jitter).await?
        };
        crash::point("applied", "");
        let seconds = sql::close(&mut tx, &handled.closings, worker, slot).await?;
        crash::point("written", "");
        tx.commit().await?;
        crash::point("committed", "");
        self.deps.announcer.announce(handled.changed_orders());
        handled.report();
        self.follow_up(claimed, &handled.closings);
        metrics::notifications_credited(&seconds);
        Ok(handled.closings.len())
    }

    /// Marks a row that cannot be applied, in a transaction of its own.
    async fn mark_failed(&self, ids: &[NotifyId], fault: &Fault) -> sqlx::Result<usize> {
        let Deps { opener, ladder, worker, in_hand, .. } = &self.deps;
        let _in_hand = in_hand.beside_others().await;
        let marked = self.on_one_connection(async |connection| {
            let mut tx = connection.begin().await?;
            let claimed = sql::claim(&mut tx, ids).await?;
            let closings = fail_all(opener, &claimed, fault, *ladder, rand::random());
            sql::close(&mut tx, &closings, worker, None).await?;
            crash::point("written", "");
            tx.commit().await?;
            self.follow_up(&claimed, &closings);
            Ok(closings.len())
        });
        marked.await
    }

    /// What is to be done once the set is committed.
    fn follow_up(&self, claimed: &[Claimed], closings: &[Closing]) {
        report(closings);
        self.bring_back(closings);
        let unpaid = unpaid(closings);
        if !unpaid.is_empty() {
            // Their payments may have been told to nobody: WeChat Pay knows. Then the refunds' next attempts find them paid.
            tokio::spawn(ask_about(self.deps.clone(), unpaid));
        }
        // The door has seen a key that is not here yet. By the row's next attempt it will be.
        let missing = closings.iter().position(|closing| closing.outcome.fault() == Some(&Fault::KeyUnavailable));
        if let Some(at) = missing {
            let (wechat, serial) = (self.deps.wechat.clone(), claimed[at].headers.wechatpay_serial.clone());
            tokio::spawn(async move { wechat.fetch_key(&serial).await });
        }
    }

    /// Sends what failed to the ladder's queues. Should it get lost there, the rescue loop finds it.
    fn bring_back(&self, closings: &[Closing]) {
        let Some(publisher) = &self.deps.publisher else { return };
        let mut by_step: BTreeMap<usize, (TimeDelta, Vec<NotifyId>)> = BTreeMap::new();
        for closing in closings {
            if let Outcome::Retry { step, after, .. } = closing.outcome {
                by_step.entry(step).or_insert((after, Vec::new())).1.push(closing.id);
            }
        }
        for (step, (after, ids)) in by_step {
            crash::point("retry committed", "");
            publisher.publish_later(Line::Notify, step, after, &ids);
        }
    }
}

fn ids(claimed: &[Claimed]) -> Vec<NotifyId> {
    claimed.iter().map(|row| row.id).collect()
}

/// Orders that money went back from, and whose payment is not known here.
fn unpaid(closings: &[Closing]) -> BTreeSet<OrderNo> {
    let early = closings.iter().filter(|closing| closing.outcome.fault() == Some(&Fault::OrderNotPaid));
    early.filter_map(|closing| closing.order_no.clone()).collect()
}

/// Asks WeChat Pay about orders, as far as the budget goes; about the others after the next attempt.
async fn ask_about(deps: Deps, order_nos: BTreeSet<OrderNo>) {
    let Deps { db, wechat, budget, announcer, .. } = deps;
    let granted = budget.take(&db, u32::try_from(order_nos.len()).unwrap_or(u32::MAX)).await.unwrap_or(0);
    for order_no in order_nos.into_iter().take(usize::try_from(granted).unwrap_or(0)) {
        match ask(&db, &wechat, &order_no).await {
            Ok(Truth::Paid) => announcer.announce(vec![order_no]),
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(order.no = %order_no, error = &error as &dyn Error, "an order that money went back from could not be asked about");
                if error.is_too_fast() {
                    // Nobody waits for it, and without a database nothing is asked.
                    let _ = budget.slow_down(&db).await;
                    return;
                }
            }
        }
    }
}

/// In which parts a set must be handled, the last one first; `None` when it can be handled as it is. Suspects stand alone.
/// Refunds lock accounts after their orders and payments make new ones, so the two never share a transaction.
fn apart(claimed: &[Claimed], care: Care) -> Option<Vec<(Work, Care)>> {
    let (suspects, others): (Vec<&Claimed>, Vec<&Claimed>) = claimed.iter().partition(|row| row.crashes > 0);
    let (refunds, payments): (Vec<&Claimed>, Vec<&Claimed>) =
        others.into_iter().partition(|row| row.notify_type == NotifyType::Refund);
    let ids = |rows: &[&Claimed]| Work::Ids(rows.iter().map(|row| row.id).collect());
    let mut parts: Vec<_> = suspects.iter().map(|row| (ids(&[row]), Care::Again)).collect();
    parts.extend([refunds, payments].iter().filter(|rows| !rows.is_empty()).map(|rows| (ids(rows), care)));
    (parts.len() > 1 || parts.iter().any(|(_, needed)| *needed != care)).then_some(parts)
}

/// One line for the set, and one for each row that a person may want to look at.
fn report(closings: &[Closing]) {
    let mut counts: HashMap<ProcessStatus, u64> = HashMap::new();
    for Closing { id, order_no, outcome } in closings {
        *counts.entry(outcome.status()).or_default() += 1;
        let order = order_no.as_ref().map_or("unknown", OrderNo::as_str);
        match outcome {
            Outcome::Processed | Outcome::Duplicate => {}
            Outcome::Retry { after, fault, .. } => {
                let seconds = after.num_seconds();
                tracing::info!(notify.id = %id, order.no = order, code = fault.code(), "tried again in {seconds} s: {fault}");
            }
            Outcome::Dead(fault) => {
                metrics::dead_letter(fault);
                tracing::warn!(notify.id = %id, order.no = order, code = fault.code(), "dead letter: {fault}. {}", remedy(fault.code()));
            }
            Outcome::Rejected(fault) => {
                tracing::warn!(notify.id = %id, order.no = order, code = fault.code(), "rejected: {fault}");
            }
        }
        if let Some(fault) = outcome.fault() {
            metrics::notification_failed(fault);
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
