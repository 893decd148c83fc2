//! A process dies at every point between two steps that outlive it: what was begun is ended by those who come after, once.
//!
//! Each test runs one installation through the points of one flow. The process that passes a point ends there as with
//! `kill -9`; then one is started that does not.

use reqwest::Method;
use serde_json::{Value, json};
use std::{collections::BTreeSet, os::unix::process::ExitStatusExt};
use system_tests::{Builder, Process, SOON, System, eventually, messages, ops};

const CRASH_AT: &str = "RECHARGE_CRASH_AT";
const SIGABRT: i32 = 6;

/// Points that a worker passes with a notification that the broker brings.
const NOTIFIED: &[&str] = &["claimed", "opened", "applied", "written", "committed", "acked"];
/// Points that it passes with one that it finds by itself.
const RESCUED: &[&str] = &["claimed", "held", "opened", "applied", "written", "committed"];
/// Points of an `api` that makes an order.
const PLACING: &[&str] = &["order stored", "order placed", "order coded"];
/// Points of an `api` that cancels an order which was paid, and one which was not.
const CANCELLING_PAID: &[&str] = &["order asked", "payment applied", "payment committed"];
const CANCELLING: &[&str] = &["order asked", "order closed", "order ended"];
/// Points of a worker that asks about an order which was paid, one which is open, and one whose time is up.
const CONFIRMING: &[&str] = &["order asked", "payment applied", "payment committed", "order checked"];
const CONFIRMING_OPEN: &[&str] = &["order asked", "order checked"];
const EXPIRING: &[&str] = &["order closed", "order ended", "order checked"];
/// Points of a refund, and of one that WeChat Pay does not take at first.
const REFUNDING: &[&str] =
    &["refund claimed", "refund called", "refund applied", "refund committed", "refund acked", "refund put off"];
/// Points that are passed one by one below.
const SINGLE: &[&str] = &["intake stored", "retry committed", "retry stored", "amended", "refund stored"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Api,
    Worker,
}

/// Lets the next process of this kind die at `point`; it takes the place of those that run.
async fn arm(system: &mut System, who: Who, point: &str) {
    system.env.insert(CRASH_AT.into(), point.into());
    start(system, who).await;
    system.env.remove(CRASH_AT);
}

async fn start(system: &mut System, who: Who) {
    if who == Who::Api {
        system.apis.clear();
        system.start_api().await;
    } else {
        system.workers.clear();
        system.start_worker().await;
    }
}

/// Waits for the death at `point`, and starts a process that lives.
async fn revive(system: &mut System, who: Who, point: &str) {
    dies(if who == Who::Api { &mut system.apis[0] } else { &mut system.workers[0] }, point).await;
    start(system, who).await;
}

async fn dies(process: &mut Process, point: &str) {
    let status = process.ended(SOON).await;
    assert_eq!(status.signal(), Some(SIGABRT), "{point}: {status}\n{}", process.log());
    let last_word = format!("{CRASH_AT}={point}: the process ends here");
    eventually("its last word", SOON, async || process.log(), |log| log.contains(&last_word)).await;
}

/// Asks an `api` that dies of it.
async fn ask_in_vain(system: &System, path: &str, token: &str, key: &str, body: &Value) {
    let request = system.http.post(system.url(path)).bearer_auth(token).header("Idempotency-Key", key);
    let answer = request.json(body).send().await;
    assert!(answer.is_err(), "{path} was answered: {answer:?}");
}

async fn execute(system: &System, sql: &'static str, order_no: &str) {
    let done = sqlx::query(sql).bind(order_no).execute(&system.db).await.expect("the database");
    assert_eq!(done.rows_affected(), 1, "{sql}");
}

async fn order_is(system: &System, order_no: &str, status: &str) {
    let ask = async || -> String {
        let sql = "select payment_status from payment_orders where order_no = $1";
        sqlx::query_scalar(sql).bind(order_no).fetch_one(&system.db).await.expect("the order")
    };
    eventually(&format!("order {order_no} is {status}"), SOON, ask, |now| now == status).await;
}

/// Nothing is left to do, and what WeChat Pay has in its books is what we have in ours: each payment credited once, each
/// refund made once.
async fn settle(system: System) {
    let unfinished =
        "select (select count(*) from payment_notify_logs where process_status in ('received', 'retrying'))
        + (select count(*) from payment_refunds where status in ('pending', 'processing'))";
    system.wait_for_count("nothing is left to do", unfinished, 0).await;

    let books = system.control(Method::GET, "/control/books", None).await;
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let theirs: BTreeSet<_> = books["payments"]
        .as_array()
        .expect("payments")
        .iter()
        .map(|payment| (text(&payment["outTradeNo"]), text(&payment["transactionId"])))
        .collect();
    let ours: Vec<(String, String)> = sqlx::query_as(
        "select o.order_no, o.transaction_id from payment_orders o join point_entries e using (order_no)
         where o.paid_at is not null and e.kind = 'recharge'",
    )
    .fetch_all(&system.db)
    .await
    .expect("the database");
    assert_eq!((ours.len(), ours.into_iter().collect::<BTreeSet<_>>()), (theirs.len(), theirs));

    let theirs: BTreeSet<_> = books["refunds"]
        .as_array()
        .expect("refunds")
        .iter()
        .map(|refund| (text(&refund["outRefundNo"]), refund["refund"].as_i64().expect("fen"), text(&refund["status"])))
        .collect();
    let ours: Vec<(String, i64, String)> = sqlx::query_as(
        "select r.refund_no, r.amount, upper(r.status) from payment_refunds r join point_entries e using (refund_no)",
    )
    .fetch_all(&system.db)
    .await
    .expect("the database");
    assert_eq!((ours.len(), ours.into_iter().collect::<BTreeSet<_>>()), (theirs.len(), theirs));
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_point_is_left_out_and_no_other_is_taken() {
    let start = |point: &str| Process::start("worker", &[], &[(CRASH_AT.to_owned(), point.to_owned())].into());
    let mut refused = start("comitted");
    assert_eq!(refused.ended(SOON).await.code(), Some(2));
    let known = async || Some(refused.log().split_once("names no crash point: comitted. There are: ")?.1.to_owned());
    let known = eventually("it says which there are", SOON, known, Option::is_some).await.expect("a list");
    let known: BTreeSet<&str> = known.trim().split(", ").collect();
    let groups = [
        NOTIFIED,
        RESCUED,
        PLACING,
        CANCELLING_PAID,
        CANCELLING,
        CONFIRMING,
        CONFIRMING_OPEN,
        EXPIRING,
        REFUNDING,
        SINGLE,
    ];
    assert_eq!(groups.concat().into_iter().collect::<BTreeSet<_>>(), known);
}

/// Waits until so many notifications wait for a worker at the broker.
async fn wait_for_queue(system: &System, expected: u32) {
    let (url, queue) = (&system.env["AMQP_URL"], format!("{}.notify", system.env["QUEUE_PREFIX"]));
    let ask = async || messages(url, &queue).await;
    eventually(&format!("{expected} in the queue"), SOON, ask, |messages| *messages == Some(expected)).await;
}

async fn with_notifications(builder: Builder, points: &[&str]) {
    let mut system = builder.start().await;
    let numbers = system.bulk_orders(points.len(), 2).await;
    for ((point, number), processed) in points.iter().zip(&numbers).zip(1..) {
        arm(&mut system, Who::Worker, point).await;
        system.pay(number).await;
        dies(&mut system.workers[0], point).await;
        if system.rabbitmq.is_some() {
            // Nobody finds it by its row: the broker must have kept it.
            let later = "update payment_notify_logs set next_attempt_at = now() + interval '1 hour'
                where process_status = 'received'";
            sqlx::query(later).execute(&system.db).await.expect("the database");
            if *point != "acked" {
                wait_for_queue(&system, 1).await;
            }
        }
        start(&mut system, Who::Worker).await;
        system.wait_for_log(&[("processed", processed)]).await;
        if system.rabbitmq.is_some() {
            // Done may have been the dead worker's; this one has its message in hand, and acks it before it goes. Else the
            // next one, which is to die of another, would meet it.
            wait_for_queue(&system, 0).await;
            system.workers[0].signal("TERM");
            assert_eq!(system.workers[0].ended(SOON).await.code(), Some(0), "{point}");
        }
    }
    settle(system).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_dies_of_what_the_broker_brought() {
    with_notifications(Builder::default().workers(0), NOTIFIED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_dies_of_what_it_found() {
    with_notifications(Builder::default().workers(0).embedded(), RESCUED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_dies_while_it_makes_an_order() {
    let mut system = Builder::default().start().await;
    let token = system.token("alice");
    let packages = system.get("/api/payment/packages", "alice").await;
    let body = json!({"packageId": packages["items"][0]["id"], "paymentMethod": "wechat_native"});
    for point in PLACING {
        arm(&mut system, Who::Api, point).await;
        let key = point.replace(' ', "-");
        ask_in_vain(&system, "/api/payment/orders", &token, &key, &body).await;
        revive(&mut system, Who::Api, point).await;
        let first: String = sqlx::query_scalar("select order_no from payment_orders order by created_at desc limit 1")
            .fetch_one(&system.db)
            .await
            .expect("our row was first");

        let has_code = *point == "order coded";
        if !has_code {
            // The sweep, which comes first in a worker's life, ends it when a minute is over.
            let age = "update payment_orders set created_at = now() - interval '61 seconds'
                where order_no = $1 and payment_status = 'pending' and code_url is null";
            execute(&system, age, &first).await;
            start(&mut system, Who::Worker).await;
            order_is(&system, &first, "failed").await;
        }
        let repeat = system.http.post(system.url("/api/payment/orders")).bearer_auth(&token);
        let repeat = repeat.header("Idempotency-Key", &key).json(&body).send().await.expect("an answer");
        assert_eq!(repeat.status(), if has_code { 200 } else { 201 }, "{point}");
        let order: Value = repeat.json().await.expect("JSON");
        let number = order["orderNo"].as_str().expect("a number");
        assert_eq!(number == first, has_code, "{point}");
        assert!(order["codeUrl"].is_string(), "{point}: {order}");
        system.pay(number).await;
        order_is(&system, number, "paid").await;
        if *point == "order placed" {
            // WeChat Pay holds the first one too. Nobody was shown its code, and money for it counts all the same.
            system.pay(&first).await;
            order_is(&system, &first, "paid").await;
        }
    }
    settle(system).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_dies_while_it_cancels_an_order() {
    let mut system = Builder::default().start().await;
    let token = system.token("u0");
    let mut numbers = system.bulk_orders(CANCELLING_PAID.len() + CANCELLING.len(), 1).await.into_iter();
    let cancel = |number: &str| format!("/api/payment/orders/{number}/cancel");
    for (point, number) in CANCELLING_PAID.iter().zip(&mut numbers) {
        arm(&mut system, Who::Api, point).await;
        // Its callback is lost: only the cancel finds out.
        system.pay_silently(&number).await;
        ask_in_vain(&system, &cancel(&number), &token, "k", &json!({})).await;
        revive(&mut system, Who::Api, point).await;
        let (status, answer) = system.user("u0").ask(Method::POST, &cancel(&number), None).await;
        assert_eq!((status, answer["code"].as_str()), (409, Some("order_already_paid")), "{point}");
    }
    for (point, number) in CANCELLING.iter().zip(&mut numbers) {
        arm(&mut system, Who::Api, point).await;
        ask_in_vain(&system, &cancel(&number), &token, "k", &json!({})).await;
        revive(&mut system, Who::Api, point).await;
        if *point == "order closed" {
            // Nobody presses the button again: the next look finds it closed.
            due(&system, &number).await;
        } else {
            assert_eq!(system.user("u0").ask(Method::POST, &cancel(&number), None).await.0, 200, "{point}");
        }
        order_is(&system, &number, "cancelled").await;
        let there = system.control(Method::GET, &format!("/control/orders/{number}"), None).await;
        assert_eq!(there["state"], "CLOSED", "{point}");
    }
    settle(system).await;
}

/// The time of its next check has come, or its claim by a worker that died is over.
async fn due(system: &System, order_no: &str) {
    let due = "update payment_orders set next_check_at = now() where order_no = $1";
    execute(system, due, order_no).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_dies_while_it_asks_about_an_order() {
    let mut system = Builder::default().workers(0).embedded().start().await;
    let count = CONFIRMING.len() + CONFIRMING_OPEN.len() + EXPIRING.len();
    let mut numbers = system.bulk_orders(count, 2).await.into_iter();
    for (point, number) in CONFIRMING.iter().zip(&mut numbers) {
        arm(&mut system, Who::Worker, point).await;
        system.pay_silently(&number).await;
        due(&system, &number).await;
        revive(&mut system, Who::Worker, point).await;
        due(&system, &number).await;
        order_is(&system, &number, "paid").await;
    }
    for (point, number) in CONFIRMING_OPEN.iter().zip(&mut numbers) {
        arm(&mut system, Who::Worker, point).await;
        due(&system, &number).await;
        revive(&mut system, Who::Worker, point).await;
        system.pay_silently(&number).await;
        due(&system, &number).await;
        order_is(&system, &number, "paid").await;
    }
    for (point, number) in EXPIRING.iter().zip(&mut numbers) {
        arm(&mut system, Who::Worker, point).await;
        let end = "update payment_orders set expired_at = date_trunc('second', now()) - interval '1 second',
            next_check_at = now() where order_no = $1";
        execute(&system, end, &number).await;
        revive(&mut system, Who::Worker, point).await;
        due(&system, &number).await;
        order_is(&system, &number, "expired").await;
    }
    assert!(system.log().await.is_empty(), "not one callback came");
    settle(system).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_dies_with_a_callback_and_a_worker_with_one_that_failed() {
    let mut system = Builder::default().clock_factor(30).env("RETRY_DELAY_SCALE", "0.1").start().await;
    let numbers = system.bulk_orders(5, 2).await;

    // Stored, not published and not answered: it is found, and WeChat Pay sends it again.
    arm(&mut system, Who::Api, "intake stored").await;
    system.pay(&numbers[0]).await;
    revive(&mut system, Who::Api, "intake stored").await;
    system.wait_for_log(&[("processed", 1), ("duplicate", 1)]).await;

    // Put on the ladder, and no message will bring it back.
    arm(&mut system, Who::Worker, "retry committed").await;
    let callback = system.pay_silently(&numbers[1]).await;
    let lose = "update payment_orders set order_no = 'x' || substr(order_no, 2) where order_no = $1";
    execute(&system, lose, &numbers[1]).await;
    assert_eq!(system.send(&callback).await.0, 200);
    dies(&mut system.workers[0], "retry committed").await;
    let find = "update payment_orders set order_no = $1 where order_no = 'x' || substr($1, 2)";
    execute(&system, find, &numbers[1]).await;
    start(&mut system, Who::Worker).await;
    system.wait_for_log(&[("processed", 2), ("duplicate", 1)]).await;

    // Given back by hand, over HTTP and from the shell, and nobody told the workers.
    for (number, processed) in [(&numbers[2], 3), (&numbers[3], 4)] {
        let callback = system.pay_silently(number).await;
        execute(&system, "update payment_orders set amount = 101 where order_no = $1", number).await;
        assert_eq!(system.send(&callback).await.0, 200);
        system.wait_for_log(&[("processed", processed - 1), ("duplicate", 1), ("dead amount_mismatch", 1)]).await;
        execute(&system, "update payment_orders set amount = 100 where order_no = $1", number).await;
        if processed == 3 {
            let admin = ops(&system.env, &["token", "--user", "root", "--admin"]);
            arm(&mut system, Who::Api, "retry stored").await;
            let id: sqlx::types::Uuid =
                sqlx::query_scalar("select id from payment_notify_logs where process_status = 'dead'")
                    .fetch_one(&system.db)
                    .await
                    .expect("a row");
            let path = format!("/api/payment/admin/notify-logs/{id}/retry");
            ask_in_vain(&system, &path, &admin, "k", &json!({})).await;
            revive(&mut system, Who::Api, "retry stored").await;
        } else {
            let mut env = system.env.clone();
            env.insert(CRASH_AT.into(), "retry stored".into());
            let mut shell = Process::start("ops", &["retry-notify", "--status", "dead", "--yes"], &env);
            dies(&mut shell, "retry stored").await;
        }
        system.wait_for_log(&[("processed", processed), ("duplicate", 1)]).await;
    }

    // The configuration is mended; that it was is not noted yet.
    let right = system.env["WECHAT_PAY_API_KEY"].clone();
    system.env.insert("WECHAT_PAY_API_KEY".into(), "0".repeat(32));
    start(&mut system, Who::Worker).await;
    let callback = system.pay_silently(&numbers[4]).await;
    assert_eq!(system.send(&callback).await.0, 200);
    system.wait_for_log(&[("processed", 4), ("duplicate", 1), ("dead decrypt_failed", 1)]).await;
    system.env.insert("WECHAT_PAY_API_KEY".into(), right);
    system.workers.clear();
    let mut env = system.env.clone();
    env.insert(CRASH_AT.into(), "amended".into());
    // It may die before it is ready.
    dies(&mut Process::start("worker", &[], &env), "amended").await;
    start(&mut system, Who::Worker).await;
    system.wait_for_log(&[("processed", 5), ("duplicate", 1)]).await;
    settle(system).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_or_a_worker_dies_with_a_refund() {
    let mut system = Builder::default().env("RETRY_DELAY_SCALE", "0.01").start().await;
    let admin = ops(&system.env, &["token", "--user", "root", "--admin"]);
    let numbers = system.bulk_orders(REFUNDING.len() + 1, 2).await;
    for number in &numbers {
        system.pay(number).await;
    }
    let paid = i64::try_from(numbers.len()).expect("few");
    system.wait_for_count("all are paid", "select count(*) from point_entries where kind = 'recharge'", paid).await;
    let path = |number: &str| format!("/api/payment/admin/orders/{number}/refunds");
    let refunded = async |system: &System, count: i64| {
        // The claim of the worker that died is over.
        let due = "update payment_refunds set next_attempt_at = now() where status = 'pending'";
        sqlx::query(due).execute(&system.db).await.expect("the database");
        let done = "select count(*) from payment_refunds where status = 'success'";
        system.wait_for_count("the money is back", done, count).await;
    };

    arm(&mut system, Who::Api, "refund stored").await;
    ask_in_vain(&system, &path(&numbers[0]), &admin, "k", &json!({})).await;
    revive(&mut system, Who::Api, "refund stored").await;
    let repeat = system.http.post(system.url(&path(&numbers[0]))).bearer_auth(&admin).header("Idempotency-Key", "k");
    assert_eq!(repeat.json(&json!({})).send().await.expect("an answer").status(), 202);
    refunded(&system, 1).await;

    for ((point, number), count) in REFUNDING.iter().zip(&numbers[1..]).zip(2..) {
        arm(&mut system, Who::Worker, point).await;
        if *point == "refund put off" {
            let next = json!({"endpoint": "refund", "fault": "apiError", "count": 3});
            system.control(Method::POST, "/control/faults/next", Some(&next)).await;
        }
        // All of it, or a part.
        let body = if count % 2 == 0 { json!({}) } else { json!({"amount": 33}) };
        let answer = system.http.post(system.url(&path(number))).bearer_auth(&admin).json(&body).send().await;
        assert_eq!(answer.expect("an answer").status(), 202, "{point}");
        revive(&mut system, Who::Worker, point).await;
        refunded(&system, count).await;
    }
    settle(system).await;
}
