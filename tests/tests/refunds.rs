//! Refunds as admins ask for them: what is accepted, what it takes, and how it ends when all goes well.

use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{Builder, System};
use tokio::task::JoinSet;

const REFUNDS: &str = "/api/payment/admin/refunds";

/// The user's ledger, the oldest first: kind, points, refund.
async fn ledger(system: &System, user: &str) -> Vec<(String, i64, Option<String>)> {
    let page = system.get("/api/points/entries?limit=100", user).await;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let entries = page["items"].as_array().expect("a list").iter().rev();
    let entry = |entry: &Value| {
        (text(&entry["kind"]).expect("a kind"), entry["delta"].as_i64().expect("a number"), text(&entry["refundNo"]))
    };
    entries.map(entry).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_refunded_in_full() {
    let system = Builder::default().start().await;
    system.settle_refunds_after(None).await;
    let admin = system.admin("root");
    let numbers = system.paid_orders("alice", 1).await;
    let order_no = numbers[0].as_str();

    let (status, refund) = admin.try_refund(order_no, &json!({"reason": "买错了"})).await;
    assert_eq!(status, 202);
    let refund_no = refund["refundNo"].as_str().expect("a number");
    let shown = |refund: &Value| {
        let pick = ["orderNo", "amount", "currency", "points", "reason", "status", "failureReason", "completedAt"];
        json!(pick.map(|member| refund[member].clone()))
    };
    assert_eq!(shown(&refund), json!([order_no, 100, "CNY", 105, "买错了", "pending", null, null]));
    assert_eq!(system.balance("alice").await, 0, "the points go first");
    system.wait_for_refund(refund_no, "processing").await;
    assert_eq!(system.order_state(order_no).await, ("paid".into(), 0), "accepted is not refunded");

    let at_wechat = system.refunds_at_wechat(order_no).await;
    assert_eq!((at_wechat.len(), &at_wechat[0]["outRefundNo"]), (1, &json!(refund_no)));
    assert_eq!((&at_wechat[0]["refund"], &at_wechat[0]["total"]), (&json!(100), &json!(100)));
    let notify_url = format!("{}/refund", system.notify_url());
    assert_eq!((&at_wechat[0]["reason"], &at_wechat[0]["notifyUrl"]), (&json!("买错了"), &json!(notify_url)));

    system.settle_refund(refund_no, "SUCCESS").await;
    system.wait_for_refund(refund_no, "success").await;
    assert_eq!(system.order_state(order_no).await, ("refunded".into(), 100));
    let refund = admin.get(&format!("{REFUNDS}/{refund_no}")).await;
    assert_eq!((&refund["status"], &refund["wechatRefundId"]), (&json!("success"), &at_wechat[0]["refundId"]));
    assert!(refund["completedAt"].is_string(), "{refund}");
    let taken = ("refund".to_owned(), -105, Some(refund_no.to_owned()));
    assert_eq!(ledger(&system, "alice").await, [("recharge".into(), 105, None), taken]);
    system.wait_for_log(&[("processed", 2)]).await;
    let statistics = admin.get("/api/payment/admin/statistics").await;
    assert_eq!((&statistics["totals"]["refundedAmount"], &statistics["totals"]["netAmount"]), (&json!(100), &json!(0)));
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_parts_take_their_share_and_together_exactly_all() {
    let system = Builder::default().start().await;
    system.settle_refunds_after(Some(0)).await;
    let admin = system.admin("root");
    let numbers = system.paid_orders("alice", 1).await;
    let (mut balance, mut gone) = (105, 0);
    for (amount, points) in [(33, 34), (33, 35), (10, 10), (24, 26)] {
        let refund_no = admin.refund(&numbers[0], &json!({"amount": amount})).await;
        (balance, gone) = (balance - points, gone + amount);
        assert_eq!(system.balance("alice").await, balance, "{amount}");
        system.wait_for_refund(&refund_no, "success").await;
        let status = if gone == 100 { "refunded" } else { "partially_refunded" };
        assert_eq!(system.order_state(&numbers[0]).await, (status.into(), gone));
    }
    assert_eq!(balance, 0);
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_allowed_says_why_and_takes_nothing() {
    let system = Builder::default().start().await;
    system.settle_refunds_after(None).await;
    let (admin, user) = (system.admin("root"), system.user("alice"));
    let numbers = system.paid_orders("alice", 4).await;
    let balance = system.balance("alice").await;
    let pending = system.order("alice", 0).await;
    let refused = async |order_no: &str, body: Value, detail: &str| {
        let (status, problem) = admin.try_refund(order_no, &body).await;
        assert_eq!((status, problem["code"].as_str()), (409, Some("refund_not_allowed")), "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|text| text.contains(detail)), "{problem}");
    };
    refused(pending["orderNo"].as_str().expect("a number"), json!({}), "only a paid order").await;
    refused(&numbers[0], json!({"amount": 101}), "at most 100 fen").await;

    // A year to the second, by the database's clock.
    let aged =
        "update payment_orders set paid_at = now() - interval '365 days' - interval '1 second' where order_no = $1";
    sqlx::query(aged).bind(&numbers[1]).execute(&system.db).await.expect("the database");
    refused(&numbers[1], json!({}), "within 365 days").await;

    // Fifty of one fen each leave half of the money where it is.
    sqlx::query(
        "insert into payment_refunds (refund_no, order_no, amount, points, bonus_points, status, completed_at,
             transaction_id, total)
         select 'old-' || n, order_no, 1, 0, 0, 'closed', now(), transaction_id, 100
         from payment_orders, generate_series(1, 50) as n where order_no = $1",
    )
    .bind(&numbers[2])
    .execute(&system.db)
    .await
    .expect("the database");
    refused(&numbers[2], json!({}), "50 refunds at most").await;

    let refund_no = admin.refund(&numbers[3], &json!({"amount": 60})).await;
    refused(&numbers[3], json!({"amount": 41}), "at most 40 fen").await;
    let rest = admin.refund(&numbers[3], &json!({})).await;
    refused(&numbers[3], json!({}), "nothing is left").await;
    assert_eq!(system.balance("alice").await, balance - 105, "what was refused took nothing");

    for (body, fields) in [
        (json!({"amount": 0}), vec!["amount"]),
        (
            json!({"amount": "1", "reason": "", "allowNegativeBalance": 1}),
            vec!["amount", "reason", "allowNegativeBalance"],
        ),
        (json!({"reason": "退".repeat(27), "x": 1}), vec!["reason", "x"]),
    ] {
        let path = format!("/api/payment/admin/orders/{}/refunds", numbers[0]);
        assert_eq!(admin.faults(Method::POST, &path, Some(&body)).await, fields, "{body}");
    }
    assert_eq!(admin.try_refund("nosuchorder", &json!({})).await.1["code"], "not_found");
    assert_eq!(user.try_refund(&numbers[0], &json!({})).await.1["code"], "forbidden");
    assert_eq!(system.nobody().try_refund(&numbers[0], &json!({})).await.1["code"], "unauthorized");
    for refund_no in [refund_no, rest] {
        system.wait_for_refund(&refund_no, "processing").await;
        system.settle_refund(&refund_no, "SUCCESS").await;
        system.wait_for_refund(&refund_no, "success").await;
    }
    refused(&numbers[3], json!({}), "nothing is left").await;
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_makes_one_refund() {
    let system = Builder::default().apis(2).start().await;
    let admin = system.token_of_admin("root");
    let numbers = system.paid_orders("alice", 2).await;
    let ask = |order_no: &str, body: Value, token: &str| {
        let url = system.url(&format!("/api/payment/admin/orders/{order_no}/refunds"));
        let request = system.http.post(url).bearer_auth(token).header("Idempotency-Key", "key-1").json(&body);
        async move {
            let answer = request.send().await.expect("an answer");
            (answer.status().as_u16(), answer.json::<Value>().await.expect("JSON"))
        }
    };
    let mut asking = JoinSet::new();
    for _ in 0..10 {
        asking.spawn(ask(&numbers[0], json!({"amount": 10}), &admin));
    }
    let answers = asking.join_all().await;
    assert!(answers.iter().all(|(status, _)| *status == 202), "{answers:?}");
    assert!(answers.iter().all(|(_, refund)| refund["refundNo"] == answers[0].1["refundNo"]), "{answers:?}");
    for (order_no, body) in [(&numbers[0], json!({"amount": 11})), (&numbers[1], json!({"amount": 10}))] {
        let (status, problem) = ask(order_no, body, &admin).await;
        assert_eq!((status, problem["code"].as_str()), (409, Some("idempotency_conflict")));
    }
    let other = system.token_of_admin("ruth");
    assert_eq!(ask(&numbers[1], json!({"amount": 10}), &other).await.0, 202, "keys of different admins never meet");
    assert_eq!(system.count("select count(*) from payment_refunds").await, 2);

    // What was refused does not use the key up.
    let request = |amount: i64| {
        let url = system.url(&format!("/api/payment/admin/orders/{}/refunds", numbers[0]));
        system
            .http
            .post(url)
            .bearer_auth(&admin)
            .header("Idempotency-Key", "key-2")
            .json(&json!({"amount": amount}))
            .send()
    };
    assert_eq!(request(91).await.expect("an answer").status(), 409);
    assert_eq!(request(90).await.expect("an answer").status(), 202);
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_at_once_of_a_tenth_each_are_ten() {
    let system = Builder::default().apis(2).workers(2).start().await;
    system.settle_refunds_after(Some(100)).await;
    let admin = system.token_of_admin("root");
    let numbers = system.paid_orders("alice", 1).await;
    let mut asking = JoinSet::new();
    for _ in 0..20 {
        let url = system.url(&format!("/api/payment/admin/orders/{}/refunds", numbers[0]));
        let request = system.http.post(url).bearer_auth(&admin).json(&json!({"amount": 10}));
        asking.spawn(async move {
            let answer = request.send().await.expect("an answer");
            (answer.status().as_u16(), answer.json::<Value>().await.expect("JSON"))
        });
    }
    let answers = asking.join_all().await;
    let (accepted, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|(status, _)| *status == 202);
    assert_eq!((accepted.len(), refused.len()), (10, 10), "{answers:?}");
    assert!(refused.iter().all(|(_, problem)| problem["code"] == "refund_not_allowed"), "{refused:?}");
    assert_eq!(system.balance("alice").await, 0);
    let done = "select count(*) from payment_refunds where status = 'success'";
    system.wait_for_count("all have succeeded", done, 10).await;
    assert_eq!(system.order_state(&numbers[0]).await, ("refunded".into(), 100));
    assert_eq!(system.refunds_at_wechat(&numbers[0]).await.len(), 10);
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refunds_are_listed_and_found() {
    let system = Builder::default().workers(1).start().await;
    system.settle_refunds_after(Some(0)).await;
    let admin = system.admin("root");
    let numbers = system.paid_orders("alice", 3).await;
    let mut made = Vec::new();
    for number in &numbers {
        for _ in 0..2 {
            made.push(admin.refund(number, &json!({"amount": 10})).await);
        }
    }
    for refund_no in &made {
        system.wait_for_refund(refund_no, "success").await;
    }
    let list = async |query: &str| -> Vec<String> {
        let rows = admin.walk(&format!("{REFUNDS}{query}"), 2).await;
        rows.iter().map(|row| row["refundNo"].as_str().expect("a number").to_owned()).collect()
    };
    made.reverse();
    assert_eq!(list("").await, made, "the newest first");
    assert_eq!(list("?status=success").await, made);
    assert_eq!(list("?status=pending").await, Vec::<String>::new());
    assert_eq!(list(&format!("?orderNo={}", numbers[0])).await, made[4..]);
    assert_eq!(list(&format!("?orderNo={}&status=success", numbers[1])).await, made[2..4]);
    assert_eq!(
        admin.faults(Method::GET, &format!("{REFUNDS}?status=paid&orderNo=!"), None).await,
        ["status", "orderNo"]
    );
    for unknown in ["nosuchrefund", "%20", &"x".repeat(65)] {
        assert_eq!(admin.ask(Method::GET, &format!("{REFUNDS}/{unknown}"), None).await.1["code"], "not_found");
    }
    system.finish().await;
}

/// Without a broker too, and without a single callback.
#[tokio::test(flavor = "multi_thread")]
async fn with_every_callback_lost_a_query_finds_the_end() {
    for builder in [Builder::default(), Builder::default().embedded()] {
        let system = builder.env("RETRY_DELAY_SCALE", "0.01").start().await;
        let admin = system.admin("root");
        let numbers = system.paid_orders("alice", 3).await;
        system.control(Method::PUT, "/control/faults", Some(&json!({"drop": 1}))).await;
        system.settle_refunds_after(None).await;
        for (number, status) in numbers.iter().zip(["SUCCESS", "CLOSED", "ABNORMAL"]) {
            let refund_no = admin.refund(number, &json!({})).await;
            system.wait_for_refund(&refund_no, "processing").await;
            system.settle_refund(&refund_no, status).await;
            system.wait_for_refund(&refund_no, &status.to_lowercase()).await;
        }
        assert_eq!(system.balance("alice").await, 105, "only the closed one gave its points back");
        assert_eq!(system.count("select count(*) from payment_notify_logs where notify_type = 'refund'").await, 0);
        // Settled in WeChat Pay's console, without a word to us.
        let stuck: String = sqlx::query_scalar("select refund_no from payment_refunds where status = 'abnormal'")
            .fetch_one(&system.db)
            .await
            .expect("one is");
        system.settle_refund(&stuck, "SUCCESS").await;
        system.wait_for_refund(&stuck, "success").await;
        assert_eq!(system.order_state(&numbers[2]).await, ("refunded".into(), 100));
        system.finish().await;
    }
}
