//! Servers that go away and come back.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use system_tests::{Builder, SOON, eventually};
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread")]
async fn without_rabbitmq_the_rescue_loop_credits_everything_and_with_it_the_normal_path_resumes() {
    let system = Builder::default().workers(2).start().await;
    let numbers = system.bulk_orders(210, 13).await;
    let rabbitmq = system.rabbitmq.as_ref().expect("broker mode");
    rabbitmq.cut();
    for number in &numbers[..200] {
        system.pay(number).await;
    }
    system.wait_for_log(&[("processed", 200)]).await;
    assert_eq!(system.count("select sum(balance)::bigint from point_accounts").await, 200 * 105);

    rabbitmq.restore();
    let connected = async || {
        let twice = |process: &system_tests::Process, end: &str| {
            process.log().lines().filter(|line| line.contains("RabbitMQ connected") && line.ends_with(end)).count() >= 2
        };
        twice(&system.apis[0], "for publishing") && system.workers.iter().all(|worker| twice(worker, ".notify"))
    };
    eventually("everybody has found the broker again", SOON, connected, |all| *all).await;
    let rescued = || system.workers.iter().map(|worker| worker.log().matches("rescue:").count()).sum::<usize>();
    let before = rescued();
    assert!(before > 0, "the rescue loop did it");
    for number in &numbers[200..] {
        system.pay(number).await;
        let paid = "select count(*) from payment_orders where payment_status = 'paid'";
        let expected = 201
            + i64::try_from(numbers[200..].iter().position(|other| other == number).expect("it is one")).expect("few");
        system.wait_for_count("the payment", paid, expected).await;
    }
    // A machine that stands still for two seconds lets rescue be first for one of them.
    let later = rescued() - before;
    assert!(later < numbers[200..].len() / 2, "the broker delivers again; rescue took {later}");
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_postgresql_callbacks_are_refused_and_their_repeats_are_credited() {
    let system = Builder::default().clock_factor(30).start().await;
    let numbers = system.bulk_orders(40, 3).await;
    system.postgres.cut();
    for number in &numbers {
        system.pay(number).await;
    }
    let refused = async || {
        let notifications = system.control(Method::GET, "/control/notifications", None).await;
        notifications.to_string().matches("\"status\":503").count()
    };
    eventually("callbacks are refused", SOON, refused, |refused| *refused >= numbers.len()).await;
    assert_eq!(system.count("select count(*) from payment_notify_logs").await, 0);

    system.postgres.restore();
    let paid = "select count(*) from payment_orders where payment_status = 'paid'";
    system.wait_for_count("the repeats", paid, 40).await;
    assert_eq!(system.count("select sum(balance)::bigint from point_accounts").await, 40 * 105);
    let unfinished = "select count(*) from payment_notify_logs where process_status in ('received', 'retrying')";
    system.wait_for_count("nothing is left to do", unfinished, 0).await;
    system.finish().await;
}

/// A database that hangs is worse than one that is gone: everything waits. The intake must not.
#[tokio::test(flavor = "multi_thread")]
async fn while_postgresql_hangs_the_intake_refuses_at_once_when_full_and_its_memory_stays_flat() {
    let mut system = Builder::default().workers(0).start().await;
    let numbers = system.bulk_orders(1, 1).await;
    let callback = system.pay_silently(&numbers[0]).await;
    // As large as allowed, and truly signed: the worst that can be waiting.
    let large = json!({"rawBody": format!("{{\"x\":\"{}\"}}", "x".repeat(60_000))});
    let large = std::sync::Arc::new(system.sign(&large).await);
    assert_eq!(system.send(&callback).await.0, StatusCode::OK);
    let at_rest = system.apis[0].resident_bytes();
    // Not through the balancer: that would take three files a callback.
    let url = format!("http://{}/api/payment/notify/wechat", system.apis[0].listening().await);

    system.postgres.stall();
    let mut sending = JoinSet::new();
    let (mut refused, mut quickest) = (0, Duration::MAX);
    for _ in 0..3_000 {
        let (large, http, url) = (std::sync::Arc::clone(&large), system.http.clone(), url.clone());
        sending.spawn(async move {
            let started = Instant::now();
            (large.send(&http, &url).await.expect("an answer").status(), started.elapsed())
        });
        if sending.len() >= 400 {
            let (status, took) = sending.join_next().await.expect("some are under way").expect("no panic");
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
            (refused, quickest) = (refused + 1, quickest.min(took));
        }
    }
    while let Some(answer) = sending.join_next().await {
        let (status, took) = answer.expect("no panic");
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        (refused, quickest) = (refused + 1, quickest.min(took));
    }
    assert_eq!(refused, 3_000);
    assert!(quickest < Duration::from_secs(1), "when the queue is full the answer comes at once: {quickest:?}");
    let peak = system.apis[0].resident_bytes();
    assert!(peak < 100 * 1_024 * 1_024, "{} MiB, {} at rest", peak >> 20, at_rest >> 20);

    system.postgres.restore();
    let accepted = async || system.send(&callback).await.0;
    eventually("callbacks are taken again", SOON, accepted, |status| *status == StatusCode::OK).await;
    system.finish().await;
}

/// WeChat Pay's answers that decide nothing must never be taken for success or failure.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_survives_an_answer_that_cannot_be_trusted() {
    let system = Builder::default().start().await;
    for fault in [
        "apiProbe",
        "apiUnsigned",
        "apiBadSignature",
        "apiStale",
        "apiError",
        "apiErrorAfter",
        "apiReset",
        "apiTruncated",
    ] {
        let next = json!({"endpoint": "native", "fault": fault, "count": 1});
        system.control(Method::POST, "/control/faults/next", Some(&next)).await;
        let order = system.order("alice", 0).await;
        assert!(order["codeUrl"].is_string(), "{fault}: {order}");
    }
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_without_a_code_is_failed_and_not_payable() {
    let system = Builder::default().start().await;
    let packages = system.get("/api/payment/packages", "alice").await;
    let body = json!({"packageId": packages["items"][0]["id"], "paymentMethod": "wechat_native"});
    for (fault, status, code) in [
        ("apiUnsigned", StatusCode::SERVICE_UNAVAILABLE, "wechat_unavailable"),
        ("apiError", StatusCode::SERVICE_UNAVAILABLE, "wechat_unavailable"),
        ("api429", StatusCode::SERVICE_UNAVAILABLE, "wechat_unavailable"),
    ] {
        let next = json!({"endpoint": "native", "fault": fault, "count": 3});
        system.control(Method::POST, "/control/faults/next", Some(&next)).await;
        let answer = system.request(Method::POST, "/api/payment/orders", "alice", Some(&body)).await;
        assert_eq!(answer.status(), status, "{fault}");
        assert_eq!(answer.json::<Value>().await.expect("JSON")["code"], code);
        // 429 is not repeated, so its leftovers must not reach the next order.
        system.control(Method::PUT, "/control/faults", Some(&json!({}))).await;
        let drain = system.request(Method::POST, "/api/payment/orders", "drain", Some(&body)).await;
        drop(drain);
    }
    let payable = "select count(*) from payment_orders where user_id = 'alice' and (payment_status <> 'failed' or code_url is not null)";
    assert_eq!(system.count(payable).await, 0);
    let order_no: String = sqlx::query_scalar("select order_no from payment_orders where user_id = 'alice' limit 1")
        .fetch_one(&system.db)
        .await
        .expect("an order");
    let path = format!("/api/payment/orders/{order_no}");
    assert_eq!(system.get(&path, "alice").await["codeUrl"], Value::Null);
    let qrcode = system.request(Method::GET, &format!("{path}/qrcode.svg"), "alice", None).await;
    assert_eq!(qrcode.status(), StatusCode::NOT_FOUND);
    system.finish().await;
}

/// The process that made the order died before it had the code: somebody must end it.
#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_order_is_ended_by_a_worker() {
    let mut system = Builder::default().workers(0).start().await;
    let numbers = system.bulk_orders(2, 1).await;
    sqlx::query(
        "update payment_orders set code_url = null, created_at = now() - interval '61 seconds' where order_no = $1",
    )
    .bind(&numbers[0])
    .execute(&system.db)
    .await
    .expect("the database");
    sqlx::query("update payment_orders set code_url = null where order_no = $1")
        .bind(&numbers[1])
        .execute(&system.db)
        .await
        .expect("the database");
    system.start_worker().await;
    system
        .wait_for_count("it is failed", "select count(*) from payment_orders where payment_status = 'failed'", 1)
        .await;
    assert_eq!(
        system.count("select count(*) from payment_orders where payment_status = 'pending'").await,
        1,
        "the other may still get its code"
    );
    system.finish().await;
}
