//! Whatever is sent twice, at once, or handled by a worker that dies: one credit.

use reqwest::StatusCode;
use serde_json::json;
use std::sync::Arc;
use system_tests::{Builder, System, eventually};
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread")]
async fn fifty_of_the_same_callback_at_once_credit_once() {
    let system = Builder::default().apis(2).workers(3).start().await;
    let order = system.order("alice", 1).await;
    let callback = system.pay_silently(order["orderNo"].as_str().expect("a number")).await;

    let mut sending = JoinSet::new();
    for _ in 0..50 {
        let (callback, http, url) = (callback.clone(), system.http.clone(), system.notify_url());
        sending.spawn(async move { callback.send(&http, &url).await.expect("an answer").status() });
    }
    assert_eq!(sending.join_all().await, vec![StatusCode::OK; 50]);

    system.wait_for_log(&[("processed", 1), ("duplicate", 49)]).await;
    assert_eq!(system.get("/api/points/balance", "alice").await["balance"], 1050);
    system.finish().await;
}

/// Sends `callbacks`, each `times` times, a few at a time.
async fn send_all(system: &System, callbacks: &[Arc<system_tests::Callback>], times: usize) {
    let mut sending = JoinSet::new();
    for callback in callbacks.iter().flat_map(|callback| std::iter::repeat_n(callback, times)) {
        let (callback, http, url) = (Arc::clone(callback), system.http.clone(), system.notify_url());
        sending.spawn(async move { callback.send(&http, &url).await.expect("an answer").status() });
        if sending.len() >= 32 {
            assert_eq!(sending.join_next().await.expect("one is under way").expect("no panic"), StatusCode::OK);
        }
    }
    while let Some(status) = sending.join_next().await {
        assert_eq!(status.expect("no panic"), StatusCode::OK);
    }
}

async fn paid_callbacks(system: &System, count: usize, users: usize) -> Vec<Arc<system_tests::Callback>> {
    let mut callbacks = Vec::with_capacity(count);
    for order_no in system.bulk_orders(count, users).await {
        callbacks.push(Arc::new(system.pay_silently(&order_no).await));
    }
    callbacks
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_in_the_middle_loses_and_doubles_nothing() {
    let mut system = Builder::default().workers(2).start().await;
    let callbacks = paid_callbacks(&system, 300, 7).await;

    // Orders are locked from outside, so that every worker stands in the middle of a transaction when it is killed.
    let mut lock = system.db.begin().await.expect("the database");
    sqlx::query("select from payment_orders order by order_no for update").execute(&mut *lock).await.expect("orders");
    send_all(&system, &callbacks, 1).await;
    let waiting = async || {
        system
            .count(
                "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
            )
            .await
    };
    eventually("a worker waits inside its transaction", system_tests::SOON, waiting, |workers| *workers >= 2).await;
    for worker in &mut system.workers {
        worker.kill();
    }
    lock.rollback().await.expect("the database");
    assert_eq!(system.count("select count(*) from point_entries").await, 0);

    system.start_worker().await;
    system.start_worker().await;
    system.wait_for_log(&[("processed", 300)]).await;
    assert_eq!(system.count("select sum(balance)::bigint from point_accounts").await, 300 * 105);
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_killed_again_and_again_lose_and_double_nothing() {
    let mut system = Builder::default().workers(2).start().await;
    let callbacks = paid_callbacks(&system, 400, 5).await;
    for part in callbacks.chunks(100) {
        send_all(&system, part, 2).await;
        system.workers[0].kill();
        system.workers.remove(0);
        system.start_worker().await;
    }
    system.wait_for_log(&[("processed", 400), ("duplicate", 400)]).await;
    assert_eq!(system.count("select sum(balance)::bigint from point_accounts").await, 400 * 105);
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_payments_of_one_user_in_one_set_add_up() {
    let system = Builder::default().apis(2).workers(3).start().await;
    let callbacks = paid_callbacks(&system, 120, 1).await;
    send_all(&system, &callbacks, 3).await;
    system.wait_for_log(&[("processed", 120), ("duplicate", 240)]).await;
    assert_eq!(system.get("/api/points/balance", "u0").await, json!({"userId": "u0", "balance": 120 * 105}));
    system.finish().await;
}
