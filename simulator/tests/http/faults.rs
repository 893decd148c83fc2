//! What goes wrong on purpose, as a merchant sees it.

use std::time::{Duration, Instant};

use crate::support::{World, verifies};
use reqwest::Method;
use serde_json::{Value, json};

/// Makes and pays an order under faults of its own.
async fn pay(world: &World, out_trade_no: &str, faults: Value) {
    let order = json!({"outTradeNo": out_trade_no, "total": 1, "notifyUrl": world.notify_url});
    assert_eq!(world.control(Method::POST, "/orders", order).await.0, 201);
    let path = format!("/orders/{out_trade_no}");
    assert_eq!(world.control(Method::PUT, &format!("{path}/faults"), faults).await.0, 200);
    assert_eq!(world.control(Method::POST, &format!("{path}/pay"), json!({})).await.0, 200);
}

#[tokio::test]
async fn a_dropped_callback_is_recorded_and_not_sent() {
    let world = World::start(&["--retries", "1"]).await;
    pay(&world, "SO000001", json!({"drop": 1})).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(world.received.lock().unwrap().is_empty());
    let (_, order) = world.control(Method::GET, "/orders/SO000001", json!({})).await;
    let notification = &order["notifications"][0];
    assert_eq!(notification["delivery"], "givenUp");
    assert_eq!(notification["attempts"][1]["fault"], "drop");
}

#[tokio::test]
async fn a_doubled_callback_comes_twice_under_one_id() {
    let world = World::start(&[]).await;
    pay(&world, "SO000001", json!({"duplicate": 1})).await;
    let callbacks = world.callbacks(2).await;
    assert_eq!(callbacks[0].envelope()["id"], callbacks[1].envelope()["id"]);
    assert!(callbacks.iter().all(|one| verifies(&world.public_key, &one.headers, &one.body)));
}

#[tokio::test]
async fn a_held_callback_comes_after_a_later_one() {
    let world = World::start(&[]).await;
    pay(&world, "SO000001", json!({"reorder": {"rate": 1, "maxMs": 4000}})).await;
    pay(&world, "SO000002", json!({})).await;
    let callbacks = world.callbacks(2).await;
    let orders: Vec<Value> = callbacks.iter().map(|one| world.decrypt(one)["out_trade_no"].clone()).collect();
    assert_eq!(orders, ["SO000002", "SO000001"]);
}

#[tokio::test]
async fn a_wrong_amount_is_another_notification_and_the_truth_follows() {
    let world = World::start(&[]).await;
    pay(&world, "SO000001", json!({"wrongAmount": 1})).await;
    let callbacks = world.callbacks(2).await;
    let totals: Vec<Value> = callbacks.iter().map(|one| world.decrypt(one)["amount"]["total"].clone()).collect();
    assert_eq!(totals, [2, 1]);
    assert_ne!(callbacks[0].envelope()["id"], callbacks[1].envelope()["id"]);
}

#[tokio::test]
async fn one_slow_answer_is_slow_and_the_next_is_not() {
    let world = World::start(&[]).await;
    let slow = json!({"endpoint": "native", "fault": "apiSlow", "ms": 700});
    world.control(Method::POST, "/faults/next", slow).await;
    let started = Instant::now();
    assert_eq!(world.make_order("SO000001").await.status, 200);
    assert!(started.elapsed() >= Duration::from_millis(700));
    let started = Instant::now();
    assert_eq!(world.make_order("SO000001").await.status, 200);
    assert!(started.elapsed() < Duration::from_millis(600));
}

#[tokio::test]
async fn an_abnormal_refund_is_sent_to_a_card_and_succeeds() {
    let world = World::start(&["--refund-delay-ms", "manual"]).await;
    pay(&world, "SO000001", json!({})).await;
    let refund = json!({"outTradeNo": "SO000001", "outRefundNo": "RF1", "notifyUrl": world.notify_url});
    let (_, refund) = world.control(Method::POST, "/refunds", refund).await;
    let target = format!("/v3/refund/domestic/refunds/{}/apply-abnormal-refund", refund["refundId"].as_str().unwrap());
    let body = json!({"out_refund_no": "RF1", "type": "MERCHANT_BANK_CARD"}).to_string();
    assert_eq!(world.v3(Method::POST, &target, &body).await.status, 400);

    let outcome = json!({"status": "ABNORMAL"});
    assert_eq!(world.control(Method::POST, "/refunds/RF1/outcome", outcome).await.0, 200);
    let callback = world.callbacks(2).await.remove(1);
    assert_eq!(callback.envelope()["event_type"], "REFUND.ABNORMAL");
    let answer = world.v3(Method::POST, &target, &body).await;
    assert!(verifies(&world.public_key, &answer.headers, &answer.body));
    assert_eq!(answer.json()["channel"], "OTHER_BANKCARD");
    let outcome = json!({"status": "SUCCESS"});
    assert_eq!(world.control(Method::POST, "/refunds/RF1/outcome", outcome).await.0, 200);
    let outcome = json!({"status": "CLOSED"});
    assert_eq!(world.control(Method::POST, "/refunds/RF1/outcome", outcome).await.0, 409);
}

#[tokio::test]
async fn a_refusal_that_is_asked_for_comes_once_word_by_word() {
    let world = World::start(&[]).await;
    let refusal = json!({"endpoint": "refund", "fault": "error", "status": 403, "code": "NO_AUTH", "message": "m"});
    for signed in [true, false] {
        let mut wish = refusal.clone();
        wish["signed"] = signed.into();
        assert_eq!(world.control(Method::POST, "/faults/next", wish).await.0, 200);
        let answer = world.v3(Method::POST, "/v3/refund/domestic/refunds", "{}").await;
        assert_eq!((answer.status, answer.json()), (403, json!({"code": "NO_AUTH", "message": "m"})));
        assert_eq!(answer.headers.contains_key("wechatpay-signature"), signed);
    }
    let answer = world.v3(Method::POST, "/v3/refund/domestic/refunds", "{}").await;
    assert_eq!(answer.json()["code"], "PARAM_ERROR");
    for wrong in [
        json!({"endpoint": "refund", "fault": "error", "status": 200, "code": "OK"}),
        json!({"endpoint": "refund", "fault": "error", "status": 403}),
        json!({"endpoint": "refund", "fault": "apiError", "status": 403}),
    ] {
        assert_eq!(world.control(Method::POST, "/faults/next", wrong.clone()).await.0, 400, "{wrong}");
    }
}
