//! The transaction around the decision: lock, decide, write. Nothing else in the service moves money or points.

use super::{Decision, Payment, Settlement, decide_set, sql};
use crate::{metrics, orders::PaymentStatus};
use sqlx::PgTransaction;
use std::collections::BTreeMap;

/// Applies verified payments within the caller's transaction and answers one decision each, in the same order. When this
/// fails, nothing was applied, and the transaction must be rolled back.
///
/// # Errors
/// What PostgreSQL says; a violated constraint means that one of the payments must not be applied.
pub async fn apply(tx: &mut PgTransaction<'_>, payments: &[&Payment]) -> sqlx::Result<Vec<Decision>> {
    if payments.is_empty() {
        return Ok(Vec::new());
    }
    let mut order_nos: Vec<_> = payments.iter().map(|payment| payment.order_no.as_str()).collect();
    order_nos.sort_unstable();
    order_nos.dedup();
    let locked = sql::lock_orders(tx, &order_nos).await?;

    let mut orders: BTreeMap<_, _> = locked.into_iter().map(|order| (order.order_no.clone(), order)).collect();
    let decisions = decide_set(&mut orders, payments);

    let settlements: Vec<_> = decisions
        .iter()
        .filter_map(|decision| match decision {
            Decision::Settle(settlement) => Some(settlement.clone()),
            Decision::Duplicate | Decision::Refuse(_) => None,
        })
        .collect();
    if !settlements.is_empty() {
        sql::settle(tx, &settlements).await?;
    }
    Ok(decisions)
}

/// Says of money that came for an order which had been given up: it was honoured, and is worth a look. To be called after
/// the commit.
pub fn report_late(decisions: &[Decision]) {
    for decision in decisions {
        if let Decision::Settle(Settlement { order_no, from, .. }) = decision
            && *from != PaymentStatus::Pending
        {
            metrics::late_payment();
            tracing::warn!(order.no = %order_no, "late money: order {order_no} was {from:?} and is paid now");
        }
    }
}
