//! Workers beside those who give a row back: rescue, and an operator.

use crate::{
    meeting::{AMY, PACE, assert_sound, hold, of, standing, world},
    money::payment,
};
use shared::{
    notify::{
        Closing, Fault, NewNotify, NotifyHeaders, NotifyId, NotifyType, Outcome, ProcessStatus, retry, sql as log,
    },
    payments,
    users::UserId,
};
use sqlx::{PgPool, PgTransaction};

/// Rows of the log that failed and are due again.
async fn failed(db: &PgPool, count: usize) -> Vec<NotifyId> {
    let notify = || NewNotify {
        id: NotifyId::generate(),
        notify_type: NotifyType::Payment,
        rejected: None,
        client_ip: None,
        headers: NotifyHeaders::default(),
        body: b"{}".to_vec(),
    };
    let rows: Vec<_> = (0..count).map(|_| notify()).collect();
    log::insert(db, &rows.iter().collect::<Vec<_>>()).await.expect("stored");
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    let outcome = Outcome::Retry { step: 0, after: chrono::TimeDelta::zero(), fault: Fault::OrderNotFound };
    close(db.begin().await.expect("a transaction"), &ids, &outcome).await;
    ids
}

async fn close(mut tx: PgTransaction<'_>, ids: &[NotifyId], outcome: &Outcome) {
    let closing = |id: &NotifyId| Closing { id: *id, order_no: None, outcome: outcome.clone() };
    let closings: Vec<_> = ids.iter().map(closing).collect();
    log::close(&mut tx, &closings, "here:1", None).await.expect("closed");
    tx.commit().await.expect("committed");
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn a_worker_passes_by_what_is_being_given_back_by_hand(db: PgPool) {
    world(&db).await;
    let ids = failed(&db, 3).await;
    let gate = hold(&db, PACE).await;
    let retrying = db.clone();
    let retried = tokio::spawn(async move {
        let root: UserId = of("root");
        let by = retry::By { actor: &root, reason: None };
        retry::retry_all(&retrying, by, &retry::Filter::of(ProcessStatus::Retrying), 10_000).await.expect("retried")
    });
    standing(&db, 1).await;
    let mut tx = db.begin().await.expect("a transaction");
    assert!(log::claim(&mut tx, &ids).await.expect("claimed").is_empty(), "and waits for nobody");
    drop(tx);
    gate.rollback().await.expect("open");
    assert_eq!(retried.await.expect("no panic"), ids);
    let mut tx = db.begin().await.expect("a transaction");
    assert_eq!(log::claim(&mut tx, &ids).await.expect("claimed").len(), 3);
    close(tx, &ids, &Outcome::Duplicate).await;
    assert_sound(&db, 0).await;
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn what_a_worker_has_in_hand_neither_rescue_nor_an_operator_touches(db: PgPool) {
    world(&db).await;
    let ids = failed(&db, 3).await;
    // The worker stands in the middle of its set.
    let gate = hold(&db, AMY).await;
    let (working, held) = (db.clone(), ids[..2].to_vec());
    let worker = tokio::spawn(async move {
        let mut tx = working.begin().await.expect("a transaction");
        assert_eq!(log::claim(&mut tx, &held).await.expect("claimed").len(), 2);
        payments::apply::apply(&mut tx, &[&payment("ORDER1")]).await.expect("applied");
        close(tx, &held, &Outcome::Processed).await;
    });
    standing(&db, 1).await;

    let root: UserId = of("root");
    let by = retry::By { actor: &root, reason: None };
    let retried = retry::retry_one(&db, by, ids[0]).await.expect("asked");
    assert_eq!(retried, Some(retry::Retried::Unchanged));
    let mut rescue = db.begin().await.expect("a transaction");
    let due = log::claim_due(&mut rescue, 10, chrono::TimeDelta::zero()).await.expect("claimed");
    assert_eq!(due.iter().map(|row| row.id).collect::<Vec<_>>(), ids[2..]);
    gate.rollback().await.expect("open");
    worker.await.expect("no panic");
    close(rescue, &ids[2..], &Outcome::Duplicate).await;

    let mut rescue = db.begin().await.expect("a transaction");
    assert!(log::claim_due(&mut rescue, 10, chrono::TimeDelta::zero()).await.expect("claimed").is_empty());
    assert!(log::claim(&mut rescue, &ids).await.expect("claimed").is_empty());
    assert_sound(&db, 105).await;
}
