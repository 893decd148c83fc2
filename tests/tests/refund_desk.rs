//! The operator's desk for refunds: `ops refund`.

use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{Builder, System, run_ops};

fn run(system: &System, arguments: &[&str]) -> String {
    let ran = system.ops(arguments);
    assert_eq!(ran.code, Some(0), "{arguments:?}: {}\n{}", ran.out, ran.err);
    ran.out
}

fn refused(system: &System, arguments: &[&str], why: &str) {
    let ran = system.ops(arguments);
    assert_eq!(ran.code, Some(1), "{arguments:?}: {}", ran.out);
    assert!(ran.err.contains(why), "{arguments:?}: {}", ran.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_is_made_shown_and_listed_by_an_operator() {
    let system = Builder::default().start().await;
    system.settle_refunds_after(Some(0)).await;
    let numbers = system.paid_orders("alice", 2).await;
    let order_no = numbers[0].as_str();
    assert_eq!(run(&system, &["refund", "list"]), "no refunds");

    let asked = system.ops(&["refund", "create", order_no, "--amount", "40"]);
    assert_eq!(asked.code, Some(1));
    assert!(asked.out.contains(&format!("40 fen of order {order_no} go back")), "{}", asked.out);
    assert!(asked.out.contains("42 points are taken from alice, who has 168 left then"), "{}", asked.out);
    assert!(asked.err.contains("this is no terminal"), "{}", asked.err);
    assert_eq!(system.count("select count(*) from payment_refunds").await, 0, "nobody has agreed");

    let said =
        run(&system, &["refund", "create", order_no, "--amount", "40", "--reason", "买错了", "--by", "ruth", "--yes"]);
    let line = said.lines().find(|line| line.starts_with("refund ")).expect("a refund");
    let refund_no = line.split_whitespace().nth(1).expect("its number");
    system.wait_for_refund(refund_no, "success").await;
    assert_eq!(system.refunds_at_wechat(order_no).await[0]["reason"], "买错了");
    let by: String =
        sqlx::query_scalar("select requested_by from payment_refunds").fetch_one(&system.db).await.expect("it");
    assert_eq!(by, "ruth");
    assert_eq!(
        system.count("select count(*) from audit_log where action = 'refund.create' and actor = 'ruth'").await,
        1
    );

    let shown = run(&system, &["refund", "show", refund_no]);
    assert!(shown.lines().any(|line| line.split_whitespace().eq(["status", "success"])), "{shown}");
    let all = run(&system, &["refund", "create", &numbers[1], "--yes"]);
    assert!(all.contains("100 fen of order"), "{all}");
    let json: Value = serde_json::from_str(&run(&system, &["refund", "list", "--json"])).expect("JSON");
    assert_eq!(json["refunds"].as_array().map(Vec::len), Some(2));
    let json: Value =
        serde_json::from_str(&run(&system, &["refund", "list", "--order", order_no, "--json"])).expect("JSON");
    assert_eq!((&json["refunds"][0]["refundNo"], &json["refunds"][1]), (&json!(refund_no), &Value::Null));
    assert_eq!(run(&system, &["refund", "list", "--status", "failed"]), "no refunds");
    assert!(run(&system, &["refund", "list", "--status", "success"]).contains(refund_no));

    refused(&system, &["refund", "create", order_no, "--amount", "61", "--yes"], "at most 60 fen are left");
    refused(&system, &["refund", "create", "nosuchorder", "--yes"], "there is no such order");
    refused(&system, &["refund", "show", "nosuchrefund"], "there is no refund nosuchrefund");
    for wrong in [["--amount", "0"], ["--reason", ""], ["--by", "a b"]] {
        assert_eq!(system.ops(&[&["refund", "create", order_no][..], &wrong].concat()).code, Some(2), "{wrong:?}");
    }
    let last = "select count(*) from payment_refunds where status = 'success'";
    system.wait_for_count("both have succeeded", last, 2).await;
    system.finish().await;
}

/// Gives an order's money back up to the point where the payer's account refuses it.
async fn stuck(system: &System, order_no: &str) -> String {
    let refund_no = system.admin("root").refund(order_no, &json!({})).await;
    system.wait_for_refund(&refund_no, "processing").await;
    system.settle_refund(&refund_no, "ABNORMAL").await;
    let reason = system.wait_for_refund(&refund_no, "abnormal").await.expect("a reason");
    assert!(reason.contains("waits for an operator"), "{reason}");
    refund_no
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_abnormal_is_listed_apart_and_settled_by_hand() {
    let system = Builder::default().start().await;
    system.settle_refunds_after(None).await;
    let numbers = system.paid_orders("alice", 4).await;
    assert_eq!(run(&system, &["refund", "abnormal"]), "no refund is abnormal");
    let mut refund_nos = Vec::new();
    for order_no in &numbers {
        refund_nos.push(stuck(&system, order_no).await);
    }
    system.workers[0].tells("is abnormal: the payer's account cannot take the money", 4).await;
    let list = run(&system, &["refund", "abnormal"]);
    assert!(refund_nos.iter().all(|refund_no| list.contains(refund_no.as_str())), "{list}");
    assert!(list.contains("0 min") && list.contains("ops refund abnormal redirect"), "{list}");
    let apart = system.admin("root").get("/api/payment/admin/refunds?status=abnormal").await;
    assert_eq!(apart["items"].as_array().map(Vec::len), Some(4));

    // To the merchant's own account, and from there by hand.
    let [redirected, paid, given_up, unheard] = &refund_nos[..] else { panic!("four") };
    refused(&system, &["refund", "abnormal", "redirect", redirected], "this is no terminal");
    let said = run(&system, &["refund", "abnormal", "redirect", redirected, "--by", "ruth", "--yes"]);
    assert!(said.contains(&format!("refund {redirected} is abnormal")), "{said}");
    let at_wechat = system.control(Method::GET, &format!("/control/refunds/{redirected}"), None).await;
    assert_eq!(at_wechat["status"], "PROCESSING");
    refused(&system, &["refund", "abnormal", "redirect", redirected, "--yes"], "WeChat Pay refused");
    system.settle_refund(redirected, "SUCCESS").await;
    system.wait_for_refund(redirected, "success").await;
    assert_eq!(system.order_state(&numbers[0]).await, ("refunded".into(), 100));

    // The answer is lost: the worker asks what became of it.
    for _ in 0..3 {
        system.fail_next(json!({"endpoint": "refund", "fault": "apiReset"})).await;
    }
    refused(&system, &["refund", "abnormal", "redirect", unheard, "--yes"], "the workers ask what became of it");
    system.settle_refund(unheard, "SUCCESS").await;
    system.wait_for_refund(unheard, "success").await;

    let settle = |refund_no: &str, end: &str| {
        let arguments = ["refund", "abnormal", "settle", refund_no, "--as", end, "--reason", "paid in cash", "--yes"];
        run(&system, &arguments)
    };
    assert_eq!(system.balance("alice").await, 0);
    assert!(settle(paid, "success").contains(&format!("refund {paid} is success")));
    assert_eq!(system.order_state(&numbers[1]).await, ("refunded".into(), 100));
    assert!(settle(given_up, "closed").contains(&format!("refund {given_up} is closed")));
    assert_eq!(system.order_state(&numbers[2]).await, ("paid".into(), 0));
    assert_eq!(system.balance("alice").await, 105, "its points are back");
    let twice = ["refund", "abnormal", "settle", paid, "--as", "success", "--reason", "again", "--yes"];
    refused(&system, &twice, "is success, not abnormal");
    assert_eq!(run(&system, &["refund", "abnormal"]), "no refund is abnormal");
    let sql = "select count(*) from audit_log where action = 'refund.settle' and reason = 'paid in cash'";
    assert_eq!(system.count(sql).await, 2);
    assert_eq!(system.count("select count(*) from audit_log where action = 'refund.redirect'").await, 2);
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_needs_the_database_alone_and_a_deed_names_what_it_lacks() {
    let system = Builder::default().workers(0).start().await;
    let mut env = system.env.clone();
    env.retain(|name, _| !name.starts_with("WECHAT_PAY"));
    assert_eq!(run_ops(&env, &["refund", "list"]).code, Some(0));
    assert_eq!(run_ops(&env, &["refund", "abnormal"]).code, Some(0));
    let ran = run_ops(&env, &["refund", "dead-letter", "019aab38-f6f0-7b1c-9d1d-2f3a4b5c6d7e", "--yes"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("WECHAT_PAY_MCH_ID") && ran.err.contains("WECHAT_PAY_PRIVATE_KEY_PATH"), "{}", ran.err);
    let help = run(&system, &["refund", "--help"]);
    for command in ["create", "list", "show", "retry", "abnormal", "dead-letter"] {
        assert!(help.lines().any(|line| line.split_whitespace().next() == Some(command)), "{help}");
    }
    system.finish().await;
}
