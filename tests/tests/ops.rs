//! The operator's shell: what its commands say, and how they exit.

use reqwest::StatusCode;
use serde_json::{Value, json};
use system_tests::{Builder, System, run_ops};

async fn pay(system: &System, user: &str) {
    let order = system.order(user, 0).await;
    system.pay(order["orderNo"].as_str().expect("a number")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_of_a_healthy_system_finds_nothing() {
    let system = Builder::default().start().await;
    pay(&system, "alice").await;
    system.wait_for_log(&[("processed", 1)]).await;

    let audit = system.ops(&["audit"]);
    assert_eq!(audit.code, Some(0), "{}", audit.out);
    let lines: Vec<_> = audit.out.lines().collect();
    assert!(lines[0].starts_with("CHECK") && lines.len() > 10, "{}", audit.out);
    assert!(lines[1..].iter().all(|line| line.ends_with(" ok")), "{}", audit.out);

    let audit = system.ops(&["audit", "--json"]);
    assert_eq!(audit.code, Some(0), "{}", audit.out);
    let json: Value = serde_json::from_str(&audit.out).expect("JSON");
    let keys = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(keys(&json), "at checks ok");
    assert_eq!(json["ok"], true);
    for check in json["checks"].as_array().expect("a list") {
        assert_eq!(keys(check), "about name samples violations");
        assert_eq!((&check["violations"], &check["samples"]), (&Value::from(0), &Value::from(Vec::<u8>::new())));
    }
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_names_what_is_off_and_whom_it_hit() {
    let system = Builder::default().start().await;
    pay(&system, "alice").await;
    system.wait_for_log(&[("processed", 1)]).await;
    let change = async |by: i64| {
        let sql = "update point_accounts set balance = balance + $1 where user_id = 'alice'";
        sqlx::query(sql).bind(by).execute(&system.db).await.expect("the database");
    };

    change(1).await;
    let audit = system.ops(&["audit"]);
    assert_eq!(audit.code, Some(1), "{}", audit.out);
    let line = audit.out.lines().find(|line| line.starts_with("balances_add_up ")).expect("a line");
    assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["balances_add_up", "1", "violation", "alice"]);
    assert!(audit.out.contains("balances_add_up: it should be that a user's balance is the sum of the entries"));

    let audit = system.ops(&["audit", "--json"]);
    assert_eq!(audit.code, Some(1), "{}", audit.out);
    let json: Value = serde_json::from_str(&audit.out).expect("JSON");
    assert_eq!(json["ok"], false);
    let checks = json["checks"].as_array().expect("a list");
    let off: Vec<_> = checks.iter().filter(|check| check["violations"] != 0).collect();
    assert_eq!(off.len(), 1, "{json}");
    assert_eq!((&off[0]["name"], &off[0]["samples"][0]), (&"balances_add_up".into(), &"alice".into()));

    change(-1).await;
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_that_cannot_be_made_is_neither_well_nor_ill() {
    let system = Builder::default().workers(0).start().await;
    let mut env = system.env.clone();
    env.insert("DATABASE_URL".into(), "postgres://nobody@127.0.0.1:1/nowhere".into());
    let audit = run_ops(&env, &["audit", "--json"]);
    assert_eq!((audit.code, audit.out.as_str()), (Some(2), ""), "{}", audit.err);
    assert!(audit.err.contains("DATABASE_URL"), "{}", audit.err);
    assert_eq!(run_ops(&env, &["audit", "--grace", "soon"]).code, Some(2));
    env.remove("DATABASE_URL");
    assert_eq!(run_ops(&env, &["audit"]).code, Some(2));
    system.finish().await;
}

/// A true callback for an order, with something changed in it before it was signed.
async fn send_changed(system: &System, user: &str, change: &Value) -> String {
    let order = system.order(user, 0).await;
    let order_no = order["orderNo"].as_str().expect("a number");
    system.pay_silently(order_no).await;
    let callback = system.sign(&json!({"outTradeNo": order_no, "overrides": change})).await;
    assert_eq!(system.send(&callback).await.0, StatusCode::OK);
    order_no.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_told_by_their_cause_with_what_to_do() {
    let system = Builder::default().start().await;
    let none = system.ops(&["dead-letters"]);
    assert_eq!((none.code, none.out.as_str()), (Some(0), "no dead letters"), "{}", none.err);

    let first = send_changed(&system, "alice", &json!({"amount": {"total": 1}})).await;
    send_changed(&system, "bob", &json!({"amount": {"total": 2}})).await;
    send_changed(&system, "carol", &json!({"mchid": "1900000000"})).await;
    system.wait_for_log(&[("dead amount_mismatch", 2), ("dead mchid_mismatch", 1)]).await;

    let told = system.ops(&["dead-letters"]);
    assert_eq!(told.code, Some(0), "{}", told.err);
    let cells = |nth: usize| told.out.lines().nth(nth).expect("a line").split_whitespace().collect::<Vec<_>>();
    assert_eq!(cells(1)[..2], ["amount_mismatch", "2"], "{}", told.out);
    assert_eq!(cells(1)[5], first, "the oldest is the example: {}", told.out);
    assert_eq!(cells(2)[..2], ["mchid_mismatch", "1"], "{}", told.out);
    assert!(told.out.contains("\nmchid_mismatch: It is for another merchant than WECHAT_PAY_MCH_ID."), "{}", told.out);

    let json: Value = serde_json::from_str(&system.ops(&["dead-letters", "--json"]).out).expect("JSON");
    assert_eq!(json["total"], 3);
    let cause = &json["causes"][0];
    assert_eq!((&cause["errorCode"], &cause["notifications"]), (&"amount_mismatch".into(), &2.into()));
    assert_eq!(cause["exampleOrderNo"], first.as_str());
    for text in ["oldest", "newest", "exampleId", "remedy"] {
        assert!(cause[text].is_string(), "{text}: {cause}");
    }
    system.finish().await;
}
