//! The users, the admins, and what happens at WeChat Pay: buys and refunds as planned, whatever is broken just now. Like an
//! app, it repeats what was not answered, under the same idempotency key.

use super::plan::{Fate, Outcome, Plan, Purchase, Refund};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout_at},
};

/// How long somebody goes on repeating.
const PATIENCE: Duration = Duration::from_secs(45);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(16);
/// And how long after the end of the run.
const LAST_TRIES: Duration = Duration::from_secs(5);
/// Orders that are being placed at once. Who comes next waits outside, so that an outage is not followed by a flood that a
/// debug build on a busy machine never gets through.
const PLACING: usize = 64;
/// Between two tries: this at first, then twice as long each time, up to the longest.
const PAUSE: Duration = Duration::from_millis(300);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What the driver knows at the end.
#[derive(Debug, Default)]
pub struct Tally {
    /// When each order was paid, in milliseconds since 1970.
    pub paid: BTreeMap<String, i64>,
    /// Orders that were acknowledged.
    pub orders: Vec<String>,
    /// Refunds that were acknowledged.
    pub refunds: Vec<String>,
    /// Orders whose cancel was acknowledged.
    pub cancelled: Vec<String>,
    /// What came to nothing, by what it was.
    pub given_up: BTreeMap<&'static str, usize>,
    /// Answers that should not be.
    pub findings: Vec<String>,
}

/// Whoever does all this. Clones share the tally.
#[derive(Clone, Debug)]
pub struct Driver {
    http: Client,
    service: String,
    simulator: String,
    refund_notify_url: String,
    users: Arc<[String]>,
    admin: Arc<str>,
    packages: Arc<[Value]>,
    tally: Arc<Mutex<Tally>>,
    placing: Arc<Semaphore>,
    /// Nobody repeats anything after this.
    last_try: Instant,
}

/// Where everything is, and who may do it.
#[derive(Debug)]
pub struct Access {
    /// The service's address.
    pub service: String,
    /// The simulator's.
    pub simulator: String,
    /// Where console refunds are told.
    pub refund_notify_url: String,
    /// A token for each user.
    pub users: Vec<String>,
    /// An admin's token.
    pub admin: String,
}

/// An answer's status and body; `None` when there was none.
type Answer = Option<(u16, Value)>;

impl Driver {
    /// Somebody who knows what is sold.
    ///
    /// # Panics
    /// When the service does not answer.
    pub async fn new(access: Access) -> Self {
        // No connection outlives its request, so each goes to whatever is behind the balancer now.
        let http = Client::builder().timeout(REQUEST_TIMEOUT).pool_max_idle_per_host(0).build();
        let mut driver = Self {
            http: http.expect("a client"),
            service: access.service,
            simulator: access.simulator,
            refund_notify_url: access.refund_notify_url,
            users: access.users.into(),
            admin: access.admin.into(),
            packages: Arc::new([]),
            tally: Arc::default(),
            placing: Arc::new(Semaphore::new(PLACING)),
            last_try: Instant::now(),
        };
        let request = driver.http.get(format!("{}/api/payment/packages", driver.service));
        let (_, sold) = answer(request).await.expect("the packages");
        driver.packages = sold["items"].as_array().expect("packages").clone().into();
        driver
    }

    /// Buys as planned until `end`, and lets what was begun go on for a moment.
    pub async fn carry_out(&self, plan: &Plan, start: Instant, end: Instant) {
        let mut under_way = JoinSet::new();
        for (nth, purchase) in plan.purchases.iter().enumerate() {
            sleep_until((start + purchase.at).min(end)).await;
            let placing = timeout_at(end, Arc::clone(&self.placing).acquire_owned()).await;
            let Ok(Ok(placing)) = placing else { break };
            let (driver, purchase) = (Self { last_try: end + LAST_TRIES, ..self.clone() }, purchase.clone());
            under_way.spawn(async move { driver.purchase(nth, &purchase, end, placing).await });
            while under_way.try_join_next().is_some() {}
        }
        sleep_until(end).await;
        // The last answers, and what WeChat Pay makes of the last refunds.
        while under_way.join_next().await.is_some() {}
    }

    /// What it knows.
    pub fn tally(&self) -> Tally {
        std::mem::take(&mut *self.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, what: impl FnOnce(&mut Tally)) {
        what(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn give_up(&self, what: &'static str) {
        self.note(|tally| *tally.given_up.entry(what).or_default() += 1);
    }

    /// Buys, and does with it what is planned; what would begin after `end` is left out.
    async fn purchase(&self, nth: usize, purchase: &Purchase, end: Instant, placing: OwnedSemaphorePermit) {
        let Some(order) = self.order(nth, purchase).await else { return self.give_up("orders") };
        drop(placing);
        let order_no = order["orderNo"].as_str().unwrap_or_default().to_owned();
        self.note(|tally| tally.orders.push(order_no.clone()));
        sleep_until((Instant::now() + purchase.after).min(end)).await;
        match &purchase.fate {
            Fate::Left => {}
            Fate::Cancelled => self.cancel(purchase.user, &order_no).await,
            Fate::PaidAndCancelled => {
                tokio::join!(self.pay(&order), self.cancel(purchase.user, &order_no));
            }
            Fate::Paid(refunds) => {
                if !self.pay(&order).await {
                    return;
                }
                for (part, refund) in refunds.iter().enumerate() {
                    sleep_until((Instant::now() + refund.after).min(end)).await;
                    if Instant::now() >= end {
                        return;
                    }
                    self.refund(&order, &format!("{nth}-{part}"), refund).await;
                }
            }
        }
    }

    /// The order, with the code to pay by.
    async fn order(&self, nth: usize, purchase: &Purchase) -> Option<Value> {
        let package = &self.packages[purchase.package % self.packages.len()];
        let body = json!({"packageId": package["id"], "paymentMethod": "wechat_native"});
        let (path, key) = ("/api/payment/orders", format!("order-{nth}"));
        let token = &self.users[purchase.user];
        let is_placed = |(status, order): &(u16, Value)| matches!(status, 200 | 201) && order["codeUrl"].is_string();
        self.repeat(path, token, Some(&body), Some(&key), is_placed, |_| false).await.map(|(_, order)| order)
    }

    /// Pays by the code, as somebody would who scans it; false when it is refused.
    async fn pay(&self, order: &Value) -> bool {
        let order_no = order["orderNo"].as_str().unwrap_or_default();
        let paid_at = now_ms();
        let body = json!({"codeUrl": order["codeUrl"]});
        let paid = self.control(&format!("/control/orders/{order_no}/pay"), &body).await;
        let is_paid = matches!(paid, Some((200, _)));
        if is_paid {
            self.note(|tally| _ = tally.paid.insert(order_no.to_owned(), paid_at));
        } else {
            eprintln!("the payment of {order_no} was refused: {paid:?}");
            self.give_up("payments that were refused");
        }
        is_paid
    }

    async fn cancel(&self, user: usize, order_no: &str) {
        let path = format!("/api/payment/orders/{order_no}/cancel");
        let is_paid = |(status, body): &(u16, Value)| *status == 409 && body["code"] == "order_already_paid";
        match self.repeat(&path, &self.users[user], None, None, |(status, _)| *status == 200, is_paid).await {
            Some((200, _)) => self.note(|tally| tally.cancelled.push(order_no.to_owned())),
            Some(_) => {}
            None => self.give_up("cancels"),
        }
    }

    async fn refund(&self, order: &Value, name: &str, refund: &Refund) {
        let amount = refund.percent.map(|percent| {
            let amount = order["amount"].as_u64().unwrap_or_default();
            (amount * percent / 100).max(1)
        });
        let refund_no = if refund.in_console {
            self.refund_in_console(order, name, amount).await
        } else {
            self.refund_here(order, name, amount).await
        };
        let Some(refund_no) = refund_no else { return };
        match refund.outcome {
            Outcome::Success => {}
            Outcome::Closed => self.settle(&refund_no, "CLOSED").await,
            Outcome::StuckThenSuccess => {
                self.settle(&refund_no, "ABNORMAL").await;
                sleep(refund.after).await;
                self.settle(&refund_no, "SUCCESS").await;
            }
        }
    }

    async fn refund_here(&self, order: &Value, name: &str, amount: Option<u64>) -> Option<String> {
        let path = format!("/api/payment/admin/orders/{}/refunds", order["orderNo"].as_str()?);
        let mut body = json!({"reason": "chaos", "allowNegativeBalance": true});
        if let Some(amount) = amount {
            body["amount"] = json!(amount);
        }
        let key = format!("refund-{name}");
        // Not allowed may mean not yet: the payment is on its way.
        let is_final = |(status, body): &(u16, Value)| {
            *status == 409 && !body["detail"].as_str().is_some_and(|detail| detail.contains("only a paid order"))
        };
        let done = self.repeat(&path, &self.admin, Some(&body), Some(&key), |(status, _)| *status == 202, is_final);
        let Some((202, made)) = done.await else {
            self.give_up("refunds");
            return None;
        };
        let refund_no = made["refundNo"].as_str()?.to_owned();
        self.note(|tally| tally.refunds.push(refund_no.clone()));
        Some(refund_no)
    }

    async fn refund_in_console(&self, order: &Value, name: &str, amount: Option<u64>) -> Option<String> {
        let refund_no = format!("CONSOLE-{name}");
        let mut body = json!({"outTradeNo": order["orderNo"], "outRefundNo": refund_no, "reason": "chaos",
            "notifyUrl": self.refund_notify_url});
        if let Some(amount) = amount {
            body["refund"] = json!(amount);
        }
        let Some((201, _)) = self.control("/control/refunds", &body).await else {
            self.give_up("console refunds");
            return None;
        };
        Some(refund_no)
    }

    /// Gives a refund its outcome, once WeChat Pay knows of it.
    async fn settle(&self, refund_no: &str, status: &str) {
        let until = (Instant::now() + PATIENCE).min(self.last_try);
        let path = format!("/control/refunds/{refund_no}/outcome");
        while matches!(self.control(&path, &json!({"status": status})).await, Some((404, _)) | None) {
            if Instant::now() > until {
                return;
            }
            sleep(PAUSE).await;
        }
    }

    /// Asks until the answer is `done` or `refused`; `None` when patience ends.
    async fn repeat(
        &self,
        path: &str,
        token: &str,
        body: Option<&Value>,
        key: Option<&str>,
        done: impl Fn(&(u16, Value)) -> bool,
        refused: impl Fn(&(u16, Value)) -> bool,
    ) -> Answer {
        let until = (Instant::now() + PATIENCE).min(self.last_try);
        let mut pause = PAUSE;
        while Instant::now() < until {
            let mut request = self.http.request(Method::POST, format!("{}{path}", self.service)).bearer_auth(token);
            if let Some(body) = body {
                request = request.json(body);
            }
            if let Some(key) = key {
                request = request.header("Idempotency-Key", key);
            }
            match answer(request).await {
                Some(answer) if done(&answer) || refused(&answer) => return Some(answer),
                Some((status @ (400..=408 | 410..=428), body)) => {
                    self.note(|tally| tally.findings.push(format!("POST {path} was answered {status}: {body}")));
                    return None;
                }
                _ => sleep(pause).await,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        None
    }

    async fn control(&self, path: &str, body: &Value) -> Answer {
        answer(self.http.post(format!("{}{path}", self.simulator)).json(body)).await
    }
}

async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let answer = request.send().await.ok()?;
    let status = answer.status().as_u16();
    let text = answer.text().await.ok()?;
    Some((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
}

/// Milliseconds since 1970.
///
/// # Panics
/// Before that.
pub fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("later than that");
    i64::try_from(now.as_millis()).expect("for a while")
}
