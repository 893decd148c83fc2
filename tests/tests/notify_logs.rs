//! The notify log as operators see it: lists, one notification whole, figures, and trying again what failed.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use system_tests::{Builder, Callback, System};
use uuid::Uuid;

const LOGS: &str = "/api/payment/admin/notify-logs";

/// A payment whose order says another amount than was paid, until [`correct`]: its callback is a dead letter.
async fn misfit(system: &System) -> (String, Callback) {
    let order = system.order("alice", 0).await;
    let order_no = order["orderNo"].as_str().expect("a number").to_owned();
    let callback = system.pay_silently(&order_no).await;
    sqlx::query("update payment_orders set amount = amount + 1 where order_no = $1")
        .bind(&order_no)
        .execute(&system.db)
        .await
        .expect("the database");
    (order_no, callback)
}

async fn correct(system: &System) {
    sqlx::query("update payment_orders set amount = amount - 1 where paid_at is null")
        .execute(&system.db)
        .await
        .expect("the database");
}

fn ids(items: &[Value]) -> Vec<&str> {
    items.iter().map(|item| item["id"].as_str().expect("an id")).collect()
}

/// One processed, one duplicate, three dead, one refused at the door.
async fn world(system: &System) -> (String, Vec<String>) {
    let order = system.order("alice", 0).await;
    let paid = order["orderNo"].as_str().expect("a number").to_owned();
    let callback = system.pay_silently(&paid).await;
    assert_eq!(system.send(&callback).await.0, StatusCode::OK);
    system.wait_for_log(&[("processed", 1)]).await;
    assert_eq!(system.send(&callback).await.0, StatusCode::OK);
    assert_eq!(system.send(&callback.with_body("{\"forged\":1}")).await.0, StatusCode::UNAUTHORIZED);
    let mut misfits = Vec::new();
    for _ in 0..3 {
        let (order_no, callback) = misfit(system).await;
        assert_eq!(system.send(&callback).await.0, StatusCode::OK);
        misfits.push(order_no);
    }
    let log = [("processed", 1), ("duplicate", 1), ("dead amount_mismatch", 3), ("rejected signature_invalid", 1)];
    system.wait_for_log(&log).await;
    (paid, misfits)
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_find_what_they_look_for() {
    let system = Builder::default().start().await;
    let (paid, misfits) = world(&system).await;
    let admin = system.admin("root");

    let all = admin.walk(LOGS, 100).await;
    assert!(ids(&all).is_sorted_by(|a, b| a > b), "newest first");
    assert_eq!(all.len(), 6);
    for limit in [1, 2, 5] {
        assert_eq!(admin.walk(LOGS, limit).await, all, "{limit} at a time");
    }
    let now = "2100-01-01T00:00:00Z";
    for (query, found) in [
        ("status=processed".to_owned(), 1),
        ("status=duplicate".to_owned(), 1),
        ("status=dead".to_owned(), 3),
        ("status=rejected".to_owned(), 1),
        ("status=received".to_owned(), 0),
        ("status=retrying".to_owned(), 0),
        ("type=payment".to_owned(), 6),
        ("type=refund".to_owned(), 0),
        ("status=dead&type=refund".to_owned(), 0),
        (format!("orderNo={paid}"), 2),
        (format!("orderNo={paid}&status=duplicate&type=payment"), 1),
        (format!("orderNo={}", misfits[0]), 1),
        ("orderNo=NOWHERE".to_owned(), 0),
        (format!("to={now}&from=2020-01-01T00:00:00Z"), 6),
        (format!("from={now}"), 0),
        ("to=2020-01-01T00:00:00Z".to_owned(), 0),
    ] {
        assert_eq!(admin.walk(&format!("{LOGS}?{query}"), 2).await.len(), found, "{query}");
    }
    for (query, fields) in [
        ("status=Dead", vec!["status"]),
        ("type=coupon&orderNo=x", vec!["type", "orderNo"]),
        ("from=today&limit=0", vec!["from", "limit"]),
        ("from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", vec!["to"]),
        ("errorCode=x", vec!["errorCode"]),
    ] {
        assert_eq!(admin.faults(Method::GET, &format!("{LOGS}?{query}"), None).await, fields, "{query}");
    }
    let cursor = admin.get(&format!("{LOGS}?limit=1")).await["nextCursor"].as_str().expect("a cursor").to_owned();
    let elsewhere = format!("{LOGS}?status=dead&cursor={cursor}");
    assert_eq!(admin.faults(Method::GET, &elsewhere, None).await, ["cursor"]);
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_shows_what_came_what_failed_and_what_to_do() {
    let system = Builder::default().start().await;
    let (order_no, callback) = misfit(&system).await;
    assert_eq!(system.send(&callback).await.0, StatusCode::OK);
    system.wait_for_log(&[("dead amount_mismatch", 1)]).await;
    let admin = system.admin("root");
    let listed = admin.get(LOGS).await["items"][0].clone();
    let path = format!("{LOGS}/{}", listed["id"].as_str().expect("an id"));
    let detail = admin.get(&path).await;
    for (member, value) in listed.as_object().expect("an object") {
        assert_eq!(&detail[member], value, "{member}");
    }
    assert_eq!(detail["body"].as_str().map(str::as_bytes), Some(callback.body.as_slice()), "to the byte");
    let sent = callback.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("wechatpay-nonce")).expect("sent").1;
    assert_eq!(detail["headers"]["wechatpay-nonce"], **sent);
    assert_eq!((&detail["orderNo"], &detail["retryCount"]), (&json!(order_no), &json!(0)));
    assert!(detail["processTimeMs"].as_i64().is_some_and(|ms| (0..30_000).contains(&ms)), "{detail}");
    let attempts = detail["attempts"].as_array().expect("attempts");
    assert_eq!((attempts.len(), &attempts[0]["outcome"]), (1, &json!("dead")));
    assert_eq!(attempts[0]["errorCode"], "amount_mismatch");
    let letter = &detail["deadLetter"];
    assert_eq!((&letter["since"], &letter["alike"]), (&detail["processedAt"], &json!(1)));
    assert!(letter["remedy"].as_str().is_some_and(|text| text.contains("amount")), "{letter}");

    let unknown = format!("{LOGS}/{}", Uuid::now_v7());
    for (method, path) in [
        (Method::GET, unknown.clone()),
        (Method::POST, format!("{unknown}/retry")),
        (Method::GET, format!("{LOGS}/1")),
        (Method::POST, format!("{LOGS}/x/retry")),
        (Method::GET, format!("{LOGS}/{}", listed["id"].as_str().expect("an id").replace('-', ""))),
    ] {
        let (status, json) = admin.ask(method, &path, None).await;
        assert_eq!((status, &json["code"]), (404, &json!("not_found")), "{path}");
    }
    correct(&system).await;
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_failed_is_tried_again_and_credited() {
    let system = Builder::default().start().await;
    let (_, misfits) = world(&system).await;
    let admin = system.admin("root");
    let find = async |query: &str| admin.get(&format!("{LOGS}?{query}")).await["items"][0]["id"].clone();
    let retry = |id: &Value| format!("{LOGS}/{}/retry", id.as_str().expect("an id"));

    let wish = format!("orderNo={}", misfits[0]);
    let dead = find(&wish).await;
    let why = json!({"reason": "the price was mistyped"});
    assert_eq!(admin.ask(Method::POST, &retry(&dead), Some(&why)).await, (202, json!({"accepted": 1})));
    // The cause is still there.
    let log = [("processed", 1), ("duplicate", 1), ("dead amount_mismatch", 3), ("rejected signature_invalid", 1)];
    system.wait_for_log(&log).await;
    let detail = admin.get(&format!("{LOGS}/{}", dead.as_str().expect("an id"))).await;
    let steps: Vec<_> = detail["attempts"].as_array().expect("attempts").iter().map(|one| &one["outcome"]).collect();
    assert_eq!(steps, ["dead", "received", "dead"], "{detail}");
    assert_eq!((&detail["retryCount"], &detail["attempts"][1]["worker"]), (&json!(1), &json!("root")));

    correct(&system).await;
    assert_eq!(admin.ask(Method::POST, &retry(&dead), None).await, (202, json!({"accepted": 1})), "without a body");
    let log = [("processed", 2), ("duplicate", 1), ("dead amount_mismatch", 2), ("rejected signature_invalid", 1)];
    system.wait_for_log(&log).await;
    for query in [wish.as_str(), "status=processed", "status=duplicate"] {
        let done = find(query).await;
        assert_eq!(admin.ask(Method::POST, &retry(&done), Some(&json!({}))).await, (202, json!({"accepted": 0})));
    }
    assert_eq!(system.get("/api/points/balance", "alice").await["balance"], 200);
    // What was refused at the door is judged again, and stays refused.
    let refused = find("status=rejected").await;
    assert_eq!(admin.ask(Method::POST, &retry(&refused), None).await, (202, json!({"accepted": 1})));
    system.wait_for_log(&log).await;

    for (body, fields) in [(json!({"reason": ""}), ["reason"]), (json!({"why": "x"}), ["why"])] {
        assert_eq!(admin.faults(Method::POST, &retry(&dead), Some(&body)).await, fields);
    }
    let audit: Vec<(String, String, Option<String>)> =
        sqlx::query_as("select actor, subject, reason from audit_log where action = 'notify_log.retry' order by id")
            .fetch_all(&system.db)
            .await
            .expect("the log");
    let record = |id: &Value, reason: Option<&str>| {
        ("root".to_owned(), id.as_str().expect("an id").to_owned(), reason.map(str::to_owned))
    };
    assert_eq!(audit, [record(&dead, why["reason"].as_str()), record(&dead, None), record(&refused, None)]);
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_that_failed_are_tried_again_once() {
    let system = Builder::default().start().await;
    world(&system).await;
    correct(&system).await;
    let admin = system.admin("root");
    let path = format!("{LOGS}/retry");
    let ask = async |body: Value| admin.ask(Method::POST, &path, Some(&body)).await;
    for (filter, matched) in [
        (json!({"status": "dead"}), 3),
        (json!({"status": "dead", "type": "payment", "errorCode": "amount_mismatch"}), 3),
        (json!({"status": "dead", "type": "refund"}), 0),
        (json!({"status": "dead", "errorCode": "order_not_found"}), 0),
        (json!({"status": "dead", "limit": 2}), 2),
        (json!({"status": "dead", "from": "2020-01-01T00:00:00+08:00", "to": "2021-01-01T00:00:00Z"}), 0),
        (json!({"status": "received"}), 0),
        (json!({"status": "processed"}), 0),
        (json!({"status": "duplicate"}), 0),
    ] {
        let mut dry = filter.clone();
        dry["dryRun"] = true.into();
        assert_eq!(ask(dry).await, (200, json!({"matched": matched})), "{filter}");
    }
    assert_eq!(system.count("select count(*) from audit_log").await, 0, "nothing was changed");

    let wish = json!({"status": "dead", "errorCode": "amount_mismatch", "reason": "prices corrected"});
    let mut first = wish.clone();
    first["limit"] = 1.into();
    assert_eq!(ask(first).await, (202, json!({"accepted": 1})));
    assert_eq!(ask(wish.clone()).await, (202, json!({"accepted": 2})));
    assert_eq!(ask(wish).await.0, 202, "pressed twice");
    system.wait_for_log(&[("processed", 4), ("duplicate", 1), ("rejected signature_invalid", 1)]).await;
    assert_eq!(system.get("/api/points/balance", "alice").await["balance"], 400, "each credited once");
    let audit: Vec<(String, Value, String)> = sqlx::query_as(
        "select actor, detail->'count', reason from audit_log where action = 'notify_logs.retry' order by id",
    )
    .fetch_all(&system.db)
    .await
    .expect("the log");
    let deed = |count: i64| ("root".to_owned(), json!(count), "prices corrected".to_owned());
    assert_eq!(audit, [deed(1), deed(2)]);

    for (body, fields) in [
        (json!({}), vec!["status"]),
        (json!({"status": "lost", "limit": 0, "dryRun": "yes"}), vec!["status", "limit", "dryRun"]),
        (json!({"status": "dead", "orderNo": "ORDER1"}), vec!["orderNo"]),
    ] {
        assert_eq!(admin.faults(Method::POST, &path, Some(&body)).await, fields);
    }
    let (status, json) = admin.ask(Method::POST, &path, None).await;
    assert_eq!((status, &json["code"]), (400, &json!("malformed_request")), "what to retry must be said");
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_tell_what_became_of_all() {
    let system = Builder::default().start().await;
    let admin = system.admin("root");
    let path = format!("{LOGS}/statistics");
    let nothing = admin.get(&path).await;
    assert_eq!((&nothing["successRate"], &nothing["processTimeMs"]["p50"]), (&Value::Null, &Value::Null));
    assert_eq!(nothing["series"].as_array().map(Vec::len), Some(7));

    let (_, misfits) = world(&system).await;
    let figures = admin.get(&format!("{path}?bucket=hour")).await;
    let totals = json!({"received": 0, "processed": 1, "duplicate": 1, "retrying": 0, "dead": 3, "rejected": 1});
    assert_eq!((&figures["totals"], &figures["byType"]["payment"]), (&totals, &totals));
    assert_eq!(figures["byType"]["refund"]["dead"], 0);
    assert_eq!((&figures["successRate"], &figures["retries"]), (&json!(0.4), &json!(0)));
    assert!(figures["processTimeMs"]["p99"].as_i64().is_some_and(|ms| ms >= 0), "{figures}");
    let series = figures["series"].as_array().expect("a series");
    let sum = |member: &str| series.iter().map(|bucket| bucket[member].as_i64().expect("a count")).sum::<i64>();
    assert_eq!((series.len(), sum("payment"), sum("refund"), sum("dead")), (168, 6, 0, 3));

    correct(&system).await;
    let wish = json!({"status": "dead"});
    let (status, _) = admin.ask(Method::POST, &format!("{LOGS}/retry"), Some(&wish)).await;
    assert_eq!(status, 202);
    system.wait_for_log(&[("processed", 4), ("duplicate", 1), ("rejected signature_invalid", 1)]).await;
    let figures = admin.get(&path).await;
    assert_eq!((&figures["totals"]["dead"], &figures["totals"]["processed"]), (&json!(0), &json!(4)));
    assert_eq!((&figures["successRate"], &figures["retries"]), (&json!(1.0), &json!(misfits.len())));
    assert_eq!(figures["oldestUnfinishedAt"], Value::Null);
    assert_eq!(admin.faults(Method::GET, &format!("{path}?bucket=week"), None).await, ["bucket"]);
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_admins_come_in() {
    let system = Builder::default().workers(0).start().await;
    let (nobody, user, admin) = (system.nobody(), system.user("alice"), system.admin("root"));
    let id = Uuid::now_v7();
    let dead = json!({"status": "dead"});
    for (method, path, body, status) in [
        (Method::GET, LOGS.to_owned(), None, 200),
        (Method::GET, format!("{LOGS}?x=y"), None, 422),
        (Method::GET, format!("{LOGS}/{id}"), None, 404),
        (Method::GET, format!("{LOGS}/statistics"), None, 200),
        (Method::POST, format!("{LOGS}/{id}/retry"), None, 404),
        (Method::POST, format!("{LOGS}/retry"), Some(&dead), 202),
    ] {
        assert_eq!(nobody.ask(method.clone(), &path, body).await.0, 401, "{method} {path}");
        assert_eq!(user.ask(method.clone(), &path, body).await.0, 403, "{method} {path}");
        assert_eq!(admin.ask(method.clone(), &path, body).await.0, status, "{method} {path}");
    }
    system.finish().await;
}
