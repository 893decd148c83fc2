//! Starting, refusing to start, and stopping.

use std::{collections::BTreeMap, time::Duration};
use system_tests::{Builder, Process, SOON, binary, database_url, drop_database, ops};

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_is_told_whole_a_line_each_and_without_values() {
    let env = BTreeMap::from([
        ("DATABASE_URL".to_owned(), "mysql://hunter2".to_owned()),
        ("JWT_SECRET".to_owned(), "hunter2".to_owned()),
        ("ORDER_TTL_MINUTES".to_owned(), "hunter2".to_owned()),
    ]);
    for (name, expected) in [("api", 10), ("worker", 8)] {
        let mut process = Process::start(name, &[], &env);
        assert_eq!(process.ended(SOON).await.code(), Some(2));
        let lines = process.lines();
        assert_eq!(lines.len(), expected, "{lines:#?}");
        assert!(lines.iter().all(|line| line.contains("; it expects ")), "{lines:#?}");
        assert!(lines.iter().any(|line| line.starts_with("DATABASE_URL is malformed; ")), "{lines:#?}");
        assert!(lines.iter().any(|line| line.starts_with("WECHAT_PAY_MCH_ID is missing; ")), "{lines:#?}");
        assert!(!process.log().contains("hunter2"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_variable_is_in_the_help() {
    for name in ["api", "worker", "ops", "simulator"] {
        let mut process = Process::start(name, &["--help"], &BTreeMap::new());
        assert_eq!(process.ended(SOON).await.code(), Some(0), "{name}");
        let variable = if name == "simulator" { "SIMULATOR_LISTEN" } else { "DATABASE_URL" };
        let lines = async || process.log();
        system_tests::eventually("the help", SOON, lines, |help| help.contains(variable)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_schema_is_refused_with_a_hint() {
    let system = Builder::default().workers(0).start().await;
    let keep = "create table newest as select * from _sqlx_migrations order by version desc limit 1";
    let forget = "delete from _sqlx_migrations where version = (select version from newest)";
    for sql in [keep, forget] {
        sqlx::query(sql).execute(&system.db).await.expect("the database");
    }
    for name in ["api", "worker"] {
        let mut process = Process::start(name, &[], &system.env);
        assert_eq!(process.ended(SOON).await.code(), Some(1), "{name}");
        assert!(process.log().contains("run `ops migrate`"), "{}", process.log());
    }
    assert_eq!(system.ops(&["audit"]).code, Some(2), "nor can the books be read by another schema's rules");
    let remember = "insert into _sqlx_migrations select * from newest";
    sqlx::query(remember).execute(&system.db).await.expect("the database");
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_may_migrate_at_once() {
    let database = format!("recharge_test_{}", uuid::Uuid::now_v7().simple());
    let env = BTreeMap::from([("DATABASE_URL".to_owned(), database_url(&database))]);
    let mut migrating: Vec<_> = (0..4).map(|_| Process::start("ops", &["migrate"], &env)).collect();
    for process in &mut migrating {
        assert_eq!(process.ended(SOON).await.code(), Some(0), "{}", process.log());
    }
    assert_eq!(ops(&env, &["seed"]), "4 sample packages added");
    assert_eq!(ops(&env, &["seed"]), "there are packages already; nothing was added");
    drop_database(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_finishes_what_is_in_hand() {
    let mut system = Builder::default().start().await;
    let numbers = system.bulk_orders(30, 3).await;
    for number in &numbers {
        system.pay(number).await;
    }
    let processed = "select count(*) from payment_orders where payment_status = 'paid'";
    system.wait_for_count("all is credited", processed, 30).await;
    for process in system.apis.iter_mut().chain(&mut system.workers) {
        process.signal("TERM");
        assert_eq!(process.ended(Duration::from_secs(15)).await.code(), Some(0), "{}", process.log());
    }
    system.finish().await;
}

/// It takes connections and answers nothing: what is being connected has nothing in hand.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_hangs_keeps_nobody_from_stopping() {
    let system = Builder::default().workers(0).start().await;
    system.rabbitmq.as_ref().expect("broker mode").stall();
    let mut env = system.env.clone();
    env.insert("SHUTDOWN_GRACE_SECONDS".into(), "2".into());
    for name in ["api", "worker"] {
        let mut process = Process::start(name, &[], &env);
        process.listening().await;
        process.signal("TERM");
        assert_eq!(process.ended(SOON).await.code(), Some(0), "{name}");
        assert!(!process.log().contains("SHUTDOWN_GRACE_SECONDS"), "{name}: {}", process.log());
    }
    system.rabbitmq.as_ref().expect("broker mode").restore();
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_argument_is_refused() {
    assert!(binary("api").exists());
    let mut process = Process::start("api", &["--port", "1"], &BTreeMap::new());
    assert_eq!(process.ended(SOON).await.code(), Some(2));
}
