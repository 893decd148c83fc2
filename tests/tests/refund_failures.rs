//! Refunds that do not go well: every answer of WeChat Pay's has its reaction, nothing is refunded twice, and no points are
//! lost or kept.

use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use system_tests::{Builder, SOON, System, eventually};

/// What an answer must lead to.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// It is pending still, says this code, and the same call again goes through.
    Waits(&'static str),
    /// It has failed for this reason, and the points are back.
    Fails(&'static str),
    /// WeChat Pay has taken it although it did not say so.
    GoesOn,
}

fn error(status: u16, code: &str) -> Value {
    json!({"endpoint": "refund", "fault": "error", "status": status, "code": code})
}

fn unsigned(status: u16, code: &str) -> Value {
    json!({"endpoint": "refund", "fault": "error", "status": status, "code": code, "signed": false})
}

/// The first call, and its two quick repeats.
fn all_tries(fault: &str) -> Value {
    json!({"endpoint": "refund", "fault": fault, "count": 3})
}

fn ops_refund_retry(system: &System, refund_no: &str) {
    let ran = system.ops(&["refund", "retry", refund_no, "--reason", "put right", "--by", "ruth"]);
    assert_eq!((ran.code, ran.out), (Some(0), format!("{refund_no} is looked at now")), "{}", ran.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_its_reaction() {
    let cases = [
        // Only money can help.
        (vec![error(403, "NOT_ENOUGH")], Then::Waits("not_enough")),
        (vec![json!({"endpoint": "refund", "fault": "apiNotEnough"})], Then::Waits("not_enough")),
        // Somebody must put something right.
        (vec![error(403, "NO_AUTH")], Then::Waits("no_auth")),
        (vec![error(404, "MCH_NOT_EXISTS")], Then::Waits("mch_not_exists")),
        (vec![error(404, "RESOURCE_NOT_EXISTS")], Then::Waits("resource_not_exists")),
        (vec![unsigned(400, "PARAM_ERROR")], Then::Waits("param_error")),
        (vec![unsigned(401, "SIGN_ERROR")], Then::Waits("sign_error")),
        // Not known: not signed, or busy, or no answer at all.
        (vec![unsigned(403, "USER_ACCOUNT_ABNORMAL")], Then::Waits("user_account_abnormal")),
        (vec![unsigned(400, "INVALID_REQUEST")], Then::Waits("invalid_request")),
        (vec![json!({"endpoint": "refund", "fault": "api429"})], Then::Waits("outcome_unknown")),
        (vec![error(429, "FREQUENCY_LIMITED")], Then::Waits("outcome_unknown")),
        (vec![all_tries("apiError")], Then::Waits("outcome_unknown")),
        (
            vec![error(503, "SERVICE_UNAVAILABLE"), error(502, ""), error(500, "SYSTEM_ERROR")],
            Then::Waits("outcome_unknown"),
        ),
        // Refused for good.
        (vec![error(403, "USER_ACCOUNT_ABNORMAL")], Then::Fails("user_account_abnormal: ")),
        (vec![error(400, "TRADE_OVERDUE")], Then::Fails("trade_overdue: ")),
        (vec![error(400, "REFUND_FEE_MISMATCH")], Then::Fails("refund_fee_mismatch: ")),
        (vec![error(400, "INVALID_REQUEST")], Then::Fails("invalid_request: ")),
        // Executed, whatever the answer.
        (vec![all_tries("apiErrorAfter")], Then::GoesOn),
        (vec![all_tries("apiReset")], Then::GoesOn),
        (vec![all_tries("apiTruncated")], Then::GoesOn),
        (vec![all_tries("apiUnsigned")], Then::GoesOn),
        (vec![all_tries("apiBadSignature")], Then::GoesOn),
        (vec![all_tries("apiProbe")], Then::GoesOn),
        (vec![all_tries("apiStale")], Then::GoesOn),
        // Executed first, and then refused: what is there counts.
        (vec![json!({"endpoint": "refund", "fault": "apiReset"}), error(400, "INVALID_REQUEST")], Then::GoesOn),
        (vec![json!({"endpoint": "refund", "fault": "apiReset"}), error(403, "USER_ACCOUNT_ABNORMAL")], Then::GoesOn),
    ];
    let system = Builder::default().start().await;
    system.settle_refunds_after(None).await;
    let admin = system.admin("root");
    let numbers = system.paid_orders("alice", cases.len()).await;
    let mut balance = system.balance("alice").await;
    for (order_no, (faults, then)) in numbers.iter().zip(cases) {
        println!("{faults:?} {then:?}");
        for fault in faults {
            system.fail_next(fault).await;
        }
        let refund_no = admin.refund(order_no, &json!({})).await;
        match then {
            Then::Fails(why) => {
                let reason = system.wait_for_refund(&refund_no, "failed").await.expect("a reason");
                assert!(reason.starts_with(why), "{reason}");
                assert_eq!(
                    (system.balance("alice").await, system.refunds_at_wechat(order_no).await.len()),
                    (balance, 0)
                );
                assert_eq!(system.order_state(order_no).await, ("paid".into(), 0));
                continue;
            }
            Then::Waits(code) => {
                system.wait_for_trouble(&refund_no, code).await;
                assert_eq!(system.refunds_at_wechat(order_no).await.len(), 0);
                // The ladder's first step is 5 s; an operator is faster.
                ops_refund_retry(&system, &refund_no);
            }
            Then::GoesOn => {}
        }
        balance -= 105;
        let reason = system.wait_for_refund(&refund_no, "processing").await;
        assert_eq!(reason, None, "nothing is wrong any more");
        assert_eq!(system.balance("alice").await, balance);
        let at_wechat = system.refunds_at_wechat(order_no).await;
        assert_eq!((at_wechat.len(), &at_wechat[0]["outRefundNo"]), (1, &json!(refund_no)), "the same number for ever");
        system.settle_refund(&refund_no, "SUCCESS").await;
        system.wait_for_refund(&refund_no, "success").await;
    }
    let log = system.workers[0].log();
    assert_eq!(log.matches("waits for money on the merchant's account").count(), 2, "it alarms");
    system.finish().await;
}

/// What the ladder does by itself, without an operator: the same call again.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_outcome_is_asked_about_and_then_the_same_call_is_made_again() {
    for builder in [Builder::default(), Builder::default().embedded()] {
        let system = builder.env("RETRY_DELAY_SCALE", "0.02").start().await;
        system.settle_refunds_after(Some(0)).await;
        let admin = system.admin("root");
        let numbers = system.paid_orders("alice", 3).await;
        for (order_no, faults) in numbers.iter().zip([
            vec![all_tries("apiError"), all_tries("apiError")],
            vec![error(403, "NOT_ENOUGH"), error(403, "NOT_ENOUGH"), error(403, "NOT_ENOUGH")],
            vec![unsigned(401, "SIGN_ERROR"), json!({"endpoint": "refundQuery", "fault": "apiError", "count": 3})],
        ]) {
            for fault in faults {
                system.fail_next(fault).await;
            }
            let refund_no = admin.refund(order_no, &json!({})).await;
            system.wait_for_refund(&refund_no, "success").await;
            assert_eq!(system.refunds_at_wechat(order_no).await.len(), 1);
        }
        assert_eq!(system.balance("alice").await, 0);
        system.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_cannot_be_asked_for_is_a_dead_letter_until_an_operator_retries_it() {
    let system = Builder::default().env("RETRY_DELAY_SCALE", "0.01").start().await;
    system.settle_refunds_after(Some(0)).await;
    let admin = system.admin("root");
    let numbers = system.paid_orders("alice", 2).await;
    let mut refund_nos = Vec::new();
    for order_no in &numbers {
        system
            .fail_next(json!({"endpoint": "refund", "fault": "error", "status": 403, "code": "NO_AUTH", "count": 2}))
            .await;
        let refund_no = admin.refund(order_no, &json!({})).await;
        // As if the whole ladder had passed.
        let sql = "update payment_refunds set attempts = 7, next_attempt_at = now()
                   where refund_no = $1 and error_code = 'no_auth' and attempts between 1 and 3";
        let worn = async || sqlx::query(sql).bind(&refund_no).execute(&system.db).await.expect("the database");
        eventually("the first failure", SOON, worn, |done| done.rows_affected() == 1).await;
        refund_nos.push(refund_no);
        let dead = "select count(*) from payment_refunds where status = 'pending' and next_attempt_at is null";
        system.wait_for_count("it is given up", dead, i64::try_from(refund_nos.len()).expect("few")).await;
    }
    system.workers[0].tells("dead letter: refund ", 2).await;
    let list = system.ops(&["refund", "list"]);
    assert_eq!(list.out.matches("dead letter").count(), 2, "{}", list.out);
    assert!(list.out.contains("no_auth: "), "{}", list.out);
    let told = admin.get(&format!("/api/payment/admin/refunds/{}", refund_nos[0])).await;
    assert_eq!(told["status"], "pending");
    assert!(told["failureReason"].as_str().is_some_and(|why| why.starts_with("no_auth: ")), "{told}");

    ops_refund_retry(&system, &refund_nos[0]);
    system.wait_for_refund(&refund_nos[0], "success").await;
    let all = system.ops(&["refund", "retry", "--all-dead"]);
    assert_eq!((all.code, all.out), (Some(0), format!("{} is looked at now", refund_nos[1])), "{}", all.err);
    system.wait_for_refund(&refund_nos[1], "success").await;
    let none = system.ops(&["refund", "retry", "--all-dead"]);
    assert_eq!((none.code, none.out.as_str()), (Some(0), "no refund is dead"), "{}", none.err);
    let ended = system.ops(&["refund", "retry", &refund_nos[0], "nosuchrefund"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.out.contains("is success: nothing is left to try"), "{}", ended.out);
    assert!(ended.err.contains("there is no refund nosuchrefund"), "{}", ended.err);
    let sql = "select count(*) from audit_log where action = 'refund.retry' and actor in ('ruth', 'ops')";
    assert_eq!(system.count(sql).await, 2);
    system.finish().await;
}

/// One whose clock is off by minutes, perhaps: another worker's is right.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_not_believed_spends_no_attempt() {
    let mut system = Builder::default().env("RETRY_DELAY_SCALE", "0.02").start().await;
    system.settle_refunds_after(Some(0)).await;
    let numbers = system.paid_orders("alice", 1).await;
    system.workers[0].kill();
    let refund_no = system.admin("root").refund(&numbers[0], &json!({})).await;
    let worn = sqlx::query("update payment_refunds set attempts = 7 where refund_no = $1").bind(&refund_no);
    worn.execute(&system.db).await.expect("the database");
    system.fail_next(unsigned(401, "SIGN_ERROR")).await;
    system.start_worker().await;
    system.wait_for_refund(&refund_no, "success").await;
    system.workers[1].tells("waits for a request that is signed and timed right", 1).await;
    system.finish().await;
}

/// WeChat Pay does not believe a worker whose clock is minutes ahead, and that clock must not say how long the refund has
/// waited either: it would keep others from it for as long.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_clock_is_ahead_keeps_no_other_from_a_refund() {
    let mut system = Builder::default().env("RETRY_DELAY_SCALE", "0.02").start().await;
    system.settle_refunds_after(Some(0)).await;
    let numbers = system.paid_orders("alice", 1).await;
    system.workers[0].kill();
    let refund_no = system.admin("root").refund(&numbers[0], &json!({})).await;
    let worn = sqlx::query("update payment_refunds set attempts = 3 where refund_no = $1").bind(&refund_no);
    worn.execute(&system.db).await.expect("the database");
    system.env.insert("RECHARGE_CLOCK_SKEW_SECONDS".into(), "540".into());
    system.start_worker().await;
    system.wait_for_trouble(&refund_no, "sign_error").await;
    assert_eq!(
        system.count("select attempts::bigint from payment_refunds").await,
        3,
        "it spends none, and gives none back"
    );
    system.workers[1].kill();
    system.env.remove("RECHARGE_CLOCK_SKEW_SECONDS");
    system.start_worker().await;
    system.wait_for_refund(&refund_no, "success").await;
    system.finish().await;
}

/// Killed between the call and its record: another worker finds out, at once where RabbitMQ delivers it again, and when the
/// claim has ended where nobody does.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_after_the_call_has_refunded_once() {
    for (builder, seconds) in [(Builder::default(), 5), (Builder::default().embedded(), 40)] {
        let mut system = builder.workers(0).start().await;
        system.settle_refunds_after(Some(0)).await;
        system.start_worker().await;
        let numbers = system.paid_orders("alice", 1).await;
        system.workers[0].kill();
        system.env.insert("RECHARGE_CRASH_AT".into(), "refund called".into());
        system.start_worker().await;
        let refund_no = system.admin("root").refund(&numbers[0], &json!({})).await;
        system.workers[1].ended(SOON).await;
        let at_wechat = system.refunds_at_wechat(&numbers[0]).await;
        assert_eq!((at_wechat.len(), &at_wechat[0]["outRefundNo"]), (1, &json!(refund_no)));
        let here = system.admin("root").get(&format!("/api/payment/admin/refunds/{refund_no}")).await;
        assert_eq!(here["wechatRefundId"], Value::Null, "the record was lost");

        system.env.remove("RECHARGE_CRASH_AT");
        system.start_worker().await;
        let since = std::time::Instant::now();
        system.wait_for_refund_within(&refund_no, "success", Duration::from_secs(seconds)).await;
        println!("ended {:?} after another worker was there", since.elapsed());
        assert_eq!(system.refunds_at_wechat(&numbers[0]).await.len(), 1);
        assert_eq!(system.balance("alice").await, 0);
        system.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn news_that_is_doubled_late_or_wrong_changes_nothing_more() {
    let system = Builder::default().start().await;
    system.settle_refunds_after(None).await;
    let admin = system.admin("root");
    let numbers = system.paid_orders("alice", 2).await;
    system.wait_for_log(&[("processed", 2)]).await;
    let done = admin.refund(&numbers[0], &json!({})).await;
    let closed = admin.refund(&numbers[1], &json!({})).await;
    for (refund_no, status) in [(&done, "SUCCESS"), (&closed, "CLOSED")] {
        system.wait_for_refund(refund_no, "processing").await;
        let body = json!({"status": status, "notify": false});
        system.control(Method::POST, &format!("/control/refunds/{refund_no}/outcome"), Some(&body)).await;
    }
    let news = async |refund_no: &str, overrides: Value| {
        let callback = system.sign(&json!({"outRefundNo": refund_no, "overrides": overrides})).await;
        assert_eq!(system.send(&callback).await.0, 200);
    };
    // Wrong ones first: none of them is believed.
    for wrong in [
        json!({"amount": {"refund": 99}}),
        json!({"transaction_id": "4200000000202601010000000099"}),
        json!({"out_trade_no": numbers[1]}),
        json!({"refund_id": "50300000000000000000000000099"}),
    ] {
        news(&done, wrong).await;
    }
    system.wait_for_log(&[("processed", 2), ("dead refund_mismatch", 4)]).await;
    news(&done, json!({"refund_status": "PROCESSING"})).await;
    news(&done, json!({"mchid": "1900000000"})).await;
    let told =
        [("processed", 2), ("dead refund_mismatch", 4), ("dead malformed_notification", 1), ("dead mchid_mismatch", 1)];
    system.wait_for_log(&told).await;
    assert_eq!(system.order_state(&numbers[0]).await, ("paid".into(), 0));

    for _ in 0..3 {
        news(&done, json!({})).await;
        news(&closed, json!({})).await;
    }
    let ended = "select count(*) from payment_notify_logs where process_status in ('processed', 'duplicate')";
    system.wait_for_count("all are handled", ended, 8).await;
    assert_eq!(system.log().await["processed"], 4);
    // Late and contrary: it ended otherwise.
    news(&done, json!({"refund_status": "CLOSED"})).await;
    news(&closed, json!({"refund_status": "SUCCESS", "success_time": "2026-01-02T15:31:43+08:00"})).await;
    news(&done, json!({"refund_status": "ABNORMAL"})).await;
    let contradicted = "select count(*) from payment_notify_logs where error_code = 'refund_contradicted'";
    system.wait_for_count("contradictions wait for a person", contradicted, 2).await;
    assert_eq!(system.order_state(&numbers[0]).await, ("refunded".into(), 100));
    assert_eq!(system.order_state(&numbers[1]).await, ("paid".into(), 0));
    assert_eq!(system.balance("alice").await, 105);
    system.finish().await;
}
