//! The transaction around the decision: lock, decide, write. Nothing else in the service moves money or points.

use super::{Decision, Payment, Settlement, decide_set, sql};
use crate::{metrics, orders::PaymentStatus, refunds};
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
    let mut decisions = decide_set(&mut orders, payments);
    excuse_given_back(tx, payments, &mut decisions).await?;

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

/// Money that settles nothing, and that an operator has sent back, leaves nothing to change.
async fn excuse_given_back(
    tx: &mut PgTransaction<'_>,
    payments: &[&Payment],
    decisions: &mut [Decision],
) -> sqlx::Result<()> {
    let is_refused = |decision: &Decision| matches!(decision, Decision::Refuse(_));
    let refused: Vec<_> = decisions
        .iter()
        .zip(payments)
        .filter(|(decision, _)| is_refused(decision))
        .map(|(_, payment)| payment.transaction_id.as_str())
        .collect();
    if refused.is_empty() {
        return Ok(());
    }
    let given_back = refunds::sql::given_back(&mut **tx, &refused).await?;
    for (decision, payment) in decisions.iter_mut().zip(payments) {
        if is_refused(decision) && given_back.contains(&payment.transaction_id) {
            *decision = Decision::Duplicate;
        }
    }
    Ok(())
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
