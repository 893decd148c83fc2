//! Random histories: payments, refunds of ours and of the console's, outcomes, failures, killed workers, and callbacks that
//! are lost, doubled, late and out of order. Whatever happened, in the end our books are WeChat Pay's.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::Row;
use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use system_tests::{Builder, Callback, Process, SOON, System, eventually};

/// Histories that are played every time; one more is new each time. A seed that has failed belongs here.
const SEEDS: [u64; 4] = [2, 3, 4, 913_462];
const ORDERS: usize = 4;
const STEPS: usize = 30;

/// `SplitMix64`: the same for the same seed, for ever.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.roll() % u64::try_from(bound).expect("small")).expect("small")
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    fn fen(&mut self) -> i64 {
        i64::try_from(self.below(70) + 1).expect("small")
    }
}

/// One history as it goes.
struct History<'a> {
    system: &'a mut System,
    dice: Dice,
    admin: String,
    order_nos: Vec<String>,
    /// Callbacks that are still on their way.
    held: Vec<Callback>,
    worker: usize,
}

impl History<'_> {
    /// Asks the simulator for what it may refuse.
    async fn try_control(&self, path: &str, body: &Value) -> Option<Value> {
        let answer = self.system.http.post(self.system.control_url(path)).json(body).send().await.expect("an answer");
        if answer.status().is_success() { Some(answer.json().await.expect("JSON")) } else { None }
    }

    async fn at_wechat(&self) -> Vec<Value> {
        let mut refunds = Vec::new();
        for order_no in &self.order_nos {
            refunds.extend(self.system.refunds_at_wechat(order_no).await);
        }
        refunds
    }

    async fn callback(&self, refund_no: &str) -> Callback {
        self.system.sign(&json!({"outRefundNo": refund_no})).await
    }

    async fn send(&self, callback: &Callback) {
        assert_eq!(self.system.send(callback).await.0, StatusCode::OK);
    }

    async fn step(&mut self) {
        let order_no = self.dice.pick(&self.order_nos).clone();
        match self.dice.below(100) {
            0..28 => {
                let url = self.system.url(&format!("/api/payment/admin/orders/{order_no}/refunds"));
                let body = json!({"amount": self.dice.fen(), "allowNegativeBalance": true});
                let request = self.system.http.post(url).bearer_auth(&self.admin).json(&body);
                let status = request.send().await.expect("an answer").status().as_u16();
                assert!(matches!(status, 202 | 409), "{status}");
                println!("  ask {body} of {order_no}: {status}");
            }
            28..36 => {
                let notify_url = format!("{}/refund", self.system.notify_url());
                let body = json!({"outTradeNo": order_no, "refund": self.dice.fen(), "notifyUrl": notify_url});
                let done = self.try_control("/control/refunds", &body).await;
                println!("  console {body}: {}", done.map_or(Value::Null, |refund| refund["outRefundNo"].clone()));
            }
            36..58 => self.end_one().await,
            58..72 => self.tell_again().await,
            72..80 => {
                if !self.held.is_empty() {
                    let at = self.dice.below(self.held.len());
                    let callback = self.held.swap_remove(at);
                    println!("  a callback that was late");
                    self.send(&callback).await;
                }
            }
            80..94 => self.fail_next().await,
            94..97 => self.kill().await,
            _ => self.crash().await,
        }
    }

    /// Something becomes of a refund; its callback comes, or is late, or lost.
    async fn end_one(&mut self) {
        let refunds = self.at_wechat().await;
        let open: Vec<_> =
            refunds.iter().filter(|one| one["status"] == "PROCESSING" || one["status"] == "ABNORMAL").collect();
        if open.is_empty() {
            return;
        }
        let refund_no = self.dice.pick(&open)["outRefundNo"].as_str().expect("a number").to_owned();
        let status = *self.dice.pick(&["SUCCESS", "SUCCESS", "SUCCESS", "CLOSED", "ABNORMAL"]);
        let notify = self.dice.below(3) == 0;
        let body = json!({"status": status, "notify": notify});
        let done = self.try_control(&format!("/control/refunds/{refund_no}/outcome"), &body).await.is_some();
        println!("  {refund_no} {body}: {done}");
        if done && !notify && self.dice.below(2) == 0 {
            self.held.push(self.callback(&refund_no).await);
        }
    }

    async fn tell_again(&mut self) {
        let refunds = self.at_wechat().await;
        let told: Vec<_> = refunds.iter().filter(|one| one["status"] != "PROCESSING").collect();
        if told.is_empty() {
            return;
        }
        let refund_no = self.dice.pick(&told)["outRefundNo"].as_str().expect("a number").to_owned();
        println!("  {refund_no} is told of once more");
        let callback = self.callback(&refund_no).await;
        self.send(&callback).await;
    }

    async fn fail_next(&mut self) {
        let error = |status: u16, code: &str| json!({"fault": "error", "status": status, "code": code});
        let faults = [
            json!({"fault": "apiError", "count": 3}),
            json!({"fault": "apiErrorAfter", "count": 3}),
            json!({"fault": "apiReset"}),
            json!({"fault": "apiTruncated"}),
            json!({"fault": "apiUnsigned", "count": 3}),
            json!({"fault": "apiBadSignature", "count": 3}),
            json!({"fault": "api429"}),
            error(403, "NOT_ENOUGH"),
            error(403, "NO_AUTH"),
            error(404, "RESOURCE_NOT_EXISTS"),
            error(403, "USER_ACCOUNT_ABNORMAL"),
        ];
        let mut fault = self.dice.pick(&faults).clone();
        // A query has its own ways to fail: none of them is a refusal, or a refund would seem not to be there.
        let of_query = fault["fault"] != "error" && self.dice.below(3) == 0;
        fault["endpoint"] = json!(if of_query { "refundQuery" } else { "refund" });
        println!("  next {fault}");
        self.system.fail_next(fault).await;
    }

    async fn kill(&mut self) {
        println!("  a worker is killed");
        self.system.workers[self.worker].kill();
        self.system.start_worker().await;
        self.worker += 1;
    }

    /// The worker is killed at a point of its own code, the next time that it comes there.
    async fn crash(&mut self) {
        let point = *self.dice.pick(&["refund called", "refund applied", "applied", "committed"]);
        println!("  a worker dies when: {point}");
        self.system.workers[self.worker].kill();
        let mut env = self.system.env.clone();
        env.insert("RECHARGE_CRASH_AT".into(), point.into());
        // It may be dead before it is ready.
        let mut doomed = Process::start("worker", &[], &env);
        let order_no = self.dice.pick(&self.order_nos).clone();
        let url = self.system.url(&format!("/api/payment/admin/orders/{order_no}/refunds"));
        let body = json!({"amount": self.dice.fen(), "allowNegativeBalance": true});
        let _ = self.system.http.post(url).bearer_auth(&self.admin).json(&body).send().await.expect("an answer");
        tokio::time::sleep(Duration::from_millis(600)).await;
        doomed.kill();
        self.system.start_worker().await;
        self.worker += 1;
    }

    /// Nothing goes wrong any more: all that is open comes to its end.
    async fn settle(&mut self) {
        // What was to fail still fails here, and is tried again.
        let pending = async || {
            let sql = "select refund_no from payment_refunds r join payment_orders using (order_no)
                       where status = 'pending' and order_no = any($1)";
            let open: Vec<String> =
                sqlx::query_scalar(sql).bind(&self.order_nos).fetch_all(&self.system.db).await.expect("the database");
            if !open.is_empty() {
                let mut arguments = vec!["refund", "retry"];
                arguments.extend(open.iter().map(String::as_str));
                assert_eq!(self.system.ops(&arguments).code, Some(0));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            open
        };
        eventually("all are accepted or refused", SOON, pending, Vec::is_empty).await;
        for callback in std::mem::take(&mut self.held) {
            self.send(&callback).await;
        }
        for refund in self.at_wechat().await {
            let refund_no = refund["outRefundNo"].as_str().expect("a number").to_owned();
            if matches!(refund["status"].as_str(), Some("PROCESSING" | "ABNORMAL")) {
                let status = *self.dice.pick(&["SUCCESS", "CLOSED"]);
                let path = format!("/control/refunds/{refund_no}/outcome");
                let done = self.try_control(&path, &json!({"status": status, "notify": false})).await;
                if done.is_none() {
                    self.try_control(&path, &json!({"status": "SUCCESS", "notify": false})).await.expect("it can");
                }
            }
            // Of those that began there nobody here could know to ask.
            let is_ours: bool = sqlx::query_scalar("select exists (select from payment_refunds where refund_no = $1)")
                .bind(&refund_no)
                .fetch_one(&self.system.db)
                .await
                .expect("the database");
            if !is_ours || self.dice.below(3) == 0 {
                let callback = self.callback(&refund_no).await;
                self.send(&callback).await;
            }
        }
    }

    /// Refunds of these orders here: number, amount, state, and what went back of each order.
    async fn here(&self) -> BTreeMap<String, (i64, String)> {
        let sql = "select refund_no, amount, status from payment_refunds where order_no = any($1)";
        let rows = sqlx::query(sql).bind(&self.order_nos).fetch_all(&self.system.db).await.expect("the database");
        rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect()
    }

    /// Every callback comes to its end. A history may have killed three workers in a row over the same one: it is taken for
    /// poison then, and an operator, who knows who did it, has it tried again.
    async fn handle_all(&self) {
        let unfinished = "select count(*) from payment_notify_logs where process_status in ('received', 'retrying')";
        self.system.wait_for_count("every callback is handled", unfinished, 0).await;
        let retried = self.system.ops(&["retry-notify", "--status", "dead", "--error-code", "poison", "--yes"]);
        assert_eq!(retried.code, Some(0), "{} {}", retried.out, retried.err);
        self.system.wait_for_count("what was taken for poison is handled", unfinished, 0).await;
    }

    /// The books are WeChat Pay's: the same refunds, but for those that failed here and are not there.
    async fn check(&self, seed: u64) {
        self.handle_all().await;
        let there: BTreeMap<String, (i64, String)> = self
            .at_wechat()
            .await
            .iter()
            .map(|refund| {
                let text = |member: &str| refund[member].as_str().expect("a text").to_owned();
                (text("outRefundNo"), (refund["refund"].as_i64().expect("fen"), text("status").to_lowercase()))
            })
            .collect();
        let stand = async || {
            let mut here = self.here().await;
            here.retain(|_, (_, status)| status != "failed");
            here
        };
        let what = format!("seed {seed}: the books are WeChat Pay's: {there:?}");
        // A refund that two workers had in hand is left alone for half a minute before a refusal counts.
        eventually(&what, SOON * 3, stand, |here| *here == there).await;
        let failed: Vec<_> = self.here().await.into_iter().filter(|(_, (_, status))| status == "failed").collect();
        assert!(failed.iter().all(|(refund_no, _)| !there.contains_key(refund_no)), "seed {seed}: {failed:?}");

        for order_no in &self.order_nos {
            let went: i64 = self
                .system
                .refunds_at_wechat(order_no)
                .await
                .iter()
                .filter(|refund| refund["status"] == "SUCCESS")
                .map(|refund| refund["refund"].as_i64().expect("fen"))
                .sum();
            let status = match went {
                0 => "paid",
                100 => "refunded",
                _ => "partially_refunded",
            };
            assert!(went <= 100, "seed {seed}: {went} of 100 fen went back");
            assert_eq!(self.system.order_state(order_no).await, (status.into(), went), "seed {seed}");
        }
        // What WeChat Pay has repeated in the meantime too.
        self.handle_all().await;
        let log = self.system.log().await;
        assert!(log.keys().all(|key| matches!(key.as_str(), "processed" | "duplicate")), "seed {seed}: {log:?}");
        let audit = self.system.ops(&["audit"]);
        assert_eq!(audit.code, Some(0), "seed {seed}: {}", audit.out);
    }
}

async fn play(system: &mut System, seed: u64) {
    println!("seed {seed}");
    let user = format!("user-{seed}");
    let mut order_nos = system.paid_orders(&user, ORDERS - 1).await;
    // The payment of the last one is told of at the very end.
    let last = system.order(&user, 0).await["orderNo"].as_str().expect("a number").to_owned();
    let held = vec![system.pay_silently(&last).await];
    order_nos.push(last);
    let (admin, worker) = (system.token_of_admin("root"), system.workers.len() - 1);
    let rates = json!({"drop": 0.3, "duplicate": 0.3, "delay": {"rate": 0.3, "maxMs": 400}});
    system.control(Method::PUT, "/control/faults", Some(&rates)).await;
    let mut history = History { system, dice: Dice(seed), admin, order_nos, held, worker };
    for _ in 0..STEPS {
        history.step().await;
    }
    println!("  it settles");
    history.system.control(Method::PUT, "/control/faults", Some(&json!({}))).await;
    history.settle().await;
    history.check(seed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_end_the_books_are_wechat_pays() {
    let mut system = Builder::default().env("RETRY_DELAY_SCALE", "0.01").start().await;
    system.settle_refunds_after(None).await;
    let fresh = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_micros() % 1_000_000;
    for seed in SEEDS.into_iter().chain([u64::try_from(fresh).expect("small")]) {
        play(&mut system, seed).await;
    }
    let refunds = system.count("select count(*) from payment_refunds").await;
    let external = system.count("select count(*) from payment_refunds where origin = 'external'").await;
    println!("{refunds} refunds, {external} of them of the console's");
    assert!(refunds > 15 && external > 0, "{refunds} refunds, {external} of them of the console's");
    system.finish().await;
}
