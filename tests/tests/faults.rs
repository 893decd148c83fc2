//! True notifications that must not be applied, and that must not hold up the others.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use system_tests::{Builder, SOON, System, eventually};

/// A paid order's callback with something changed in its plaintext before it was signed.
async fn changed(system: &System, change: &Value) -> system_tests::Callback {
    let order = system.order("alice", 0).await;
    let order_no = order["orderNo"].as_str().expect("a number");
    system.control(Method::POST, &format!("/control/orders/{order_no}/pay"), Some(&json!({"notify": false}))).await;
    system.sign(&json!({"outTradeNo": order_no, "overrides": change})).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_notification_is_dead_with_its_code_and_credits_nothing() {
    let system = Builder::default().start().await;
    for change in [
        json!({"amount": {"total": 1}}),
        json!({"amount": {"currency": "USD"}}),
        json!({"appid": "wx0000000000000000"}),
        json!({"mchid": "1900000000"}),
        json!({"trade_state": "NOTPAY"}),
        json!({"transaction_id": ""}),
        json!({"out_trade_no": "!"}),
        json!({"amount": {"total": "100"}}),
    ] {
        let callback = changed(&system, &change).await;
        assert_eq!(system.send(&callback).await, (StatusCode::OK, "SUCCESS".into()), "it is stored: {change}");
    }
    let order = system.order("alice", 0).await;
    let order_no = order["orderNo"].as_str().expect("a number");
    let other_key = json!({"outTradeNo": order_no, "apiV3Key": "00000000000000000000000000000000"});
    system.control(Method::POST, &format!("/control/orders/{order_no}/pay"), Some(&json!({"notify": false}))).await;
    assert_eq!(system.send(&system.sign(&other_key).await).await.0, StatusCode::OK);
    for raw in ["{}", "[]", "5", r#"{"event_type":"TRANSACTION.SUCCESS"}"#] {
        assert_eq!(system.send(&system.sign(&json!({"rawBody": raw})).await).await.0, StatusCode::OK, "{raw}");
    }

    system
        .wait_for_log(&[
            ("dead amount_mismatch", 1),
            ("dead currency_mismatch", 1),
            ("dead appid_mismatch", 1),
            ("dead mchid_mismatch", 1),
            ("dead trade_state_unexpected", 1),
            ("dead decrypt_failed", 1),
            // An empty transaction_id, an out_trade_no out of its alphabet, an amount that is a text; and the four bodies.
            ("dead malformed_notification", 7),
        ])
        .await;
    assert_eq!(system.count("select count(*) from point_entries").await, 0);
    assert_eq!(system.count("select count(*) from payment_orders where payment_status <> 'pending'").await, 0);
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_products_event_is_kept_and_not_sent_again() {
    let system = Builder::default().start().await;
    let coupon = json!({"eventType": "COUPON.USE", "originalType": "coupon", "plaintext": {"coupon_id": "1"}});
    assert_eq!(system.send(&system.sign(&coupon).await).await, (StatusCode::OK, "SUCCESS".into()));
    system.wait_for_log(&[("rejected event_unsupported", 1)]).await;
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn money_for_an_order_that_is_not_there_is_tried_again_and_not_lost() {
    let system = Builder::default().start().await;
    let order = system.order("alice", 0).await;
    let order_no = order["orderNo"].as_str().expect("a number");
    let callback = system.pay_silently(order_no).await;
    sqlx::query("update payment_orders set order_no = 'elsewhere' where order_no = $1")
        .bind(order_no)
        .execute(&system.db)
        .await
        .expect("the database");

    assert_eq!(system.send(&callback).await.0, StatusCode::OK);
    system.wait_for_log(&[("retrying order_not_found", 1)]).await;

    sqlx::query("update payment_orders set order_no = $1")
        .bind(order_no)
        .execute(&system.db)
        .await
        .expect("the database");
    system.wait_for_log(&[("processed", 1)]).await;
    assert_eq!(system.count("select retry_count::bigint from payment_notify_logs").await, 1);
    assert_eq!(system.count("select count(*) from payment_notify_logs where error_code is not null").await, 0);
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_payment_of_one_order_waits_for_an_operator() {
    let system = Builder::default().start().await;
    let order = system.order("alice", 0).await;
    let order_no = order["orderNo"].as_str().expect("a number");
    let first = system.pay_silently(order_no).await;
    let second = json!({"outTradeNo": order_no, "overrides": {"transaction_id": "4200000000202601010000000099"}});
    let second = system.sign(&second).await;
    assert_eq!(system.send(&first).await.0, StatusCode::OK);
    system.wait_for_log(&[("processed", 1)]).await;
    assert_eq!(system.send(&second).await.0, StatusCode::OK);
    system.wait_for_log(&[("processed", 1), ("dead paid_twice", 1)]).await;
    assert_eq!(system.get("/api/points/balance", "alice").await["balance"], 100);
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn late_money_is_honoured() {
    let mut system = Builder::default().start().await;
    for status in ["cancelled", "expired", "failed"] {
        let order = system.order(status, 0).await;
        let order_no = order["orderNo"].as_str().expect("a number");
        let callback = system.pay_silently(order_no).await;
        sqlx::query("update payment_orders set payment_status = $2 where order_no = $1")
            .bind(order_no)
            .bind(status)
            .execute(&system.db)
            .await
            .expect("the database");
        assert_eq!(system.send(&callback).await.0, StatusCode::OK);
    }
    system.wait_for_log(&[("processed", 3)]).await;
    assert_eq!(system.count("select count(*) from payment_orders where payment_status = 'paid'").await, 3);
    system.workers[0].tells("late money", 3).await;
    let url = format!("http://{}/metrics", system.workers[0].listening().await);
    let page = async || system.http.get(&url).send().await.expect("an answer").text().await.expect("a page");
    let counted = |page: &String| page.contains("recharge_notifications_total{status=\"processed\"} 3");
    let page = eventually("they are counted", SOON, page, counted).await;
    assert!(page.contains("recharge_late_payments_total 3"), "{page}");
    let page = system.http.get(system.url("/metrics")).send().await.expect("an answer").text().await.expect("a page");
    assert!(page.contains("recharge_callbacks_total{reason=\"stored\"} 3"), "{page}");
    system.finish().await;
}

/// A row that the database itself refuses is found by splitting the set it stands in, and stands alone in the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_breaks_its_set_takes_no_other_with_it() {
    let mut system = Builder::default().workers(0).start().await;
    let numbers = system.bulk_orders(60, 60).await;
    // Two orders whose payments claim one transaction: the second can never be stored.
    for (n, order_no) in numbers.iter().enumerate() {
        let own = system.pay_silently(order_no).await;
        let callback = if n == 30 || n == 31 {
            let taken = json!({"transaction_id": "4200000000202601010000000031"});
            system.sign(&json!({"outTradeNo": order_no, "overrides": taken})).await
        } else {
            own
        };
        assert_eq!(system.send(&callback).await.0, StatusCode::OK);
    }
    system.start_worker().await;
    system.wait_for_log(&[("processed", 59), ("dead database_refused", 1)]).await;
    assert_eq!(system.count("select sum(balance)::bigint from point_accounts").await, 59 * 105);
    system.finish().await;
}
