//! What is told of payments and refunds, and applied as a notification does.

use crate::meeting::of;
use shared::{
    clock,
    notify::Ladder,
    payments::{self, Payment},
    refunds::{self, RefundEvent, Report},
};
use sqlx::PgPool;

pub fn payment(order_no: &str) -> Payment {
    Payment {
        order_no: of(order_no),
        transaction_id: of(&format!("T{order_no}")),
        amount: 100.try_into().expect("fen"),
        paid_at: clock::now(),
    }
}

/// Applies payments as a notification does: how many settled their order.
pub async fn pay(db: PgPool, payments: Vec<Payment>) -> usize {
    let mut tx = db.begin().await.expect("a transaction");
    let applied = payments::apply::apply(&mut tx, &payments.iter().collect::<Vec<_>>()).await;
    let decisions = applied.expect("no deadlock");
    tx.commit().await.expect("committed");
    assert!(!decisions.iter().any(|decision| matches!(decision, payments::Decision::Refuse(_))), "{decisions:?}");
    decisions.iter().filter(|decision| matches!(decision, payments::Decision::Settle(_))).count()
}

pub fn paid(db: &PgPool, order_nos: &[&str]) -> impl Future<Output = usize> + Send + use<> {
    pay(db.clone(), order_nos.iter().map(|order_no| payment(order_no)).collect())
}

pub fn succeeded(refund_no: &str, order_no: &str, fen: i64) -> Report {
    Report {
        refund_no: of(refund_no),
        order_no: of(order_no),
        transaction_id: of(&format!("T{order_no}")),
        wechat_refund_id: format!("{:.32}", format!("W{refund_no}")),
        event: RefundEvent::Succeeded,
        succeeded_at: Some(clock::now()),
        amount: fen.try_into().expect("fen"),
        total: 100.try_into().expect("fen"),
    }
}

/// Applies news of refunds as a notification does.
pub async fn tell(db: PgPool, reports: Vec<Report>) -> Vec<refunds::Decision> {
    let mut tx = db.begin().await.expect("a transaction");
    let told = refunds::apply::apply(&mut tx, &reports.iter().collect::<Vec<_>>(), Ladder::default()).await;
    let decisions = told.expect("no deadlock");
    tx.commit().await.expect("committed");
    decisions
}

pub fn is_applied(decisions: &[refunds::Decision]) -> bool {
    decisions.iter().all(|decision| decision.change().is_some())
}
