//! Budgets: what counts against whom, what a refusal says, and whose word for an address is taken.

use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use system_tests::{Builder, SOON, System, eventually};
use tokio::task::JoinSet;

fn number(answer: &Response, name: &str) -> u64 {
    let value = answer.headers().get(name).unwrap_or_else(|| panic!("no {name}: {:?}", answer.headers()));
    value.to_str().expect("a text").parse().expect("a whole number")
}

/// Asks for a new order that is none, so that only the count matters.
async fn create(system: &System, token: Option<&str>, forwarded_for: &[&str]) -> Response {
    let mut request = system.http.post(system.url("/api/payment/orders")).body("{}");
    request = request.header("content-type", "application/json");
    for line in forwarded_for {
        request = request.header("x-forwarded-for", *line);
    }
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    request.send().await.expect("an answer")
}

async fn refused(answer: Response) {
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(number(&answer, "retry-after") >= 1);
    assert_eq!(number(&answer, "ratelimit-remaining"), 0);
    assert!(number(&answer, "ratelimit-reset") >= number(&answer, "retry-after"));
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let problem: Value = answer.json().await.expect("JSON");
    assert_eq!((&problem["code"], &problem["status"]), (&"rate_limited".into(), &429.into()));
    assert!(problem["requestId"].as_str().is_some_and(|id| !id.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn new_orders_are_counted_per_user_and_the_answers_say_so() {
    let system = Builder::default().workers(0).env("RATE_LIMIT_CREATE_PER_USER", "3").start().await;
    let (alice, bob) = (system.token("alice"), system.token("bob"));
    for left in [2, 1, 0] {
        let answer = create(&system, Some(&alice), &[]).await;
        assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!((number(&answer, "ratelimit-limit"), number(&answer, "ratelimit-remaining")), (3, left));
        assert!((1..=60).contains(&number(&answer, "ratelimit-reset")));
        assert!(!answer.headers().contains_key("retry-after"));
    }
    refused(create(&system, Some(&alice), &[]).await).await;
    assert_eq!(create(&system, Some(&bob), &[]).await.status(), StatusCode::UNPROCESSABLE_ENTITY);

    let balance = system.http.get(system.url("/api/points/balance")).bearer_auth(&alice);
    let balance = balance.send().await.expect("an answer");
    assert_eq!(balance.status(), StatusCode::OK, "reading has a budget of its own");
    assert_eq!(number(&balance, "ratelimit-limit"), 100);
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_proves_nothing_counts_by_address_and_a_header_changes_no_address() {
    let system = Builder::default().workers(0).env("RATE_LIMIT_CREATE_PER_IP", "4").start().await;
    for (token, forwarded_for) in
        [(None, &["198.51.100.1"][..]), (Some("nonsense"), &["198.51.100.2"]), (None, &[]), (Some("x.y.z"), &["::1"])]
    {
        assert_eq!(create(&system, token, forwarded_for).await.status(), StatusCode::UNAUTHORIZED);
    }
    refused(create(&system, None, &["198.51.100.3"]).await).await;
    refused(create(&system, Some(&system.token("alice")), &[]).await).await;
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_trusted_proxy_the_client_counts_and_nobody_can_pose_as_another() {
    let system = Builder::default()
        .workers(0)
        .env("TRUSTED_PROXIES", "127.0.0.0/8, 10.0.0.0/8")
        .env("RATE_LIMIT_CREATE_PER_IP", "2")
        .start()
        .await;
    for _ in 0..2 {
        assert_eq!(create(&system, None, &["198.51.100.1"]).await.status(), StatusCode::UNAUTHORIZED);
    }
    refused(create(&system, None, &["198.51.100.1"]).await).await;
    refused(create(&system, None, &["203.0.113.7, 198.51.100.1, 10.1.1.1"]).await).await;
    refused(create(&system, None, &["203.0.113.8", "198.51.100.1:4711"]).await).await;
    assert_eq!(create(&system, None, &["198.51.100.1, 198.51.100.2"]).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(create(&system, None, &[]).await.status(), StatusCode::UNAUTHORIZED, "the proxy itself");

    let callback = system.sign(&json!({"rawBody": "{}"})).await.with_header("wechatpay-nonce", "another");
    let mut request =
        system.http.post(system.notify_url()).header("x-forwarded-for", "2001:db8::7").body(callback.body);
    for (name, value) in callback.headers {
        if !name.eq_ignore_ascii_case("content-length") && !name.eq_ignore_ascii_case("host") {
            request = request.header(name, value);
        }
    }
    assert_eq!(request.send().await.expect("an answer").status(), StatusCode::UNAUTHORIZED);
    system.wait_for_log(&[("rejected signature_invalid", 1)]).await;
    let address: String =
        sqlx::query_scalar("select client_ip from payment_notify_logs").fetch_one(&system.db).await.expect("a row");
    assert_eq!(address, "2001:db8::7", "the log knows the same client");
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_comes_back_and_the_operators_paths_have_none() {
    let system = Builder::default().workers(0).env("RATE_LIMIT_READ_PER_IP", "2").start().await;
    let read = async || system.http.get(system.url("/api/payment/packages")).send().await.expect("an answer");
    let over = async || read().await.status();
    eventually("the budget is used up", SOON, over, |status| *status == StatusCode::TOO_MANY_REQUESTS).await;
    for _ in 0..20 {
        for path in ["/healthz", "/readyz"] {
            let answer = system.http.get(system.url(path)).send().await.expect("an answer");
            assert_eq!(answer.status(), StatusCode::OK);
            assert!(!answer.headers().contains_key("ratelimit-limit"), "{path}");
        }
    }
    eventually("and comes back", SOON, over, |status| *status == StatusCode::OK).await;
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callbacks_over_their_budget_are_refused_in_words_that_wechat_pay_understands() {
    let system = Builder::default().workers(0).env("RATE_LIMIT_CALLBACK_PER_IP", "1").start().await;
    let send = async || system.http.post(system.notify_url()).body("{}").send().await.expect("an answer");
    let over =
        eventually("the budget is used up", SOON, send, |answer| answer.status() != StatusCode::BAD_REQUEST).await;
    assert_eq!(over.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(number(&over, "retry-after"), 1);
    assert_eq!(over.json::<Value>().await.expect("JSON")["code"], "FAIL");
    let again = async || send().await.status();
    eventually("and comes back", SOON, again, |status| *status == StatusCode::BAD_REQUEST).await;
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_so_many_orders_waiting_and_no_more_however_many_are_asked_for_at_once() {
    let system = Arc::new(Builder::default().workers(0).env("MAX_PENDING_ORDERS", "3").start().await);
    let package = &system.get("/api/payment/packages", "alice").await["items"][0]["id"];
    let body = json!({"packageId": package, "paymentMethod": "wechat_native"});
    let token = system.token("alice");
    let mut asking = JoinSet::new();
    for _ in 0..12 {
        let (system, token, body) = (Arc::clone(&system), token.clone(), body.clone());
        asking.spawn(async move {
            let request = system.http.post(system.url("/api/payment/orders")).bearer_auth(token).json(&body);
            let answer = request.send().await.expect("an answer");
            (answer.status(), answer.json::<Value>().await.expect("JSON"))
        });
    }
    let (made, refused): (Vec<_>, Vec<_>) =
        asking.join_all().await.into_iter().partition(|(status, _)| *status == StatusCode::CREATED);
    assert_eq!((made.len(), refused.len()), (3, 9), "{refused:?}");
    for (status, problem) in &refused {
        assert_eq!((status.as_u16(), &problem["code"]), (429, &json!("too_many_pending_orders")));
    }
    system.order("bob", 0).await;

    let order_no = made[0].1["orderNo"].as_str().expect("a number");
    let cancel = format!("/api/payment/orders/{order_no}/cancel");
    assert_eq!(system.request(Method::POST, &cancel, "alice", None).await.status(), StatusCode::OK);
    system.order("alice", 0).await;
    Arc::into_inner(system).expect("nobody else asks").finish().await;
}
