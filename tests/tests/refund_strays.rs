//! Refunds that began at WeChat Pay, points that are not there any more, and money that settled no order.

use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{Builder, Callback, SOON, System, eventually};

/// Begins a refund in WeChat Pay's console; answers its number.
async fn console(system: &System, order_no: &str, fen: i64) -> String {
    let notify_url = format!("{}/refund", system.notify_url());
    let body = json!({"outTradeNo": order_no, "refund": fen, "notifyUrl": notify_url});
    let refund = system.control(Method::POST, "/control/refunds", Some(&body)).await;
    refund["outRefundNo"].as_str().expect("a number").to_owned()
}

fn shown(system: &System, refund_no: &str) -> Value {
    let ran = system.ops(&["refund", "show", refund_no, "--json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    serde_json::from_str(&ran.out).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_began_in_the_console_is_taken_over() {
    let system = Builder::default().start().await;
    system.settle_refunds_after(None).await;
    let numbers = system.paid_orders("alice", 3).await;
    let first = console(&system, &numbers[0], 40).await;
    system.settle_refund(&first, "SUCCESS").await;
    system.wait_for_refund(&first, "success").await;
    assert_eq!(system.order_state(&numbers[0]).await, ("partially_refunded".into(), 40));
    assert_eq!(system.balance("alice").await, 3 * 105 - 42);
    let refund = shown(&system, &first);
    assert_eq!(
        (&refund["origin"], &refund["points"], &refund["overdrawn"]),
        (&json!("external"), &json!(42), &json!(false))
    );
    // What is left is what WeChat Pay has left.
    let rest = system.admin("root").refund(&numbers[0], &json!({})).await;
    system.wait_for_refund(&rest, "processing").await;
    assert_eq!(shown(&system, &rest)["amount"], 60);
    system.settle_refund(&rest, "SUCCESS").await;
    system.wait_for_refund(&rest, "success").await;
    assert_eq!(system.order_state(&numbers[0]).await, ("refunded".into(), 100));

    // One that is not executed takes nothing; one that is stuck has taken its share until it is settled.
    let closed = console(&system, &numbers[1], 100).await;
    system.settle_refund(&closed, "CLOSED").await;
    system.wait_for_refund(&closed, "closed").await;
    assert_eq!(system.balance("alice").await, 2 * 105);
    let stuck = console(&system, &numbers[2], 100).await;
    system.settle_refund(&stuck, "ABNORMAL").await;
    system.wait_for_refund(&stuck, "abnormal").await;
    assert_eq!(system.balance("alice").await, 105);
    system.settle_refund(&stuck, "SUCCESS").await;
    system.wait_for_refund(&stuck, "success").await;
    assert_eq!(system.order_state(&numbers[2]).await, ("refunded".into(), 100));
    system.workers[0].tells("began at WeChat Pay; its points were taken back", 2).await;
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_callback_that_comes_before_the_payment_callback_waits_for_the_payment() {
    let system = Builder::default().env("RETRY_DELAY_SCALE", "0.1").start().await;
    system.settle_refunds_after(None).await;
    for told_of_the_payment in [false, true] {
        let order = system.order("alice", 0).await;
        let order_no = order["orderNo"].as_str().expect("a number");
        let payment = system.pay_silently(order_no).await;
        let refund_no = console(&system, order_no, 50).await;
        system.settle_refund(&refund_no, "SUCCESS").await;
        let early = "select count(*) from payment_notify_attempts where error_code = 'order_not_paid'";
        let expected = if told_of_the_payment { 2 } else { 1 };
        system.wait_for_count("it is early", early, expected).await;
        if told_of_the_payment {
            assert_eq!(system.send(&payment).await.0, 200);
        }
        system.wait_for_refund(&refund_no, "success").await;
        assert_eq!(system.order_state(order_no).await, ("partially_refunded".into(), 50));
        if !told_of_the_payment {
            // Long after: the worker has asked for it itself.
            assert_eq!(system.send(&payment).await.0, 200);
        }
    }
    let ended = "select count(*) from payment_notify_logs where process_status in ('processed', 'duplicate')";
    system.wait_for_count("all is handled", ended, 4).await;
    assert_eq!(system.balance("alice").await, 100);
    system.finish().await;
}

/// Ours has taken all points and waits for money; WeChat Pay's console gives some of it back meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn points_that_are_gone_are_asked_for_or_owed() {
    let system = Builder::default().start().await;
    system.settle_refunds_after(None).await;
    let admin = system.admin("root");
    let numbers = system.paid_orders("alice", 2).await;
    system.fail_next(json!({"endpoint": "refund", "fault": "apiNotEnough"})).await;
    let ours = admin.refund(&numbers[0], &json!({})).await;
    system.wait_for_trouble(&ours, "not_enough").await;
    let hold = "update payment_refunds set next_attempt_at = now() + interval '1 hour' where refund_no = $1";
    sqlx::query(hold).bind(&ours).execute(&system.db).await.expect("the database");
    assert_eq!(system.balance("alice").await, 105);
    let console_no = console(&system, &numbers[0], 40).await;
    system.settle_refund(&console_no, "SUCCESS").await;
    system.wait_for_refund(&console_no, "success").await;
    assert_eq!(system.balance("alice").await, 105 - 42, "each has taken its share, until WeChat Pay refuses ours");

    let (status, problem) = admin.try_refund(&numbers[1], &json!({})).await;
    assert_eq!((status, problem["code"].as_str()), (409, Some("insufficient_points")));
    assert!(problem["detail"].as_str().is_some_and(|text| text.contains("42 are missing")), "{problem}");
    let refused = system.ops(&["refund", "create", &numbers[1], "--yes"]);
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.err.contains("42 points are missing") && refused.err.contains("--allow-negative-balance"),
        "{}",
        refused.err
    );
    assert_eq!(system.balance("alice").await, 63, "what was refused took nothing");

    let owed = admin.refund(&numbers[1], &json!({"allowNegativeBalance": true})).await;
    assert_eq!((system.balance("alice").await, shown(&system, &owed)["overdrawn"].clone()), (-42, json!(true)));
    system.wait_for_refund(&owed, "processing").await;
    // Another one of the console's goes below zero without being asked.
    let console_no = console(&system, &numbers[0], 20).await;
    system.settle_refund(&console_no, "SUCCESS").await;
    system.wait_for_refund(&console_no, "success").await;
    let refund = shown(&system, &console_no);
    assert_eq!((&refund["origin"], &refund["overdrawn"]), (&json!("external"), &json!(true)));

    // There are 40 fen left of the 100 that ours asks for.
    assert_eq!(system.ops(&["refund", "retry", &ours]).code, Some(0));
    let reason = system.wait_for_refund(&ours, "failed").await.expect("a reason");
    assert!(reason.starts_with("invalid_request: "), "{reason}");
    system.settle_refund(&owed, "SUCCESS").await;
    system.wait_for_refund(&owed, "success").await;
    assert_eq!(system.order_state(&numbers[0]).await, ("partially_refunded".into(), 60));
    assert_eq!(system.balance("alice").await, 105 - 63);
    system.finish().await;
}

/// Sends a callback for `order_no` of another payment: the simulator's own of `fen`, under a number that is none of ours.
/// Answers that number, the notification's id, and the callback.
async fn stray(system: &System, order_no: &str, fen: i64, change: &Value) -> (String, String, Callback) {
    let number = format!("stray-{}", system.count("select count(*) from payment_notify_logs").await);
    let body = json!({"outTradeNo": number, "total": fen, "notifyUrl": system.notify_url()});
    system.control(Method::POST, "/control/orders", Some(&body)).await;
    system.control(Method::POST, &format!("/control/orders/{number}/pay"), Some(&json!({"notify": false}))).await;
    let mut overrides = json!({"out_trade_no": order_no});
    overrides.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
    let callback = system.sign(&json!({"outTradeNo": number, "overrides": overrides})).await;
    assert_eq!(system.send(&callback).await.0, 200);
    let dead = async || {
        let sql = "select id::text from payment_notify_logs where process_status in ('dead', 'retrying') order by id desc limit 1";
        sqlx::query_scalar::<_, String>(sql).fetch_optional(&system.db).await.expect("the database")
    };
    let before = system.count("select count(*) from payment_notify_logs").await;
    let handled = "select count(*) from payment_notify_logs where process_status <> 'received'";
    system.wait_for_count("it is handled", handled, before).await;
    let id = eventually("a dead letter", SOON, dead, Option::is_some).await.expect("one");
    (number, id, callback)
}

#[tokio::test(flavor = "multi_thread")]
async fn money_that_settled_no_order_goes_back_in_one_step() {
    let system = Builder::default().start().await;
    system.settle_refunds_after(Some(0)).await;
    let numbers = system.paid_orders("alice", 1).await;
    let pending = system.order("bob", 0).await;
    let pending = pending["orderNo"].as_str().expect("a number");
    let give_up = async || {
        let sql =
            "update payment_notify_logs set ladder_step = 7, next_attempt_at = now() where process_status = 'retrying'";
        sqlx::query(sql).execute(&system.db).await.expect("the database");
        let waiting = "select count(*) from payment_notify_logs where process_status = 'retrying'";
        system.wait_for_count("the ladder ends", waiting, 0).await;
    };
    let mut duplicates = 0;
    for (order_no, fen, change, code) in [
        (numbers[0].as_str(), 100, json!({}), "paid_twice"),
        (pending, 99, json!({}), "amount_mismatch"),
        ("nowhere-to-be-found", 77, json!({}), "order_not_found"),
        (pending, 66, json!({"appid": "wx0000000000000000"}), "appid_mismatch"),
    ] {
        let (number, id, callback) = stray(&system, order_no, fen, &change).await;
        give_up().await;
        assert_eq!(system.log().await.get(&format!("dead {code}")), Some(&1), "{:?}", system.log().await);
        let asked = system.ops(&["refund", "dead-letter", &id]);
        assert_eq!(asked.code, Some(1), "nobody can be asked");
        assert!(asked.out.contains(code) && asked.out.contains(&format!("{fen} fen")), "{}", asked.out);

        let given = system.ops(&["refund", "dead-letter", &id, "--reason", "多付退回", "--by", "ruth", "--yes"]);
        assert_eq!(given.code, Some(0), "{}{}", given.out, given.err);
        let refund = async || system.refunds_at_wechat(&number).await.pop();
        let refund = eventually("the refund", SOON, refund, Option::is_some).await.expect("it");
        assert_eq!(
            (&refund["refund"], &refund["total"], &refund["reason"]),
            (&json!(fen), &json!(fen), &json!("多付退回"))
        );
        let refund_no = refund["outRefundNo"].as_str().expect("a number");
        system.wait_for_refund(refund_no, "success").await;
        let here = shown(&system, refund_no);
        assert_eq!((&here["misdirected"], &here["points"]), (&json!(true), &json!(0)));
        let names_an_order = code != "order_not_found";
        assert_eq!(here["orderNo"].as_str(), names_an_order.then_some(order_no));
        assert_eq!(system.log().await.get(&format!("dead {code}")), None, "it is dealt with");

        let again = system.ops(&["refund", "dead-letter", &id, "--yes"]);
        assert_eq!(again.code, Some(0), "{}", again.err);
        assert!(again.out.contains("nothing is left to do"), "{}", again.out);
        assert_eq!(system.refunds_at_wechat(&number).await.len(), 1);
        if code != "appid_mismatch" {
            duplicates += 1;
            assert_eq!(system.send(&callback).await.0, 200);
            let told = "select count(*) from payment_notify_logs where process_status = 'duplicate'";
            system.wait_for_count("WeChat Pay says it once more, and nothing is left to do", told, duplicates).await;
        }
    }
    let replay = system.ops(&["replay", "--from", "1h"]);
    assert!(!replay.out.contains("paid_twice") && !replay.out.contains("amount_mismatch"), "{}", replay.out);
    assert_eq!(system.order_state(&numbers[0]).await, ("paid".into(), 0), "the order keeps its own payment");
    assert_eq!(system.order_state(pending).await, ("pending".into(), 0));
    assert_eq!(system.balance("alice").await, 105);
    assert_eq!(
        system.count("select count(*) from audit_log where action = 'notify_log.refund' and actor = 'ruth'").await,
        4
    );
    let statistics = system.admin("root").get("/api/payment/admin/statistics").await;
    assert_eq!(statistics["totals"]["refundedAmount"], 0, "it was never counted as paid");
    let told = "select count(*) from payment_notify_logs where notify_type = 'refund' and process_status = 'processed'";
    system.wait_for_count("all four were told of", told, 4).await;
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_money_that_is_really_astray_is_given_back() {
    let system = Builder::default().start().await;
    system.settle_refunds_after(None).await;
    let numbers = system.paid_orders("alice", 1).await;
    let refused = |id: &str, why: &str| {
        let ran = system.ops(&["refund", "dead-letter", id, "--yes"]);
        assert_eq!(ran.code, Some(1), "{}", ran.out);
        assert!(ran.err.contains(why), "{}", ran.err);
    };
    let settled: String = sqlx::query_scalar("select id::text from payment_notify_logs")
        .fetch_one(&system.db)
        .await
        .expect("the payment's");
    refused(&settled, "this payment settled its order");
    refused("019aab38-f6f0-7b1c-9d1d-2f3a4b5c6d7e", "there is no notification");
    let (_, other, _) = stray(&system, &numbers[0], 100, &json!({"mchid": "1900000000"})).await;
    refused(&other, "mchid is not");
    let (_, dollars, _) = stray(&system, &numbers[0], 100, &json!({"amount": {"currency": "USD"}})).await;
    refused(&dollars, "amount.currency is not CNY");

    // Its order has turned up meanwhile: a retry settles it.
    let (_, early, _) = stray(&system, "late-order", 100, &json!({})).await;
    refused(&early, "is retrying, not dead");
    let late = system.order("bob", 0).await;
    let rename = "update payment_orders set order_no = 'late-order' where order_no = $1";
    sqlx::query(rename).bind(late["orderNo"].as_str()).execute(&system.db).await.expect("the database");
    let give_up = "update payment_notify_logs set process_status = 'dead', next_attempt_at = null, processed_at = now()
                   where process_status = 'retrying'";
    let figures = "insert into payment_notify_statistics_deltas
                   select date_bin('1 hour', created_at, 'epoch'), notify_type, 'dead', -1, 1, retry_count
                   from payment_notify_logs where error_code = 'order_not_found' and process_status = 'dead'";
    for sql in [give_up, figures] {
        sqlx::query(sql).execute(&system.db).await.expect("the database");
    }
    refused(&early, "can still settle its order");
    system.finish().await;
}

/// The first refund of stray money comes to nothing; WeChat Pay's console has given back a part.
#[tokio::test(flavor = "multi_thread")]
async fn stray_money_can_be_given_back_again_and_in_parts() {
    let system = Builder::default().start().await;
    system.settle_refunds_after(None).await;
    let numbers = system.paid_orders("alice", 1).await;
    let (number, id, _) = stray(&system, &numbers[0], 100, &json!({})).await;
    let give = async || {
        let ran = system.ops(&["refund", "dead-letter", &id, "--yes"]);
        assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
        let line = ran.out.lines().find(|line| line.starts_with("refund ")).expect("a refund").to_owned();
        line.split_whitespace().nth(1).expect("its number").to_owned()
    };
    let first = give().await;
    system.wait_for_refund(&first, "processing").await;
    assert_eq!(give().await, first, "it is under way");
    system.settle_refund(&first, "CLOSED").await;
    system.wait_for_refund(&first, "closed").await;

    // Two parts by the console: the callbacks name the number that the money came for at WeChat Pay.
    for fen in [30, 10] {
        let part = console(&system, &number, fen).await;
        let body = json!({"status": "SUCCESS", "notify": false});
        system.control(Method::POST, &format!("/control/refunds/{part}/outcome"), Some(&body)).await;
        let told = system.sign(&json!({"outRefundNo": part, "overrides": {"out_trade_no": numbers[0]}})).await;
        assert_eq!(system.send(&told).await.0, 200);
        system.wait_for_refund(&part, "success").await;
        assert_eq!(shown(&system, &part)["misdirected"], true);
    }
    let second = give().await;
    assert_ne!(second, first, "what was closed needs a new number");
    system.wait_for_refund(&second, "processing").await;
    assert_eq!(shown(&system, &second)["amount"], 60, "what the console left");
    system.settle_refund(&second, "SUCCESS").await;
    system.wait_for_refund(&second, "success").await;
    assert_eq!(system.order_state(&numbers[0]).await, ("paid".into(), 0));
    assert_eq!(system.balance("alice").await, 105);
    system.finish().await;
}
