//! Notifications that fail: tried again by the ladder, given up, or set apart because they kill whoever handles them.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use system_tests::{Broker, Builder, Process, SOON, System, eventually, publish};

/// A callback of a paid order that cannot be found until [`found`] is called.
async fn lost(system: &System, user: &str) -> (String, system_tests::Callback) {
    let order = system.order(user, 0).await;
    let order_no = order["orderNo"].as_str().expect("a number").to_owned();
    let callback = system.pay_silently(&order_no).await;
    let rename = "update payment_orders set order_no = 'x' || substr(order_no, 2) where order_no = $1";
    sqlx::query(rename).bind(&order_no).execute(&system.db).await.expect("the database");
    (order_no, callback)
}

async fn found(system: &System, order_no: &str) {
    let rename = "update payment_orders set order_no = $1 where order_no = 'x' || substr($1, 2)";
    sqlx::query(rename).bind(order_no).execute(&system.db).await.expect("the database");
}

async fn one_log(system: &System) -> Value {
    let admin = system.admin("root");
    let list = admin.get("/api/payment/admin/notify-logs").await;
    let id = list["items"][0]["id"].as_str().expect("an id");
    admin.get(&format!("/api/payment/admin/notify-logs/{id}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passing_fault_climbs_the_ladder_and_is_given_up_at_its_end() {
    let system = Builder::default().env("RETRY_DELAY_SCALE", "0.001").start().await;
    let (order_no, callback) = lost(&system, "alice").await;
    assert_eq!(system.send(&callback).await.0, StatusCode::OK);
    eventually("it is given up", SOON * 4, async || system.log().await, |log| log.contains_key("dead order_not_found"))
        .await;

    let log = one_log(&system).await;
    assert_eq!((&log["retryCount"], &log["errorCode"]), (&json!(7), &json!("order_not_found")), "{log}");
    let attempts = log["attempts"].as_array().expect("attempts");
    let outcomes: Vec<_> = attempts.iter().map(|attempt| attempt["outcome"].as_str().expect("an outcome")).collect();
    assert_eq!(outcomes, ["retrying"; 7].into_iter().chain(["dead"]).collect::<Vec<_>>());
    let pid = system.workers[0].id().to_string();
    assert!(attempts.iter().all(|attempt| attempt["worker"].as_str().expect("a worker").ends_with(&pid)), "{log}");
    assert_eq!(log["deadLetter"]["alike"], 1);

    found(&system, &order_no).await;
    let path = format!("/api/payment/admin/notify-logs/{}/retry", log["id"].as_str().expect("an id"));
    assert_eq!(system.admin("root").ask(Method::POST, &path, None).await.0, 202);
    system.wait_for_log(&[("processed", 1)]).await;
    assert_eq!(one_log(&system).await["retryCount"], 8);
    system.finish().await;
}

/// With a broker, and a rescue loop that cannot have done it: each attempt came by the ladder's queue.
#[tokio::test(flavor = "multi_thread")]
async fn the_ladders_queues_bring_a_row_back_when_it_is_due() {
    let mut system = Builder::default().env("RETRY_DELAY_SCALE", "0.1").start().await;
    let (order_no, callback) = lost(&system, "alice").await;
    assert_eq!(system.send(&callback).await.0, StatusCode::OK);
    let retried = "select coalesce(max(retry_count), 0)::bigint from payment_notify_logs";
    system.wait_for_count("two attempts have failed", retried, 2).await;
    found(&system, &order_no).await;
    system.wait_for_log(&[("processed", 1)]).await;
    let address = system.workers[0].listening().await;
    let page = system.http.get(format!("http://{address}/metrics")).send().await.expect("an answer");
    let page = page.text().await.expect("a page");
    assert!(page.contains("recharge_rescued_rows_total 0"), "{page}");
    system.finish().await;
}

/// Runs a worker, and another one when it died, until `done`; answers how many died.
async fn keep_running(system: &System, done: impl AsyncFn() -> bool) -> usize {
    let (mut deaths, mut worker) = (0, Process::start("worker", &[], &system.env));
    let look = async || {
        if !worker.is_running() {
            deaths += 1;
            worker = Process::start("worker", &[], &system.env);
        }
        done().await
    };
    eventually("everything is handled", SOON * 5, look, |done| *done).await;
    deaths
}

async fn poison_stands_alone(builder: Builder) {
    let mut system = builder.workers(0).start().await;
    let numbers = system.bulk_orders(1_001, 97).await;
    for number in &numbers {
        let callback = system.pay_silently(number).await;
        assert_eq!(system.send(&callback).await.0, StatusCode::OK);
    }
    system.env.insert("RECHARGE_CRASH_AT".into(), format!("opened:{}", numbers[500]));
    let done =
        async || system.log().await.get("dead poison") == Some(&1) && !system.log().await.contains_key("received");
    let deaths = keep_running(&system, done).await;
    assert!((3..=6).contains(&deaths), "it killed {deaths} workers");
    system.wait_for_log(&[("processed", 1_000), ("dead poison", 1)]).await;
    assert_eq!(system.count("select sum(balance)::bigint from point_accounts").await, 1_000 * 105);

    // The bug is mended: the operator tries it again.
    system.env.remove("RECHARGE_CRASH_AT");
    system.start_worker().await;
    let retried = system.ops(&["retry-notify", "--status", "dead", "--error-code", "poison", "--yes"]);
    assert_eq!(retried.code, Some(0), "{} {}", retried.out, retried.err);
    system.wait_for_log(&[("processed", 1_001)]).await;
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_kills_its_worker_ends_as_poison_and_a_thousand_others_are_credited() {
    poison_stands_alone(Builder::default()).await;
}

/// Two sets are in hand at once, but not beside one that is blamed when its worker dies.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_kills_its_worker_takes_no_suspect_along() {
    let mut system = Builder::default().workers(0).start().await;
    let mut numbers = system.bulk_orders(11, 1).await;
    let poison = numbers.pop().expect("an order");
    for innocent in &numbers {
        let callback = system.pay_silently(innocent).await;
        assert_eq!(system.send(&callback).await.0, StatusCode::OK);
    }
    let suspect = "update payment_notify_logs set crashes = 1";
    sqlx::query(suspect).execute(&system.db).await.expect("the database");
    // Each of them is in hand for a second then, waiting for its order.
    let mut held = system.db.begin().await.expect("the database");
    let lock = "select 1 from payment_orders where order_no = any($1) for update";
    sqlx::query(lock).bind(&numbers).execute(&mut *held).await.expect("the database");

    let callback = system.pay_silently(&poison).await;
    system.env.insert("RECHARGE_CRASH_AT".into(), format!("opened:{poison}"));
    let mut worker = Process::start("worker", &[], &system.env);
    let in_hand = "select count(*) from worker_sets";
    system.wait_for_count("a suspect is in hand", in_hand, 1).await;
    assert_eq!(system.send(&callback).await.0, StatusCode::OK);
    let newest = "select id from payment_notify_logs order by id desc limit 1";
    let id: sqlx::types::Uuid = sqlx::query_scalar(newest).fetch_one(&system.db).await.expect("a row");
    // Whichever of the two consumers got it: one of these is for the other.
    let queue = format!("{}.notify", system.env["QUEUE_PREFIX"]);
    for _ in 0..2 {
        publish(&system.env["AMQP_URL"], &queue, json!([id]).to_string().as_bytes()).await;
    }
    worker.ended(SOON * 2).await;
    let beside = sqlx::query_scalar("select count(*) from worker_sets where ids <> array[$1]").bind(id);
    let beside: i64 = beside.fetch_one(&system.db).await.expect("the database");
    assert_eq!(beside, 0, "a suspect was in hand when its worker died of another row");

    held.rollback().await.expect("the database");
    system.env.remove("RECHARGE_CRASH_AT");
    system.start_worker().await;
    system.wait_for_log(&[("processed", 11)]).await;
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_broker_too_a_row_that_kills_its_worker_stands_alone_in_the_end() {
    poison_stands_alone(Builder::default().embedded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_for_a_wrong_key_is_tried_again_when_the_right_one_is_set() {
    let mut system = Builder::default().workers(0).start().await;
    let right = system.env["WECHAT_PAY_API_KEY"].clone();
    for _ in 0..3 {
        let order = system.order("alice", 0).await;
        let callback = system.pay_silently(order["orderNo"].as_str().expect("a number")).await;
        assert_eq!(system.send(&callback).await.0, StatusCode::OK);
    }
    system.env.insert("WECHAT_PAY_API_KEY".into(), "0".repeat(32));
    system.start_worker().await;
    system.wait_for_log(&[("dead decrypt_failed", 3)]).await;

    system.workers.clear();
    system.env.insert("WECHAT_PAY_API_KEY".into(), right);
    system.start_worker().await;
    system.wait_for_log(&[("processed", 3)]).await;
    let deeds = "select count(*) from audit_log where actor = 'worker' and reason = 'the APIv3 key changed'";
    assert!(system.count(deeds).await >= 1, "it is known who did it, and why");
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_key_is_tried_as_soon_as_it_is_there() {
    // On the ladder it would wait for minutes.
    let mut system = Builder::default().workers(0).env("RETRY_DELAY_SCALE", "10").start().await;
    let right = system.env["WECHAT_PAY_PUBLIC_KEY_ID"].clone();
    let order = system.order("alice", 0).await;
    let callback = system.pay_silently(order["orderNo"].as_str().expect("a number")).await;
    assert_eq!(system.send(&callback).await.0, StatusCode::OK);
    system.env.insert("WECHAT_PAY_PUBLIC_KEY_ID".into(), "PUB_KEY_ID_1".into());
    system.start_worker().await;
    system.wait_for_log(&[("retrying key_unavailable", 1)]).await;

    system.workers.clear();
    system.env.insert("WECHAT_PAY_PUBLIC_KEY_ID".into(), right);
    system.start_worker().await;
    system.wait_for_log(&[("processed", 1)]).await;
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_gave_up_is_handled_all_the_same() {
    let mut system = Builder::default().workers(0).start().await;
    let order = system.order("alice", 0).await;
    let callback = system.pay_silently(order["orderNo"].as_str().expect("a number")).await;
    assert_eq!(system.send(&callback).await.0, StatusCode::OK);
    let id: sqlx::types::Uuid =
        sqlx::query_scalar("select id from payment_notify_logs").fetch_one(&system.db).await.expect("a row");
    let queue = format!("{}.notify.dead", system.env["QUEUE_PREFIX"]);
    publish(&system.env["AMQP_URL"], &queue, json!([id]).to_string().as_bytes()).await;
    publish(&system.env["AMQP_URL"], &queue, b"nonsense").await;

    system.start_worker().await;
    system.wait_for_log(&[("processed", 1)]).await;
    let address = system.workers[0].listening().await;
    let page = async || {
        let page = system.http.get(format!("http://{address}/metrics")).send().await.expect("an answer");
        page.text().await.expect("a page")
    };
    let told = |page: &String| page.contains("recharge_broker_gave_up_rows_total 1");
    eventually("the dead letter is counted", SOON, page, told).await;
    system.finish().await;
}

/// Each of the ladder's queues holds a message when the broker is stopped, and when it is killed.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_loses_nothing_of_the_ladder() {
    let Some(mut broker) = Broker::start().await else {
        eprintln!("RabbitMQ is not installed here, so none can be killed: nothing was tested");
        return;
    };
    // Slow enough for a busy machine to have its broker back twice before the second step is over.
    let system = Builder::default().amqp(&broker.url()).workers(0).env("RETRY_DELAY_SCALE", "10");
    let mut system = system.start().await;
    let mut numbers = Vec::new();
    for step in 0..7 {
        let (order_no, callback) = lost(&system, "alice").await;
        assert_eq!(system.send(&callback).await.0, StatusCode::OK);
        let climb = "update payment_notify_logs set ladder_step = $1 where ladder_step = 0 and id =
            (select id from payment_notify_logs order by id desc limit 1)";
        sqlx::query(climb).bind(i16::try_from(step).expect("small")).execute(&system.db).await.expect("the database");
        numbers.push(order_no);
    }
    system.start_worker().await;
    system.wait_for_log(&[("retrying order_not_found", 7)]).await;
    let prefix = system.env["QUEUE_PREFIX"].clone();
    let queue = |step: &str| format!("{prefix}.notify.retry.{step}");
    let slow = ["30s", "2m", "10m", "30m", "2h", "6h"];
    for step in slow {
        let ask = async || broker.messages(&queue(step)).await;
        eventually(&format!("the ladder holds that of {step}"), SOON, ask, |messages| *messages == Some(1)).await;
    }

    // In good order first: RabbitMQ writes down at its leisure that a queue exists, and kills within minutes of the first
    // message in it may cost that message. Then the row alone knows.
    for kill in [false, true] {
        if kill {
            broker.kill_and_restart().await;
        } else {
            broker.restart().await;
        }
        for step in slow {
            let ask = async || broker.messages(&queue(step)).await;
            let what = format!("the ladder still holds that of {step}");
            eventually(&what, SOON * 2, ask, |messages| *messages == Some(1)).await;
        }
    }
    for order_no in &numbers {
        found(&system, order_no).await;
    }
    // On the ladder they would wait for minutes and hours, so their time is said to have come.
    let due = "update payment_notify_logs set next_attempt_at = now() where process_status = 'retrying'";
    sqlx::query(due).execute(&system.db).await.expect("the database");
    system.wait_for_log(&[("processed", 7)]).await;
    assert_eq!(system.get("/api/points/balance", "alice").await["balance"], 700);
    system.finish().await;
}
