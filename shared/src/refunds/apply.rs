//! The transaction around the decision on news of refunds: lock, decide, write. Notification, active query and the answer to
//! our own call all end here.

use super::{Change, Decision, Origin, RefundStatus, Report, Share, decide_set, schedule, sql};
use crate::{notify::Ladder, points::EntryKind, users::UserId};
use sqlx::PgTransaction;
use std::collections::BTreeMap;

/// Applies news of refunds within the caller's transaction and answers one decision each, in the same order. `ladder` scales
/// when the next question is asked. When this fails, nothing was applied, and the transaction must be rolled back.
///
/// # Errors
/// What PostgreSQL says.
pub async fn apply(tx: &mut PgTransaction<'_>, reports: &[&Report], ladder: Ladder) -> sqlx::Result<Vec<Decision>> {
    if reports.is_empty() {
        return Ok(Vec::new());
    }
    let mut order_nos: Vec<_> = reports.iter().map(|report| report.order_no.as_str()).collect();
    order_nos.sort_unstable();
    order_nos.dedup();
    let mut parents = sql::lock_parents(tx, &order_nos).await?;
    let mut refund_nos: Vec<_> = reports.iter().map(|report| report.refund_no.as_str()).collect();
    refund_nos.sort_unstable();
    refund_nos.dedup();
    let mut refunds = sql::lock(tx, &refund_nos).await?;

    let decisions = decide_set(&mut parents, &mut refunds, reports);
    let changes: Vec<&Change> = decisions.iter().filter_map(Decision::change).collect();
    let mut users: Vec<&str> = changes.iter().filter_map(|change| Some(change.of.as_ref()?.1.as_str())).collect();
    users.sort_unstable();
    users.dedup();
    let mut balances = if users.is_empty() { BTreeMap::new() } else { sql::lock_accounts(tx, &users).await? };
    for change in changes {
        let balance = change.of.as_ref().and_then(|(_, user_id)| balances.get_mut(user_id));
        write(tx, change, balance, ladder).await?;
    }
    Ok(decisions)
}

async fn write(
    tx: &mut PgTransaction<'_>,
    change: &Change,
    balance: Option<&mut i64>,
    ladder: Ladder,
) -> sqlx::Result<()> {
    let report = &change.report;
    let kind = if change.external { EntryKind::Refund } else { EntryKind::RefundReturned };
    let moved = change.points_moved();
    let mut overdrawn = false;
    if let Some(balance) = balance {
        *balance += moved;
        overdrawn = moved < 0 && *balance < 0;
    }
    if change.external {
        let new = sql::NewRefund {
            refund_no: &report.refund_no,
            order_no: Some(&report.order_no),
            origin: Origin::External,
            amount: report.amount,
            share: change.share,
            reason: None,
            transaction_id: &report.transaction_id,
            total: report.total,
            misdirected: change.misdirected,
            overdrawn,
            requested_by: None,
        };
        sql::insert(tx, &new).await?;
    }
    sql::advance(tx, change, overdrawn, schedule::first_query(change.status, ladder)).await?;
    if let Some((order_no, user_id)) = &change.of {
        sql::move_points(tx, (order_no, user_id), &report.refund_no, kind, change.share).await?;
        if let Some((status, refunded)) = change.order {
            sql::mark_order(tx, order_no, status, refunded).await?;
        }
    }
    Ok(())
}

/// Ends a pending refund that WeChat Pay has refused for good, and gives its points back. False when it is not pending any
/// more, or is in another's hands.
///
/// # Errors
/// What PostgreSQL says.
pub async fn fail(tx: &mut PgTransaction<'_>, refund: &super::Refund, reason: &str) -> sqlx::Result<bool> {
    let mut user: Option<UserId> = None;
    if let Some(order_no) = &refund.order_no {
        user = sql::lock_parents(tx, &[order_no.as_str()]).await?.remove(order_no).map(|parent| parent.user_id);
    }
    let now = sql::lock(tx, &[refund.refund_no.as_str()]).await?.remove(&refund.refund_no);
    // Another claim means another worker, whose call may succeed yet.
    let is_ours = |now: &super::Refund| now.next_attempt_at == refund.next_attempt_at;
    let Some(now) = now.filter(|now| now.status == RefundStatus::Pending && is_ours(now)) else { return Ok(false) };
    sql::fail(tx, &now.refund_no, reason).await?;
    if let (Some(order_no), Some(user_id)) = (&now.order_no, &user) {
        sql::lock_accounts(tx, &[user_id.as_str()]).await?;
        let share = Share { points: now.points, bonus: now.bonus_points };
        sql::move_points(tx, (order_no, user_id), &now.refund_no, EntryKind::RefundReturned, share).await?;
    }
    Ok(true)
}

/// Says what a person should know of news about refunds. To be called after the commit.
pub fn report_changes(decisions: &[Decision]) {
    for change in decisions.iter().filter_map(Decision::change) {
        let (refund_no, status) = (&change.report.refund_no, change.status);
        match status {
            RefundStatus::Abnormal => {
                tracing::error!(refund.no = %refund_no, order.no = %change.report.order_no, "refund {refund_no} is abnormal: the payer's account cannot take the money; see `ops refund abnormal`");
            }
            _ if change.external => {
                tracing::warn!(refund.no = %refund_no, order.no = %change.report.order_no, "refund {refund_no} began at WeChat Pay; its points were taken back");
            }
            _ => {
                tracing::info!(refund.no = %refund_no, order.no = %change.report.order_no, "refund {refund_no} is {}", status.as_str());
            }
        }
    }
}
