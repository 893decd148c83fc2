//! The door: what is let in, what is refused and how, and that nothing of it stops a process.

use reqwest::{Method, StatusCode};
use serde_json::json;
use system_tests::{Builder, Callback, System};

async fn paid(system: &System) -> (String, Callback) {
    let order = system.order("alice", 0).await;
    let order_no = order["orderNo"].as_str().expect("a number").to_owned();
    let callback = system.pay_silently(&order_no).await;
    (order_no, callback)
}

fn fail(status: StatusCode) -> (StatusCode, String) {
    (status, "FAIL".into())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_wechat_did_not_sign_just_now_is_refused() {
    let mut system = Builder::default().start().await;
    let (order_no, callback) = paid(&system).await;
    let text = String::from_utf8(callback.body.clone()).expect("UTF-8");

    for key in ["forged", "probe"] {
        let refused = system.sign(&json!({"outTradeNo": order_no, "key": key})).await;
        assert_eq!(system.send(&refused).await, fail(StatusCode::UNAUTHORIZED), "{key}");
    }
    for seconds in [-301, 301, -86_400] {
        let stale = system.sign(&json!({"outTradeNo": order_no, "timestampOffsetSeconds": seconds})).await;
        assert_eq!(system.send(&stale).await, fail(StatusCode::UNAUTHORIZED), "{seconds} s");
    }
    let unknown = system.sign(&json!({"outTradeNo": order_no, "key": "unknownSerial"})).await;
    assert_eq!(system.send(&unknown).await, fail(StatusCode::SERVICE_UNAVAILABLE));

    for timestamp in ["0", "-1", "9223372036854775807", "99999999999999999999", "soon"] {
        let changed = callback.with_header("Wechatpay-Timestamp", timestamp);
        assert_eq!(system.send(&changed).await, fail(StatusCode::UNAUTHORIZED), "{timestamp}");
    }
    for (name, value) in [("Wechatpay-Nonce", "another"), ("Wechatpay-Signature", "AAAA"), ("Wechatpay-Signature", "?")]
    {
        assert_eq!(system.send(&callback.with_header(name, value)).await, fail(StatusCode::UNAUTHORIZED), "{name}");
    }
    for name in ["Wechatpay-Timestamp", "Wechatpay-Nonce", "Wechatpay-Signature", "Wechatpay-Serial"] {
        assert_eq!(system.send(&callback.without_header(name)).await, fail(StatusCode::BAD_REQUEST), "{name}");
    }
    let overlong = callback.with_header("Wechatpay-Nonce", &"x".repeat(5_000));
    assert_eq!(system.send(&overlong).await, fail(StatusCode::BAD_REQUEST));

    let altered = callback.with_body(text.replacen("TRANSACTION", "TRANSACTIOM", 1));
    assert_eq!(system.send(&altered).await, fail(StatusCode::UNAUTHORIZED));
    let with_a_blank = callback.with_body(format!("{text} "));
    assert_eq!(system.send(&with_a_blank).await, fail(StatusCode::UNAUTHORIZED), "the raw bytes are what counts");
    for body in [&text[..text.len() / 2], "", "not JSON", "<xml/>", "\u{feff}{}", "[[[["] {
        assert_eq!(system.send(&callback.with_body(body)).await, fail(StatusCode::BAD_REQUEST), "{body}");
    }
    assert_eq!(system.send(&callback.with_body(vec![0xff, 0xfe])).await, fail(StatusCode::BAD_REQUEST));
    assert_eq!(system.send(&callback.with_body("[".repeat(60_000))).await, fail(StatusCode::BAD_REQUEST));
    let oversize = callback.with_body(format!("\"{}\"", "x".repeat(64 * 1024)));
    assert_eq!(system.send(&oversize).await, fail(StatusCode::PAYLOAD_TOO_LARGE));

    let log = system.log().await;
    assert!(log.keys().all(|status| status.starts_with("rejected ")), "only refusals, with their reason: {log:?}");
    assert_eq!(system.count("select count(*) from point_entries").await, 0);
    assert_eq!(system.get(&format!("/api/payment/orders/{order_no}"), "alice").await["paymentStatus"], "pending");

    assert_eq!(system.send(&callback).await, (StatusCode::OK, "SUCCESS".into()), "the true one is let in all the same");
    let sql = "select count(*) from payment_notify_logs where process_status = 'processed'";
    system.wait_for_count("the payment", sql, 1).await;
    assert!(system.apis[0].is_running() && system.workers[0].is_running());
    assert!(!system.apis[0].log().contains("panicked") && !system.workers[0].log().contains("panicked"));
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_is_what_was_received() {
    let system = Builder::default().start().await;
    let (_, callback) = paid(&system).await;
    assert_eq!(system.send(&callback).await, (StatusCode::OK, "SUCCESS".into()));
    let body: Vec<u8> =
        sqlx::query_scalar("select body from payment_notify_bodies").fetch_one(&system.db).await.expect("a row");
    assert_eq!(body, callback.body);
    let admin = system.admin("root");
    let listed = admin.get("/api/payment/admin/notify-logs").await["items"][0]["id"].clone();
    let path = format!("/api/payment/admin/notify-logs/{}", listed.as_str().expect("an id"));
    let headers = admin.get(&path).await["headers"].clone();
    for (name, value) in &callback.headers {
        if name.to_ascii_lowercase().starts_with("wechatpay-") {
            assert_eq!(headers[name.to_ascii_lowercase()], json!(value), "{name}");
        }
    }
    system.wait_for_log(&[("processed", 1)]).await;
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attack_is_seen_and_does_not_fill_the_disk() {
    let system = Builder::default().start().await;
    let (order_no, _) = paid(&system).await;
    let forged = system.sign(&json!({"outTradeNo": order_no, "key": "forged"})).await;
    let started = std::time::Instant::now();
    for _ in 0..300 {
        assert_eq!(system.send(&forged).await, fail(StatusCode::UNAUTHORIZED));
    }
    let seconds = i64::try_from(started.elapsed().as_secs()).expect("a short time");
    let sql = "select count(*) from payment_notify_logs where process_status = 'rejected' and error_code = 'signature_invalid'";
    let kept = system_tests::eventually(
        "some are kept",
        system_tests::SOON,
        async || system.count(sql).await,
        |kept| *kept >= 5,
    );
    let kept = kept.await;
    assert!(kept <= 5 * (seconds + 2), "{kept} kept in {seconds} s");
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_routes_take_both_families_and_the_event_decides() {
    let system = Builder::default().start().await;
    let (_, callback) = paid(&system).await;
    let answer =
        callback.send(&system.http, &system.url("/api/payment/notify/wechat/refund")).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    system.wait_for_log(&[("processed", 1)]).await;
    assert_eq!(system.count("select count(*) from payment_notify_logs where notify_type = 'payment'").await, 1);

    for method in [Method::GET, Method::PUT] {
        let answer = system.http.request(method, system.notify_url()).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
    system.finish().await;
}
