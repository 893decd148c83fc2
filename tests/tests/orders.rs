//! Orders through their whole life: cancelled, expired, confirmed without a callback, made once for one key.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use system_tests::{Builder, SOON, System, eventually, ops};
use tokio::task::JoinSet;

fn path(order_no: &str) -> String {
    format!("/api/payment/orders/{order_no}")
}

async fn post(system: &System, path: &str, user: &str) -> (u16, Value) {
    let answer = system.request(Method::POST, path, user, None).await;
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

async fn cancel(system: &System, order_no: &str, user: &str) -> (u16, Value) {
    post(system, &format!("{}/cancel", path(order_no)), user).await
}

async fn at_wechat(system: &System, order_no: &str) -> String {
    let order = system.control(Method::GET, &format!("/control/orders/{order_no}"), None).await;
    order["state"].as_str().expect("a state").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_order_is_closed_at_wechat_first() {
    let system = Builder::default().start().await;
    let order = system.order("alice", 0).await;
    let order_no = order["orderNo"].as_str().expect("a number");
    assert_eq!(cancel(&system, order_no, "mallory").await.0, 404);
    for _ in 0..2 {
        let (status, order) = cancel(&system, order_no, "alice").await;
        assert_eq!((status, &order["paymentStatus"], &order["codeUrl"]), (200, &json!("cancelled"), &Value::Null));
        assert_eq!(at_wechat(&system, order_no).await, "CLOSED");
    }
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paid_order_cannot_be_cancelled_and_is_credited() {
    let system = Builder::default().start().await;
    let order = system.order("alice", 0).await;
    let order_no = order["orderNo"].as_str().expect("a number");
    // Its callback is lost: only the cancel finds out.
    let body = json!({"notify": false});
    system.control(Method::POST, &format!("/control/orders/{order_no}/pay"), Some(&body)).await;
    let (status, problem) = cancel(&system, order_no, "alice").await;
    assert_eq!((status, &problem["code"]), (409, &json!("order_already_paid")));
    assert_eq!(system.get("/api/points/balance", "alice").await["balance"], 100);
    assert_eq!(cancel(&system, order_no, "alice").await.1["code"], "order_already_paid");

    for (state, code) in [("expired", "order_not_cancellable"), ("failed", "order_not_cancellable")] {
        let order = system.order(state, 0).await;
        let order_no = order["orderNo"].as_str().expect("a number");
        let update = "update payment_orders set payment_status = $2 where order_no = $1";
        sqlx::query(update).bind(order_no).bind(state).execute(&system.db).await.expect("the database");
        let (status, problem) = cancel(&system, order_no, state).await;
        assert_eq!((status, &problem["code"]), (409, &json!(code)), "{state}");
    }
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_could_not_be_closed_stays_as_it_is() {
    let system = Builder::default().workers(0).start().await;
    let order = system.order("alice", 0).await;
    let order_no = order["orderNo"].as_str().expect("a number");
    for endpoint in ["query", "close"] {
        let next = json!({"endpoint": endpoint, "fault": "apiError", "count": 3});
        system.control(Method::POST, "/control/faults/next", Some(&next)).await;
        let (status, problem) = cancel(&system, order_no, "alice").await;
        assert_eq!((status, &problem["code"]), (503, &json!("wechat_unavailable")), "{endpoint}");
        assert_eq!(system.get(&path(order_no), "alice").await["paymentStatus"], "pending");
    }
    // Closed there, but the answer was lost: asking again tells.
    let next = json!({"endpoint": "close", "fault": "apiErrorAfter", "count": 3});
    system.control(Method::POST, "/control/faults/next", Some(&next)).await;
    assert_eq!(cancel(&system, order_no, "alice").await.0, 200);
    assert_eq!(at_wechat(&system, order_no).await, "CLOSED");
    system.finish().await;
}

/// Paid and cancelled at the same moment, a thousand times: what WeChat Pay holds in the end, we hold.
#[tokio::test(flavor = "multi_thread")]
async fn a_race_between_pay_and_close_ends_in_wechats_truth() {
    const RACES: usize = 1_000;
    let system = Builder::default().start().await;
    let numbers = system.bulk_orders(RACES, 1).await;
    let token = system.token("u0");
    let mut racing = JoinSet::new();
    let (mut paid, mut cancelled) = (0, 0);
    for (nth, number) in numbers.iter().enumerate() {
        let http = system.http.clone();
        // The payment comes at every moment of the cancel: before its query, between query and close, after both.
        let moment = Duration::from_micros(u64::try_from(nth * 7_919 % 60_000).expect("small"));
        let pay = http.post(system.control_url(&format!("/control/orders/{number}/pay"))).json(&json!({}));
        let cancel = http.post(system.url(&format!("{}/cancel", path(number)))).bearer_auth(&token);
        racing.spawn(async move {
            let late = async {
                tokio::time::sleep(moment).await;
                pay.send().await
            };
            let (pay, cancel) = tokio::join!(late, cancel.send());
            (pay.expect("an answer").status(), cancel.expect("an answer").status())
        });
        if racing.len() >= 8 {
            let (pay, cancel) = racing.join_next().await.expect("some").expect("no panic");
            assert!(pay.is_success() != cancel.is_success(), "paid {pay}, cancelled {cancel}");
            if pay.is_success() { paid += 1 } else { cancelled += 1 }
        }
    }
    while let Some(race) = racing.join_next().await {
        let (pay, cancel) = race.expect("no panic");
        assert!(pay.is_success() != cancel.is_success(), "paid {pay}, cancelled {cancel}");
        if pay.is_success() { paid += 1 } else { cancelled += 1 }
    }
    println!("{paid} were paid, {cancelled} cancelled");
    assert!(paid > 50 && cancelled > 50, "no race: {paid} were paid, {cancelled} cancelled");
    let all_paid = "select count(*) from payment_orders where payment_status = 'paid'";
    system.wait_for_count("every payment is credited", all_paid, paid).await;
    assert_eq!(system.count("select count(*) from payment_orders where payment_status = 'cancelled'").await, cancelled);
    let books = system.control(Method::GET, "/control/books", None).await;
    let payments = books["payments"].as_array().expect("payments");
    assert_eq!(i64::try_from(payments.len()).expect("few"), paid);
    for payment in payments {
        let status: String = sqlx::query_scalar("select payment_status from payment_orders where order_no = $1")
            .bind(payment["outTradeNo"].as_str())
            .fetch_one(&system.db)
            .await
            .expect("the order");
        assert_eq!(status, "paid", "{payment}");
    }
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_every_callback_lost_points_arrive_within_seconds() {
    let system = Builder::default().workers(2).start().await;
    system.control(Method::PUT, "/control/faults", Some(&json!({"drop": 1}))).await;
    let numbers = system.bulk_orders(100, 1).await;
    system.ask_about(&numbers).await;
    // Paid at different moments, so that every part of the schedule is hit.
    let mut waits = Vec::new();
    let mut waiting: Vec<(String, Instant)> = Vec::new();
    let mut rest = numbers.into_iter();
    let until = Instant::now() + Duration::from_mins(2);
    while waits.len() < 100 {
        assert!(Instant::now() < until, "{} of 100 have arrived", waits.len());
        if let Some(number) = rest.next() {
            system.pay(&number).await;
            waiting.push((number, Instant::now()));
        }
        let paid: Vec<String> = sqlx::query_scalar("select order_no from payment_orders where payment_status = 'paid'")
            .fetch_all(&system.db)
            .await
            .expect("the database");
        waiting.retain(|(number, since)| {
            let arrived = paid.contains(number);
            if arrived {
                waits.push(since.elapsed());
            }
            !arrived
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    waits.sort_unstable();
    println!("without callbacks: p50 {:?}, p99 {:?}, longest {:?}", waits[50], waits[98], waits[99]);
    assert!(waits[98] < Duration::from_secs(10), "p99 {:?}", waits[98]);
    assert_eq!(system.log().await.len(), 0, "not one callback came");
    assert_eq!(system.get("/api/points/balance", "u0").await["balance"], 100 * 105);
    system.finish().await;
}

async fn let_time_run_out(system: &System, numbers: &[String]) {
    let update = "update payment_orders set expired_at = date_trunc('second', now()) - interval '1 second', next_check_at = now()
                  where order_no = any($1)";
    sqlx::query(update).bind(numbers).execute(&system.db).await.expect("the database");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_expires_only_after_wechat_has_closed_it() {
    let system = Builder::default().workers(2).start().await;
    let numbers = system.bulk_orders(20, 1).await;
    for number in &numbers[..10] {
        let body = json!({"notify": false});
        system.control(Method::POST, &format!("/control/orders/{number}/pay"), Some(&body)).await;
    }
    let_time_run_out(&system, &numbers).await;
    let ended = "select count(*) from payment_orders where payment_status <> 'pending'";
    system.wait_for_count("all have ended", ended, 20).await;
    for (nth, number) in numbers.iter().enumerate() {
        let order = system.get(&path(number), "u0").await;
        let expected = if nth < 10 { ("paid", "SUCCESS") } else { ("expired", "CLOSED") };
        assert_eq!(
            (order["paymentStatus"].as_str(), at_wechat(&system, number).await.as_str()),
            (Some(expected.0), expected.1)
        );
    }
    assert_eq!(system.get("/api/points/balance", "u0").await["balance"], 10 * 105);
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_wechat_finds_us_too_fast_we_slow_down_and_lose_nothing() {
    let system = Builder::default().start().await;
    let numbers = system.bulk_orders(5, 1).await;
    for number in &numbers {
        let body = json!({"notify": false});
        system.control(Method::POST, &format!("/control/orders/{number}/pay"), Some(&body)).await;
    }
    let next = json!({"endpoint": "query", "fault": "api429", "count": 3});
    system.control(Method::POST, "/control/faults/next", Some(&next)).await;
    system.ask_about(&numbers).await;
    let slowed = "select count(*) from wechat_budgets where throttle < 1";
    system.wait_for_count("the rate is lower", slowed, 1).await;
    let paid = "select count(*) from payment_orders where payment_status = 'paid'";
    system.wait_for_count("all is found all the same", paid, 5).await;
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_with_sync_asks_wechat_first() {
    let system = Builder::default().workers(0).start().await;
    let order = system.order("alice", 0).await;
    let order_no = order["orderNo"].as_str().expect("a number");
    assert_eq!(system.get(&format!("{}?sync=true", path(order_no)), "alice").await["paymentStatus"], "pending");
    let body = json!({"notify": false});
    system.control(Method::POST, &format!("/control/orders/{order_no}/pay"), Some(&body)).await;
    assert_eq!(system.get(&path(order_no), "alice").await["paymentStatus"], "pending");
    assert_eq!(system.get(&format!("{}?sync=false", path(order_no)), "alice").await["paymentStatus"], "pending");

    let next = json!({"endpoint": "query", "fault": "apiError", "count": 3});
    system.control(Method::POST, "/control/faults/next", Some(&next)).await;
    let answer = system.get(&format!("{}?sync=true", path(order_no)), "alice").await;
    assert_eq!(answer["paymentStatus"], "pending", "a look does not fail because WeChat Pay does");
    assert_eq!(system.get(&format!("{}?sync=true", path(order_no)), "alice").await["paymentStatus"], "paid");
    assert_eq!(system.get("/api/points/balance", "alice").await["balance"], 100);
    let bad = system.request(Method::GET, &format!("{}?sync=perhaps", path(order_no)), "alice", None).await;
    assert_eq!(bad.status(), StatusCode::UNPROCESSABLE_ENTITY);
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admins_sync_honours_late_money() {
    let system = Builder::default().workers(0).start().await;
    let numbers = system.bulk_orders(2, 1).await;
    let body = json!({"notify": false});
    system.control(Method::POST, &format!("/control/orders/{}/pay", numbers[0]), Some(&body)).await;
    sqlx::query("update payment_orders set payment_status = 'expired'")
        .execute(&system.db)
        .await
        .expect("the database");
    let sync = async |number: &str, token: &str| {
        let url = system.url(&format!("/api/payment/admin/orders/{number}/sync"));
        let answer = system.http.post(url).bearer_auth(token).send().await.expect("an answer");
        (answer.status().as_u16(), answer.json::<Value>().await.expect("JSON"))
    };
    let admin = ops(&system.env, &["token", "--user", "root", "--admin"]);
    assert_eq!(sync(&numbers[0], &system.token("u0")).await.1["code"], "forbidden");
    let (status, order) = sync(&numbers[0], &admin).await;
    assert_eq!((status, &order["paymentStatus"]), (200, &json!("paid")));
    let (status, order) = sync(&numbers[1], &admin).await;
    assert_eq!((status, &order["paymentStatus"]), (200, &json!("expired")));
    assert_eq!(sync("nosuchorder", &admin).await.0, 404);
    let next = json!({"endpoint": "query", "fault": "apiError", "count": 3});
    system.control(Method::POST, "/control/faults/next", Some(&next)).await;
    assert_eq!(sync(&numbers[1], &admin).await.1["code"], "wechat_unavailable");
    system.finish().await;
}

async fn create(system: &System, user: &str, key: &str, package: &Value) -> (u16, Value) {
    let request = system.http.post(system.url("/api/payment/orders")).bearer_auth(system.token(user));
    let body = json!({"packageId": package["id"], "paymentMethod": "wechat_native"});
    let answer = request.header("Idempotency-Key", key).json(&body).send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_makes_one_order() {
    let system = Builder::default().apis(2).workers(0).start().await;
    let packages = system.get("/api/payment/packages", "alice").await;
    let (small, large) = (&packages["items"][0], &packages["items"][1]);

    let (status, first) = create(&system, "alice", "key-1", small).await;
    assert_eq!(status, 201);
    let (status, again) = create(&system, "alice", "key-1", small).await;
    assert_eq!((status, &again), (200, &first));
    let (status, other) = create(&system, "alice", "key-1", large).await;
    assert_eq!((status, &other["code"]), (409, &json!("idempotency_conflict")));
    let (status, others) = create(&system, "bob", "key-1", large).await;
    assert_eq!((status, &others["userId"]), (201, &json!("bob")), "keys of different users never meet");
    for key in ["", " ", "a b", &"x".repeat(65)] {
        let (status, problem) = create(&system, "alice", key, small).await;
        assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!("Idempotency-Key")), "{key:?}");
    }

    let mut creating = JoinSet::new();
    for _ in 0..12 {
        let request = system.http.post(system.url("/api/payment/orders")).bearer_auth(system.token("carol"));
        let body = json!({"packageId": small["id"], "paymentMethod": "wechat_native"});
        let request = request.header("Idempotency-Key", "at-once").json(&body);
        creating.spawn(async move {
            let answer = request.send().await.expect("an answer");
            (answer.status().as_u16(), answer.json::<Value>().await.expect("JSON")["orderNo"].clone())
        });
    }
    let answers = creating.join_all().await;
    assert_eq!(answers.iter().filter(|(status, _)| *status == 201).count(), 1, "{answers:?}");
    assert!(answers.iter().all(|(_, order_no)| *order_no == answers[0].1), "{answers:?}");
    assert_eq!(system.count("select count(*) from payment_orders where user_id = 'carol'").await, 1);

    // A repeat is answered although nothing could be bought any more.
    sqlx::query("update payment_packages set is_active = false").execute(&system.db).await.expect("the database");
    assert_eq!(create(&system, "alice", "key-1", small).await, (200, first));
    assert_eq!(create(&system, "alice", "key-2", small).await.1["code"], "package_unavailable");
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_order_may_be_tried_again_with_its_key_and_a_key_lives_a_day() {
    let system = Builder::default().workers(0).start().await;
    let packages = system.get("/api/payment/packages", "alice").await;
    let package = &packages["items"][0];
    let next = json!({"endpoint": "native", "fault": "apiError", "count": 3});
    system.control(Method::POST, "/control/faults/next", Some(&next)).await;
    let (status, problem) = create(&system, "alice", "key", package).await;
    assert_eq!((status, &problem["code"]), (503, &json!("wechat_unavailable")));
    let (status, order) = create(&system, "alice", "key", package).await;
    assert_eq!((status, &order["paymentStatus"]), (201, &json!("pending")));
    assert_eq!(create(&system, "alice", "key", package).await, (200, order.clone()));

    sqlx::query("update idempotency_keys set created_at = now() - interval '25 hours'")
        .execute(&system.db)
        .await
        .expect("the database");
    let (status, later) = create(&system, "alice", "key", package).await;
    assert_eq!(status, 201);
    assert_ne!(later["orderNo"], order["orderNo"]);
    system.finish().await;
}

/// A cancel while the order is still being made must neither fail nor leave it payable.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_may_be_cancelled_while_it_is_being_made() {
    let system = Builder::default().workers(0).start().await;
    let next = json!({"endpoint": "native", "fault": "apiSlow", "count": 1, "ms": 2_000});
    system.control(Method::POST, "/control/faults/next", Some(&next)).await;
    let packages = system.get("/api/payment/packages", "alice").await;
    let (created, cancelled) = tokio::join!(create(&system, "alice", "key", &packages["items"][0]), async {
        let number = async || -> Option<String> {
            sqlx::query_scalar("select order_no from payment_orders")
                .fetch_optional(&system.db)
                .await
                .expect("the database")
        };
        let number = eventually("the order is stored", SOON, number, Option::is_some).await.expect("a number");
        cancel(&system, &number, "alice").await
    });
    assert_eq!((cancelled.0, &cancelled.1["paymentStatus"]), (200, &json!("cancelled")), "{cancelled:?}");
    assert_eq!(
        (created.0, &created.1["paymentStatus"], &created.1["codeUrl"]),
        (201, &json!("cancelled"), &Value::Null)
    );
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_five_open_orders_and_no_more_however_fast_they_are_asked_for() {
    let system = Builder::default().apis(2).workers(0).env("MAX_PENDING_ORDERS", "5").start().await;
    let packages = system.get("/api/payment/packages", "alice").await;
    let mut creating = JoinSet::new();
    for nth in 0..15 {
        let (http, url, token) = (system.http.clone(), system.url("/api/payment/orders"), system.token("alice"));
        let body = json!({"packageId": packages["items"][0]["id"], "paymentMethod": "wechat_native"});
        creating.spawn(async move {
            let request = http.post(url).bearer_auth(token).header("Idempotency-Key", format!("key-{nth}")).json(&body);
            let answer = request.send().await.expect("an answer");
            (answer.status().as_u16(), answer.json::<Value>().await.expect("JSON"))
        });
    }
    let answers = creating.join_all().await;
    let made: Vec<_> = answers.iter().filter(|(status, _)| *status == 201).collect();
    assert_eq!(made.len(), 5, "{answers:?}");
    let refused = answers.iter().filter(|(status, json)| *status == 429 && json["code"] == "too_many_pending_orders");
    assert_eq!(refused.count(), 10, "{answers:?}");

    let order_no = made[0].1["orderNo"].as_str().expect("a number");
    assert_eq!(cancel(&system, order_no, "alice").await.0, 200);
    assert_eq!(create(&system, "alice", "one-more", &packages["items"][0]).await.0, 201, "an ended order makes room");
    assert_eq!(create(&system, "alice", "two-more", &packages["items"][0]).await.0, 429);
    assert_eq!(create(&system, "bob", "key", &packages["items"][0]).await.0, 201, "others have their own five");
    system.finish().await;
}
