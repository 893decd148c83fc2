//! The operator's shell: what its commands say, and how they exit.

use serde_json::Value;
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
