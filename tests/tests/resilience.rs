//! Faults that are neither a clean failure nor a clean outage.

use reqwest::{Method, StatusCode};
use serde_json::json;
use std::{collections::BTreeMap, time::Duration};
use system_tests::{Builder, Callback, Process, SOON, System, eventually};

async fn paid(system: &System, count: usize) -> Vec<(String, Callback)> {
    let mut callbacks = Vec::new();
    for number in system.bulk_orders(count, count).await {
        let callback = system.pay_silently(&number).await;
        callbacks.push((number, callback));
    }
    callbacks
}

async fn send_all(system: &System, callbacks: &[(String, Callback)]) {
    for (number, callback) in callbacks {
        assert_eq!(system.send(callback).await.0, StatusCode::OK, "{number}");
    }
}

const PAID: &str = "select count(*) from payment_orders where payment_status = 'paid'";

/// Somebody has locked one order and gone to lunch: only that one waits.
async fn a_locked_order_holds_up_no_other(builder: Builder) {
    let system = builder.start().await;
    let callbacks = paid(&system, 20).await;
    let mut lunch = system.db.begin().await.expect("the database");
    sqlx::query("select from payment_orders where order_no = $1 for update")
        .bind(&callbacks[7].0)
        .execute(&mut *lunch)
        .await
        .expect("an order");
    send_all(&system, &callbacks).await;
    system.wait_for_count("all others are credited", PAID, 19).await;
    let put_off =
        "select count(*) from payment_notify_logs where process_status = 'retrying' and error_code = 'database_error'";
    system.wait_for_count("the one is put off", put_off, 1).await;
    lunch.rollback().await.expect("the database");
    system.wait_for_count("and credited after lunch", PAID, 20).await;
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_order_holds_up_no_other_with_a_broker() {
    a_locked_order_holds_up_no_other(Builder::default().workers(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_order_holds_up_no_other_without_one() {
    a_locked_order_holds_up_no_other(Builder::default().embedded()).await;
}

/// The database's host vanishes without a word and another takes its address: what hung is given up, and work goes on.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_hang_for_ever_are_given_up() {
    let system = Builder::default().start().await;
    let callbacks = paid(&system, 30).await;
    send_all(&system, &callbacks[..10]).await;
    system.wait_for_count("they are credited", PAID, 10).await;

    system.postgres.freeze_standing();
    for (_, callback) in &callbacks[10..] {
        let taken = async || system.send(callback).await.0;
        eventually("callbacks are taken again", SOON * 2, taken, |status| *status == StatusCode::OK).await;
    }
    system.wait_for_count("and credited", PAID, 30).await;
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_hang_keep_no_callback_from_being_stored() {
    let system = Builder::default().start().await;
    let callbacks = paid(&system, 5).await;
    let mut lock = system.db.begin().await.expect("the database");
    sqlx::query("lock table payment_packages").execute(&mut *lock).await.expect("a lock");
    let mut hanging = tokio::task::JoinSet::new();
    for _ in 0..40 {
        hanging.spawn(system.http.get(system.url("/api/payment/packages")).send());
    }
    let waiting = async || {
        system
            .count(
                "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
            )
            .await
    };
    eventually("requests hang", SOON, waiting, |waiting| *waiting >= 3).await;
    send_all(&system, &callbacks).await;
    system.wait_for_count("they are credited", PAID, 5).await;
    lock.rollback().await.expect("the database");
    hanging.shutdown().await;
    system.finish().await;
}

/// Making next month's partition gives way to whoever reads the log, and inserts go on all the while.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_month_is_made_beside_a_reader() {
    let mut system = Builder::default().workers(0).start().await;
    let months = "select count(*) from pg_inherits where inhparent = 'payment_notify_logs'::regclass";
    let whole = system.count(months).await;
    for parent in ["payment_notify_logs", "payment_notify_bodies"] {
        let drop = format!(
            "do $$ begin execute 'drop table {parent}_' || to_char(now() at time zone 'UTC' + interval '2 months', 'YYYY_MM'); end $$"
        );
        sqlx::raw_sql(&drop).execute(&system.db).await.expect("dropped");
    }
    let callbacks = paid(&system, 30).await;
    let mut reader = system.db.begin().await.expect("the database");
    sqlx::query("select count(*) from payment_notify_logs").execute(&mut *reader).await.expect("a count");
    system.start_worker().await;
    send_all(&system, &callbacks).await;
    system.wait_for_count("they are credited", PAID, 30).await;
    let put_off = async || system.workers[0].log().contains("the next months' partitions");
    eventually("the worker gives way", SOON, put_off, |put_off| *put_off).await;
    reader.rollback().await.expect("the database");
    system.wait_for_count("the month is made", months, whole).await;
    system.finish().await;
}

/// Without a key nothing can be verified: a worker waits for one, and spends no attempt.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_keys_waits_for_them() {
    let mut system = Builder::default().certificates().workers(0).start().await;
    let callbacks = paid(&system, 3).await;
    send_all(&system, &callbacks).await;
    let never = json!({"endpoint": "certificates", "fault": "apiError", "count": 6});
    system.control(Method::POST, "/control/faults/next", Some(&never)).await;
    system.start_worker().await;
    system.wait_for_log(&[("processed", 3)]).await;
    assert_eq!(system.count("select max(retry_count)::bigint from payment_notify_logs").await, 0);
    system.finish().await;
}

/// A standby that became the primary, or the other way round.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_database_is_an_outage_and_its_end_is_noticed() {
    let mut system = Builder::default().start().await;
    let callbacks = paid(&system, 2).await;
    let name: String = sqlx::query_scalar("select current_database()").fetch_one(&system.db).await.expect("a name");
    let set = async |on: &str| {
        let sql = format!("alter database {name} set default_transaction_read_only = {on}");
        sqlx::query(&sql).execute(&system.db).await.expect("altered");
    };
    set("on").await;
    sqlx::query("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name like 'recharge%'")
        .execute(&system.db)
        .await
        .expect("terminated");
    let url = format!("http://{}/readyz", system.apis[0].listening().await);
    let ready = async || system.http.get(&url).send().await.expect("an answer").status();
    eventually("it is not ready", SOON, ready, |status| *status == StatusCode::SERVICE_UNAVAILABLE).await;
    assert_eq!(system.send(&callbacks[0].1).await.0, StatusCode::SERVICE_UNAVAILABLE);

    let mut own = system.db.acquire().await.expect("the test's own connection");
    sqlx::query("set default_transaction_read_only = off").execute(&mut *own).await.expect("set");
    let sql = format!("alter database {name} set default_transaction_read_only = off");
    sqlx::query(&sql).execute(&mut *own).await.expect("altered");
    drop(own);
    for (_, callback) in &callbacks {
        let taken = async || system.send(callback).await.0;
        eventually("callbacks are taken again", SOON, taken, |status| *status == StatusCode::OK).await;
    }
    system.wait_for_count("and credited", PAID, 2).await;
    eventually("it is ready", SOON, ready, |status| *status == StatusCode::OK).await;
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_waits_for_its_database_can_be_stopped() {
    let system = Builder::default().workers(0).start().await;
    let mut env: BTreeMap<String, String> = system.env.clone();
    env.insert("DATABASE_URL".into(), "postgres://nobody@127.0.0.1:1/nowhere".into());
    for name in ["api", "worker"] {
        let mut process = Process::start(name, &[], &env);
        let waits = async || process.log().contains("does not answer yet");
        eventually("it waits", SOON, waits, |waits| *waits).await;
        process.signal("TERM");
        assert_eq!(process.ended(Duration::from_secs(10)).await.code(), Some(0), "{name}");
    }
    system.finish().await;
}

/// SIGKILL a moment after the acknowledgement: what was acknowledged is in the log.
#[tokio::test(flavor = "multi_thread")]
async fn an_api_killed_after_its_answer_has_stored_what_it_acknowledged() {
    let mut system = Builder::default().start().await;
    let callbacks = paid(&system, 10).await;
    for (_, callback) in &callbacks {
        assert_eq!(system.send(callback).await.0, StatusCode::OK);
        system.apis[0].kill();
        system.apis.clear();
        system.start_api().await;
    }
    system.wait_for_log(&[("processed", 10)]).await;
    system.finish().await;
}
