//! The operator's shell: what its commands say, and how they exit.

use reqwest::StatusCode;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use system_tests::{Builder, Process, System, eventually, run_ops};
use tokio::task::JoinSet;

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

/// Makes all orders cost another amount than was paid, so that their callbacks go dead, or what was paid again.
async fn change_amounts(system: &System, by: i64) {
    let sql = "update payment_orders set amount = amount + $1 where payment_status = 'pending'";
    sqlx::query(sql).bind(by).execute(&system.db).await.expect("the database");
}

/// Orders that were paid, and whose callbacks are dead.
async fn dead(system: &System, count: usize) -> Vec<String> {
    let numbers = system.bulk_orders(count, 100).await;
    change_amounts(system, 1).await;
    let (http, mut paying) = (Arc::new(system.http.clone()), JoinSet::new());
    for number in &numbers {
        let (http, url) = (Arc::clone(&http), system.control_url(&format!("/control/orders/{number}/pay")));
        paying.spawn(async move { http.post(url).json(&json!({})).send().await.expect("an answer").status() });
        if paying.len() >= 16 {
            assert!(paying.join_next().await.expect("one is under way").expect("no panic").is_success());
        }
    }
    while let Some(status) = paying.join_next().await {
        assert!(status.expect("no panic").is_success());
    }
    let expected = i64::try_from(count).expect("not that many");
    let dead = async || system.log().await.get("dead amount_mismatch").copied().unwrap_or(0);
    eventually("all are dead", Duration::from_mins(2), dead, |dead| *dead == expected).await;
    numbers
}

const CREDITED: &str = "select coalesce(sum(balance), 0)::bigint from point_accounts";

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_says_what_it_would_do_and_asks_before_it_does_it() {
    let system = Builder::default().start().await;
    let none = system.ops(&["retry-notify"]);
    assert_eq!((none.code, none.out.as_str()), (Some(0), "0 notifications match that are dead"), "{}", none.err);
    let numbers = dead(&system, 3).await;
    send_changed(&system, "carol", &json!({"mchid": "1900000000"})).await;
    system.wait_for_log(&[("dead amount_mismatch", 3), ("dead mchid_mismatch", 1)]).await;
    change_amounts(&system, -1).await;

    let dry = system.ops(&["retry-notify", "--status", "dead", "--since", "1h", "--dry-run"]);
    assert_eq!(dry.code, Some(0), "{}", dry.err);
    let lines: Vec<_> = dry.out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    assert_eq!(dry.out.lines().next(), Some("4 notifications match that are dead"));
    assert_eq!((&lines[2][..2], &lines[3][..2]), (&["amount_mismatch", "3"][..], &["mchid_mismatch", "1"][..]));
    let unasked = system.ops(&["retry-notify"]);
    assert_eq!(unasked.code, Some(2), "{}", unasked.out);
    assert!(unasked.err.contains("--yes"), "{}", unasked.err);
    for nothing in [
        &["--type", "refund"][..],
        &["--status", "retrying"],
        &["--error-code", "decrypt_failed"],
        &["--until", "1h"],
        &["--order", "ANOTHER1"],
    ] {
        let ran = system.ops(&[&["retry-notify", "--yes"], nothing].concat());
        assert!(ran.code == Some(0) && ran.out.starts_with("0 notifications match"), "{nothing:?}: {}", ran.out);
    }
    for wrong in [&["--status", "processed"][..], &["--id", "x"], &["--limit", "0"], &["--rate", "0"], &["--by", "a b"]]
    {
        assert_eq!(system.ops(&[&["retry-notify", "--yes"], wrong].concat()).code, Some(2), "{wrong:?}");
    }
    system.wait_for_log(&[("dead amount_mismatch", 3), ("dead mchid_mismatch", 1)]).await;
    assert_eq!(system.count("select count(*) from audit_log").await, 0);

    // One, by its order; one by its id; the rest.
    let one =
        system.ops(&["retry-notify", "--order", &numbers[0], "--reason", "prices put right", "--by", "olga", "--yes"]);
    assert_eq!(one.code, Some(0), "{}{}", one.out, one.err);
    assert!(one.out.ends_with("processed  -           1"), "{}", one.out);
    let deed = "select count(*) from audit_log where actor = 'olga' and reason = 'prices put right'";
    assert_eq!(system.count(deed).await, 1);
    let id: String = sqlx::query_scalar("select id::text from payment_notify_logs where order_no = $1")
        .bind(&numbers[1])
        .fetch_one(&system.db)
        .await
        .expect("a row");
    let one = system.ops(&["retry-notify", "--id", &id, "--yes"]);
    assert_eq!(one.code, Some(0), "{}{}", one.out, one.err);
    assert!(one.out.starts_with(&format!("{id} is dead (amount_mismatch)")), "{}", one.out);
    let again = system.ops(&["retry-notify", "--id", &id, "--yes"]);
    assert_eq!((again.code, again.out), (Some(0), format!("{id} is processed")));
    let unknown = system.ops(&["retry-notify", "--id", "019aab38-f6f0-7b1c-9d1d-2f3a4b5c6d7e", "--yes"]);
    assert_eq!(unknown.code, Some(2), "{}", unknown.out);

    let rest = system.ops(&["retry-notify", "--yes"]);
    assert_eq!(rest.code, Some(1), "one stays wrong: {}{}", rest.out, rest.err);
    assert!(rest.out.contains("1 failed again (mchid_mismatch: mchid is not WECHAT_PAY_MCH_ID)"), "{}", rest.out);
    system.wait_for_log(&[("processed", 3), ("dead mchid_mismatch", 1)]).await;
    assert_eq!(system.count(CREDITED).await, 3 * 105);
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_goes_first_and_the_others_follow_only_if_it_succeeds() {
    let system = Builder::default().start().await;
    dead(&system, 5).await;
    let touched = "select count(*) from payment_notify_logs where retry_count > 0";

    let failed = system.ops(&["retry-notify", "--canary", "--yes"]);
    assert_eq!(failed.code, Some(1), "{}{}", failed.out, failed.err);
    assert!(failed.out.contains("the canary did not succeed (amount_mismatch: "), "{}", failed.out);
    assert_eq!(system.count(touched).await, 1, "the others are left alone");

    change_amounts(&system, -1).await;
    let succeeded = system.ops(&["retry-notify", "--canary", "--yes"]);
    assert_eq!(succeeded.code, Some(0), "{}{}", succeeded.out, succeeded.err);
    assert!(succeeded.out.ends_with("processed  -           5"), "{}", succeeded.out);
    assert_eq!(system.count(CREDITED).await, 5 * 105);
    system.finish().await;
}

/// Ten thousand at a bounded rate; whoever started it is killed in the middle, a worker too, and it is started again.
#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_retry_survives_whoever_runs_it() {
    const ROWS: usize = 10_000;
    const RATE: usize = 500;
    let mut system = Builder::default().workers(2).start().await;
    dead(&system, ROWS).await;
    change_amounts(&system, -1).await;

    let rate = RATE.to_string();
    let retry = ["retry-notify", "--rate", &rate, "--yes"];
    let mut first = Process::start("ops", &retry, &system.env);
    let done = async || system.log().await.get("processed").copied().unwrap_or(0);
    let killed_at = eventually("a part is done", Duration::from_mins(1), done, |done| *done >= 1_500).await;
    first.kill();
    system.workers[0].kill();
    system.workers.remove(0);
    assert!(killed_at < 8_000, "{killed_at} were done before anything was killed");

    let mut second = Process::start("ops", &retry, &system.env);
    let waits = async || second.log().contains("given back earlier and wait for their turn");
    eventually("it finds what is under way", Duration::from_secs(30), waits, |waits| *waits).await;
    second.signal("INT");
    assert_eq!(second.ended(Duration::from_secs(10)).await.code(), Some(130), "{}", second.log());
    assert!(second.log().contains("go on by themselves"), "{}", second.log());

    system.start_worker().await;
    let third = system.ops(&retry);
    assert_eq!(third.code, Some(0), "{}{}", third.out, third.err);
    system.wait_for_log(&[("processed", i64::try_from(ROWS).expect("not that many"))]).await;
    assert_eq!(system.count(CREDITED).await, 10_000 * 105);
    let given_back_once = "select count(*) from payment_notify_logs where retry_count <> 1";
    assert_eq!(system.count(given_back_once).await, 0, "nothing was given back twice");
    // The database keeps the pace: nothing ends before its time, and the times are apart.
    let seconds = system
        .count("select extract(epoch from max(processed_at) - min(processed_at))::bigint from payment_notify_logs")
        .await;
    assert!(seconds >= 10_000 / 500 - 2, "{ROWS} at {RATE} a second took {seconds} s");
    system.finish().await;
}

/// Payments and refunds of all kinds, what WeChat Pay sent twice, and dead letters: today's code thinks of them what it did.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_a_healthy_system_finds_nothing() {
    let system = Builder::default().certificates().start().await;
    let order = system.order("alice", 1).await;
    let callback = system.pay_silently(order["orderNo"].as_str().expect("a number")).await;
    for _ in 0..3 {
        assert_eq!(system.send(&callback).await.0, StatusCode::OK);
    }
    send_changed(&system, "bob", &json!({"amount": {"total": 1}})).await;
    system.wait_for_log(&[("processed", 1), ("duplicate", 2), ("dead amount_mismatch", 1)]).await;
    let path = format!("/api/payment/admin/orders/{}/refunds", order["orderNo"].as_str().expect("a number"));
    let admin = system.ops(&["token", "--user", "root", "--admin"]).out;
    let part = system.http.post(system.url(&path)).bearer_auth(admin).json(&json!({"amount": 100})).send().await;
    assert_eq!(part.expect("an answer").status(), StatusCode::ACCEPTED);
    let told = "select count(*) from payment_notify_logs where notify_type = 'refund' and next_attempt_at is null";
    system.wait_for_count("the refund is told of", told, 1).await;
    let log = system.log().await;
    let entries = system.count("select count(*) from point_entries").await;

    for arguments in [&["--from", "1h", "--to", "1s"][..], &["--from", "1h", "--to", "1s", "--apply"]] {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let replay = system.ops(&[&["replay"], arguments].concat());
        assert_eq!((replay.code, replay.out.as_str(), replay.err.as_str()), (Some(0), "", ""));
    }
    assert_eq!((system.count("select count(*) from point_entries").await, system.log().await), (entries, log));
    assert_eq!(system.ops(&["replay", "--from", "1h", "--to", "2h"]).code, Some(2));
    assert_eq!(system.ops(&["replay", "--from", "1h"]).code, Some(2));
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_finds_and_applies_what_has_been_repaired() {
    let system = Builder::default().start().await;
    let numbers = dead(&system, 300).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let range = ["replay", "--from", "1h", "--to", "1s"];
    assert_eq!(system.ops(&range).code, Some(0), "nothing is repaired yet");

    change_amounts(&system, -1).await;
    let one = system.ops(&[&range[..], &["--order", &numbers[7]]].concat());
    assert_eq!(one.code, Some(1), "{}{}", one.out, one.err);
    let (id, told) = one.out.split_once("  ").expect("a line");
    assert_eq!(told, format!("{}  dead (amount_mismatch) → processed  +105 for u7", numbers[7]));
    assert_eq!(one.err, "1 of 1 would change");
    let all = system.ops(&range);
    assert_eq!((all.code, all.out.lines().count()), (Some(1), 300), "{}", all.err);
    system.wait_for_log(&[("dead amount_mismatch", 300)]).await;
    assert_eq!(system.count("select count(*) from point_entries").await, 0, "it was only looked at");

    let apply =
        [&range[..], &["--order", &numbers[7], "--apply", "--by", "olga", "--reason", "prices put right"]].concat();
    let applied = system.ops(&apply);
    assert_eq!(applied.code, Some(0), "{}{}", applied.out, applied.err);
    assert_eq!(applied.out, format!("{id}  {told}  applied"));
    system.wait_for_log(&[("dead amount_mismatch", 299), ("processed", 1)]).await;
    assert_eq!(system.get("/api/points/balance", "u7").await["balance"], 105);
    let deed = "select count(*) from audit_log where actor = 'olga' and reason = 'prices put right'
        and action = 'notify_log.replay' and (detail ->> 'points')::integer = 105";
    assert_eq!(system.count(deed).await, 1);

    let rest = system.ops(&[&range[..], &["--apply"]].concat());
    assert_eq!((rest.code, rest.out.lines().count()), (Some(0), 299), "{}", rest.err);
    system.wait_for_log(&[("processed", 300)]).await;
    assert_eq!(system.count(CREDITED).await, 300 * 105);
    let again = system.ops(&range);
    assert_eq!((again.code, again.out.as_str(), again.err.as_str()), (Some(0), "", ""));
    system.finish().await;
}

/// Without the right key nothing can be judged, and what was good is never undone.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_never_undoes_what_was_good() {
    let system = Builder::default().start().await;
    pay(&system, "alice").await;
    system.wait_for_log(&[("processed", 1)]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let replay = ["replay", "--from", "1h", "--to", "1s", "--apply"];

    let mut env = system.env.clone();
    env.insert("WECHAT_PAY_API_KEY".into(), "00000000000000000000000000000000".into());
    let blind = run_ops(&env, &replay);
    assert_eq!((blind.code, blind.out.as_str()), (Some(2), ""));
    assert!(blind.err.starts_with("1 cannot be judged"), "{}", blind.err);

    env = system.env.clone();
    env.insert("WECHAT_PAY_APP_ID".into(), "wx0000000000000000".into());
    let refused = run_ops(&env, &replay);
    assert_eq!(refused.code, Some(1), "{}", refused.err);
    assert!(refused.out.ends_with("  processed → dead (appid_mismatch)"), "{}", refused.out);
    system.wait_for_log(&[("processed", 1)]).await;
    system.finish().await;
}
