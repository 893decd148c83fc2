//! Handling stored notifications, a set at a time: open, decide, apply, within the caller's transaction. The worker commits
//! what it does; a replay looks at it and rolls it back.

use crate::{
    crash,
    notify::{Claimed, Closing, Fact, Fault, Ladder, Outcome},
    orders::OrderNo,
    payments::{self, apply::report_late},
    refunds::{self, apply::report_changes},
    users::UserId,
    wechat::{Opener, notification::Opened},
};
use futures_util::future::join_all;
use sqlx::PgTransaction;
use std::{
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::available_parallelism,
};

/// Rows below which spreading the cryptography over all cores costs more than it saves.
const WORTH_SPREADING: usize = 8;

/// What became of a set.
#[derive(Debug)]
pub struct Handled {
    /// What to write into the rows, in their order.
    pub closings: Vec<Closing>,
    payments: Vec<payments::Decision>,
    refunds: Vec<refunds::Decision>,
}

impl Handled {
    /// Nothing was applied.
    pub const fn nothing(closings: Vec<Closing>) -> Self {
        Self { closings, payments: Vec::new(), refunds: Vec::new() }
    }

    /// The orders that it changed.
    pub fn changed_orders(&self) -> Vec<OrderNo> {
        let paid = self.payments.iter().filter_map(|decision| match decision {
            payments::Decision::Settle(settlement) => Some(settlement.order_no.clone()),
            payments::Decision::Duplicate | payments::Decision::Refuse(_) => None,
        });
        let refunded = self.refunds.iter().filter_map(|decision| Some(decision.change()?.of.as_ref()?.0.clone()));
        paid.chain(refunded).collect()
    }

    /// Says what a person may want to look at. To be called after the commit.
    pub fn report(&self) {
        report_late(&self.payments);
        report_changes(&self.refunds);
    }

    /// How the points of the set moved: user, order, and by how much.
    pub fn movements(&self) -> Vec<(UserId, OrderNo, i64)> {
        let paid = self.payments.iter().filter_map(|decision| match decision {
            payments::Decision::Settle(s) => Some((s.user_id.clone(), s.order_no.clone(), s.credit())),
            payments::Decision::Duplicate | payments::Decision::Refuse(_) => None,
        });
        let refunded = self.refunds.iter().filter_map(|decision| {
            let change = decision.change()?;
            let (order_no, user_id) = change.of.clone()?;
            Some((user_id, order_no, change.points_moved()))
        });
        paid.chain(refunded).collect()
    }
}

/// Opens the claimed rows and applies what they vouch for. The rows themselves are not written: that is for the caller,
/// with [`Handled::closings`]. What failed for a passing cause goes on by `ladder`, all of it with the same `jitter` (0..1).
///
/// # Errors
/// What PostgreSQL says; nothing of the set may be committed then.
pub async fn handle(
    tx: &mut PgTransaction<'_>,
    opener: &Opener,
    claimed: &Arc<[Claimed]>,
    ladder: Ladder,
    jitter: f64,
) -> sqlx::Result<Handled> {
    let said = open(opener, claimed).await;
    let (mut paid, mut refunded) = (Vec::new(), Vec::new());
    for fact in said.iter().filter_map(|said| said.fact.as_ref().ok()) {
        match fact {
            Fact::Payment(payment) => paid.push(payment),
            Fact::Refund(report) => refunded.push(report),
        }
    }
    let payments = payments::apply::apply(tx, &paid).await?;
    let refunds = refunds::apply::apply(tx, &refunded, ladder).await?;

    let (mut paid, mut refunded) = (payments.iter().map(of_payment), refunds.iter().map(of_refund));
    let closings = claimed.iter().zip(&said).map(|(row, said)| {
        let decided = match &said.fact {
            Err(fault) => Some(Err(fault.clone())),
            Ok(Fact::Payment(_)) => paid.next(),
            Ok(Fact::Refund(_)) => refunded.next(),
        };
        let decided = decided.expect("there is one decision for each fact");
        let outcome = decided.unwrap_or_else(|fault| Outcome::of_fault(fault, row, ladder, jitter));
        Closing { id: row.id, order_no: said.order_no.clone(), outcome }
    });
    Ok(Handled { closings: closings.collect(), payments, refunds })
}

fn of_payment(decision: &payments::Decision) -> Result<Outcome, Fault> {
    match decision {
        payments::Decision::Settle(_) => Ok(Outcome::Processed),
        payments::Decision::Duplicate => Ok(Outcome::Duplicate),
        payments::Decision::Refuse(fault) => Err(fault.clone()),
    }
}

fn of_refund(decision: &refunds::Decision) -> Result<Outcome, Fault> {
    match decision {
        refunds::Decision::Apply(_) => Ok(Outcome::Processed),
        refunds::Decision::Duplicate => Ok(Outcome::Duplicate),
        refunds::Decision::Refuse(fault) => Err(fault.clone()),
    }
}

/// What to write into rows that all failed for `fault`, whatever they say.
pub fn fail_all(opener: &Opener, claimed: &[Claimed], fault: &Fault, ladder: Ladder, jitter: f64) -> Vec<Closing> {
    let closings = claimed.iter().map(|row| {
        // What killed a process must not be looked at again, not even for the order's number.
        let order_no = if *fault == Fault::Poison { None } else { open_one(opener, row).order_no };
        Closing { id: row.id, order_no, outcome: Outcome::of_fault(fault.clone(), row, ladder, jitter) }
    });
    closings.collect()
}

/// What a row that fails alone is told of it. Class 23 is a constraint: trying again would not help.
pub fn fault_of(error: &sqlx::Error) -> Fault {
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

/// Verifies and decrypts on all cores.
async fn open(opener: &Opener, claimed: &Arc<[Claimed]>) -> Vec<Opened> {
    if claimed.len() < WORTH_SPREADING {
        return claimed.iter().map(|row| open_one(opener, row)).collect();
    }
    let cores = available_parallelism().map_or(1, NonZeroUsize::get);
    let share = claimed.len().div_ceil(cores);
    let shares = (0..claimed.len()).step_by(share).map(|start| {
        let (opener, claimed) = (opener.clone(), Arc::clone(claimed));
        tokio::task::spawn_blocking(move || {
            claimed[start..].iter().take(share).map(|row| open_one(&opener, row)).collect::<Vec<_>>()
        })
    });
    let said = join_all(shares).await.into_iter();
    said.flat_map(|share| share.expect("a panic is caught at its row")).collect()
}

/// A bug that one row brings out must not take the others with it.
fn open_one(opener: &Opener, row: &Claimed) -> Opened {
    let said = catch_unwind(AssertUnwindSafe(|| opener.open(&row.headers, &row.body)))
        .unwrap_or(Opened { order_no: None, fact: Err(Fault::HandlerPanicked) });
    crash::point("opened", said.order_no.as_ref().map_or("", OrderNo::as_str));
    said
}
