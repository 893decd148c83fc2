//! What an operator sees: the figures on both pages, what is missing, and that the log is not kept for ever.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::net::SocketAddr;
use system_tests::{Builder, Process, SOON, System, eventually};

async fn page(system: &System, address: SocketAddr) -> String {
    let answer = system.http.get(format!("http://{address}/metrics")).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    answer.text().await.expect("a page")
}

/// The value of a series, when it is there.
fn value(page: &str, series: &str) -> Option<f64> {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(|value| value.parse().expect("a number"))
}

/// Waits until the page shows all of this.
async fn wait_for_figures(system: &System, address: SocketAddr, expected: &[(&str, f64)]) {
    let figures = async || {
        let page = page(system, address).await;
        expected.iter().map(|(series, _)| (*series, value(&page, series))).collect::<Vec<_>>()
    };
    let expected: Vec<_> = expected.iter().map(|(series, value)| (*series, Some(*value))).collect();
    eventually("the figures", SOON, figures, |figures| *figures == expected).await;
}

async fn paid(system: &System, change: &Value) -> system_tests::Callback {
    let order = system.order("alice", 0).await;
    let order_no = order["orderNo"].as_str().expect("a number");
    system.control(Method::POST, &format!("/control/orders/{order_no}/pay"), Some(&json!({"notify": false}))).await;
    let mut wish = json!({"outTradeNo": order_no});
    wish.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
    system.sign(&wish).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_a_refusal_and_a_dead_letter_are_on_the_pages() {
    let mut system = Builder::default().start().await;
    let (api, worker) = (system.apis[0].listening().await, system.workers[0].listening().await);
    let begun = [
        (r#"recharge_callbacks_total{reason="stored"}"#, 0.0),
        (r#"recharge_callbacks_total{reason="queue_full"}"#, 0.0),
        ("recharge_event_streams", 0.0),
        (r#"recharge_database_max_connections{pool="intake"}"#, 3.0),
        (r#"recharge_broker_connected{link="publishing"}"#, 1.0),
        (r#"recharge_broker_connected{link="listening"}"#, 1.0),
    ];
    wait_for_figures(&system, api, &begun).await;
    let begun = [
        (r#"recharge_notifications_total{status="dead"}"#, 0.0),
        (r#"recharge_dead_letters_total{code="amount_mismatch"}"#, 0.0),
        (r#"recharge_notifications_unfinished{status="received"}"#, 0.0),
        ("recharge_dead_letters_waiting", 0.0),
        ("recharge_credit_delay_seconds_count", 0.0),
        (r#"recharge_database_max_connections{pool="worker"}"#, 10.0),
        (r#"recharge_broker_connected{link="consuming"}"#, 1.0),
        (r#"recharge_broker_connected{link="announcing"}"#, 1.0),
    ];
    wait_for_figures(&system, worker, &begun).await;

    for (change, status) in [
        (json!({}), StatusCode::OK),
        (json!({"key": "forged"}), StatusCode::UNAUTHORIZED),
        (json!({"overrides": {"amount": {"total": 1}}}), StatusCode::OK),
    ] {
        let callback = paid(&system, &change).await;
        assert_eq!(system.send(&callback).await.0, status, "{change}");
    }
    let ends = [("processed", 1), ("rejected signature_invalid", 1), ("dead amount_mismatch", 1)];
    system.wait_for_log(&ends).await;
    let answer = system.http.get(system.url("/nowhere/at/all")).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);

    let on_api = [
        (r#"recharge_callbacks_total{reason="stored"}"#, 2.0),
        (r#"recharge_callbacks_total{reason="signature_invalid"}"#, 1.0),
        (r#"recharge_callbacks_total{reason="probe"}"#, 0.0),
        (r#"recharge_callback_duration_seconds_count{result="stored"}"#, 2.0),
        (r#"recharge_callback_duration_seconds_count{result="refused"}"#, 1.0),
        // The refused one is kept too.
        ("recharge_intake_batch_rows_sum", 3.0),
        (r#"recharge_intake_insert_duration_seconds_count{result="error"}"#, 0.0),
        ("recharge_intake_waiting", 0.0),
        (r#"recharge_http_requests_total{route="/api/payment/notify/wechat",method="POST",status="2xx"}"#, 2.0),
        (r#"recharge_http_requests_total{route="/api/payment/notify/wechat",method="POST",status="4xx"}"#, 1.0),
        (r#"recharge_http_requests_total{route="/api/payment/orders",method="POST",status="2xx"}"#, 3.0),
        (r#"recharge_http_requests_total{route="none",method="GET",status="4xx"}"#, 1.0),
        (r#"recharge_wechat_calls_total{endpoint="native",outcome="ok"}"#, 3.0),
        (r#"recharge_wechat_calls_total{endpoint="native",outcome="unknown"}"#, 0.0),
        (r#"recharge_wechat_call_duration_seconds_count{endpoint="native"}"#, 3.0),
    ];
    wait_for_figures(&system, api, &on_api).await;
    let on_worker = [
        (r#"recharge_notifications_total{status="processed"}"#, 1.0),
        (r#"recharge_notifications_total{status="dead"}"#, 1.0),
        (r#"recharge_notification_faults_total{class="final",code="amount_mismatch"}"#, 1.0),
        (r#"recharge_dead_letters_total{code="amount_mismatch"}"#, 1.0),
        (r#"recharge_dead_letters_total{code="paid_twice"}"#, 0.0),
        ("recharge_dead_letters_waiting", 1.0),
        ("recharge_credit_delay_seconds_count", 1.0),
        (r#"recharge_credit_delay_seconds_bucket{le="10"}"#, 1.0),
        ("recharge_handler_set_rows_sum", 2.0),
        ("recharge_rescued_rows_total", 0.0),
        (r#"recharge_oldest_unfinished_seconds{status="received"}"#, 0.0),
    ];
    wait_for_figures(&system, worker, &on_worker).await;
    for (page, name) in [(page(&system, api).await, "api"), (page(&system, worker).await, "worker")] {
        assert!(page.contains(r#"recharge_build_info{version=""#), "{name}");
        assert!(!page.contains(" summary\n"), "{name}: summaries cannot be added up over processes");
    }
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_age_of_the_oldest_unfinished_rises_until_it_is_handled() {
    let mut system = Builder::default().start().await;
    let worker = system.workers[0].listening().await;
    let callback = paid(&system, &json!({})).await;
    let move_order = async |to: &str| {
        let moved = sqlx::query("update payment_orders set order_no = $1").bind(to).execute(&system.db).await;
        moved.expect("the database");
    };
    let order_no: String =
        sqlx::query_scalar("select order_no from payment_orders").fetch_one(&system.db).await.expect("an order");
    move_order("elsewhere").await;
    assert_eq!(system.send(&callback).await.0, StatusCode::OK);

    let oldest = async || {
        let page = page(&system, worker).await;
        value(&page, r#"recharge_oldest_unfinished_seconds{status="retrying"}"#).unwrap_or(0.0)
    };
    let seen = eventually("it is seen", SOON, oldest, |age| *age > 0.0).await;
    eventually("it grows old", SOON, oldest, |age| *age > seen + 5.0).await;
    wait_for_figures(&system, worker, &[(r#"recharge_notifications_unfinished{status="retrying"}"#, 1.0)]).await;

    move_order(&order_no).await;
    sqlx::query("update payment_notify_logs set next_attempt_at = now()").execute(&system.db).await.expect("due");
    let done = [
        (r#"recharge_oldest_unfinished_seconds{status="retrying"}"#, 0.0),
        (r#"recharge_notifications_unfinished{status="retrying"}"#, 0.0),
        ("recharge_dead_letters_waiting", 0.0),
    ];
    wait_for_figures(&system, worker, &done).await;
    system.wait_for_log(&[("processed", 1)]).await;
    let page = page(&system, worker).await;
    let retries = value(&page, r#"recharge_notifications_total{status="retrying"}"#).expect("it is there");
    let faults = value(&page, r#"recharge_notification_faults_total{class="passing",code="order_not_found"}"#);
    assert!(retries >= 1.0);
    assert_eq!(faults, Some(retries));
    system.finish().await;
}

async fn readiness(system: &System, address: SocketAddr) -> (StatusCode, Value) {
    let answer = system.http.get(format!("http://{address}/readyz")).send().await.expect("an answer");
    (answer.status(), answer.json().await.expect("JSON"))
}

async fn wait_for_readiness(system: &System, address: SocketAddr, needs: [&str; 3]) {
    let [database, keys, broker] = needs;
    let ready = database == "up" && keys == "up";
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let expected = (status, json!({"ready": ready, "database": database, "keys": keys, "broker": broker}));
    eventually("readiness", SOON, async || readiness(system, address).await, |answer| *answer == expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_names_what_is_missing_and_only_that() {
    let mut system = Builder::default().start().await;
    let addresses = [system.apis[0].listening().await, system.workers[0].listening().await];
    for address in addresses {
        wait_for_readiness(&system, address, ["up", "up", "up"]).await;
    }
    system.postgres.cut();
    for address in addresses {
        wait_for_readiness(&system, address, ["down", "up", "up"]).await;
    }
    system.postgres.restore();
    let rabbitmq = system.rabbitmq.clone().expect("broker mode");
    rabbitmq.cut();
    for (address, link) in addresses.into_iter().zip(["publishing", "consuming"]) {
        wait_for_readiness(&system, address, ["up", "up", "down"]).await;
        let link = format!("recharge_broker_connected{{link=\"{link}\"}}");
        wait_for_figures(&system, address, &[(&link, 0.0)]).await;
    }
    rabbitmq.restore();
    for address in addresses {
        wait_for_readiness(&system, address, ["up", "up", "up"]).await;
    }

    // A server that takes connections and says nothing.
    system.postgres.stall();
    for address in addresses {
        wait_for_readiness(&system, address, ["down", "up", "up"]).await;
    }
    let unknown = async || value(&page(&system, addresses[1]).await, "recharge_dead_letters_waiting");
    eventually("nothing is known", SOON, unknown, |dead| dead.is_some_and(f64::is_nan)).await;
    system.postgres.restore();
    for address in addresses {
        wait_for_readiness(&system, address, ["up", "up", "up"]).await;
    }
    wait_for_figures(&system, addresses[1], &[("recharge_dead_letters_waiting", 0.0)]).await;
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_without_keys_says_so() {
    let system = Builder::default().certificates().embedded().workers(0).start().await;
    let never = json!({"endpoint": "certificates", "fault": "apiError", "count": 1_000});
    system.control(Method::POST, "/control/faults/next", Some(&never)).await;
    for name in ["api", "worker"] {
        let mut process = Process::start(name, &[], &system.env);
        let address = process.listening().await;
        wait_for_readiness(&system, address, ["up", "down", "unused"]).await;
        let failed = async || {
            let page = page(&system, address).await;
            value(&page, r#"recharge_wechat_calls_total{endpoint="certificates",outcome="unknown"}"#)
        };
        eventually("the failed call is counted", SOON, failed, |calls| calls.is_some_and(|calls| calls > 0.0)).await;
    }
    system.control(Method::PUT, "/control/faults", Some(&json!({}))).await;
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn months_that_are_no_longer_kept_are_dropped_and_told() {
    let mut system = Builder::default().workers(0).env("NOTIFY_LOG_RETENTION_DAYS", "100").start().await;
    for months_ago in [2, 5] {
        for parent in ["payment_notify_logs", "payment_notify_bodies", "payment_notify_attempts"] {
            let month = format!("date_trunc('month', now() at time zone 'UTC') - interval '{months_ago} months'");
            let make = format!(
                "do $$ begin execute format('create table %I partition of {parent} for values from (%L) to (%L)',
                     '{parent}_' || to_char({month}, 'YYYY_MM'), uuid_v7_floor(({month}) at time zone 'UTC'),
                     uuid_v7_floor(({month} + interval '1 month') at time zone 'UTC')); end $$"
            );
            sqlx::raw_sql(&make).execute(&system.db).await.expect("made");
        }
        let dead = format!(
            "with new as (
                 select uuid_v7_floor(at) as id, at from (select now() - interval '{months_ago} months' as at) as instant
             ), body as (
                 insert into payment_notify_bodies select id, '{{}}', '' from new
             ), figures as (
                 insert into payment_notify_statistics
                 select date_bin('1 hour', at, 'epoch'), 'payment', 'dead', -1, 1, 0 from new
             )
             insert into payment_notify_logs (id, notify_type, process_status, error_code, created_at, processed_at)
             select id, 'payment', 'dead', 'amount_mismatch', at, at from new"
        );
        sqlx::raw_sql(&dead).execute(&system.db).await.expect("stored");
    }
    system.start_worker().await;
    system.wait_for_log(&[("dead amount_mismatch", 1)]).await;
    let told = async || system.workers[0].log();
    eventually("it is told", SOON, told, |log| log.contains("1 dead letters of ")).await;
    assert_eq!(system.workers[0].log().matches("are dropped").count(), 1);
    system.finish().await;
}
