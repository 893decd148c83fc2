//! The client against the simulator, which shares no code with it: every call, and every answer that decides nothing.

use clap::Parser;
use serde_json::{Value, json};
use shared::{
    clock,
    config::{self, Env},
    orders::OrderNo,
    wechat::{Client, Error, KeyRing, NativeOrder, NewRefund, Refund, RefundStatus, TradeState, Transaction},
};
use simulator::{
    config::Cli,
    server::{self, Running},
};
use std::{path::PathBuf, sync::Arc};

struct Wechat {
    client: Client,
    keys: Arc<KeyRing>,
    http: reqwest::Client,
    running: Running,
    folder: PathBuf,
    /// A repeat must be the same in every field.
    time_expire: chrono::DateTime<chrono::Utc>,
}

impl Wechat {
    /// A simulator of its own, and a client that trusts its public key, or nothing yet.
    async fn start(key_mode: &str, with_public_key: bool) -> Self {
        let folder = std::env::temp_dir().join(format!("recharge-simulator-{}", uuid::Uuid::now_v7()));
        let path = folder.to_str().expect("UTF-8");
        let cli = Cli::parse_from([
            "simulator",
            "--listen",
            "127.0.0.1:0",
            "--data-dir",
            path,
            "--key-mode",
            key_mode,
            "--refund-delay-ms",
            "manual",
        ]);
        let running = server::start(cli.config).await.expect("a simulator");
        let mut env = Env::of([("WECHAT_PAY_NOTIFY_URL", "http://127.0.0.1:9/notify")]);
        for line in std::fs::read_to_string(folder.join("merchant.env")).expect("its settings").lines() {
            if let Some((name, value)) = line.split_once('=')
                && (with_public_key || !name.contains("PUBLIC_KEY"))
            {
                env.set(name, value.trim_matches(['"', '\'']));
            }
        }
        let (merchant, keys) = config::merchant(&mut env).unwrap_or_else(|| panic!("{}", env.faults()));
        let keys = Arc::new(keys);
        let time_expire = clock::now() + chrono::TimeDelta::minutes(30);
        let client = Client::new(Arc::new(merchant), Arc::clone(&keys)).expect("a client");
        Self { client, keys, http: reqwest::Client::new(), running, folder, time_expire }
    }

    async fn control(&self, path: &str, body: Value) -> Value {
        let url = format!("http://{}/control/{path}", self.running.address);
        let answer = self.http.post(url).json(&body).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{path}: {answer:?}");
        answer.json().await.unwrap_or(Value::Null)
    }

    async fn next_answers(&self, endpoint: &str, fault: &str, count: usize) {
        self.control("faults/next", json!({"endpoint": endpoint, "fault": fault, "count": count})).await;
    }

    async fn place(&self, order_no: &OrderNo, total: i64) -> Result<String, Error> {
        let total = total.try_into().expect("an amount");
        let native =
            NativeOrder { out_trade_no: order_no, description: "积分包😀", total, time_expire: self.time_expire };
        self.client.place_native(&native).await
    }

    async fn paid(&self) -> (OrderNo, Transaction) {
        let order_no = OrderNo::generate();
        self.place(&order_no, 300).await.expect("an order");
        self.control(&format!("orders/{order_no}/pay"), json!({"notify": false})).await;
        let transaction = self.client.find_order(&order_no).await.expect("the order");
        (order_no, transaction)
    }

    async fn refund(&self, transaction: &Transaction, number: &str, fen: i64) -> Result<Refund, Error> {
        let amount = |fen: i64| serde_json::from_value(json!(fen)).expect("an amount");
        let id = transaction.transaction_id.as_deref().expect("a paid order").parse().expect("a transaction id");
        let out_refund_no = &number.parse().expect("a refund number");
        let reason = Some("退款");
        let (refund, total) = (amount(fen), amount(300));
        self.client.refund(&NewRefund { transaction_id: &id, out_refund_no, reason, refund, total }).await
    }

    async fn stop(self) {
        self.running.stop().await;
        std::fs::remove_dir_all(self.folder).expect("its own folder");
    }
}

fn code(error: &Error) -> &str {
    match error {
        Error::Rejected(refusal) => &refusal.code,
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_lives_and_dies() {
    let wechat = Wechat::start("public-key", true).await;
    let order_no: OrderNo = "A_b-c|d*9".parse().expect("an order number");
    let code_url = wechat.place(&order_no, 300).await.expect("an order");
    assert!(code_url.starts_with("weixin://wxpay/bizpayurl"));
    assert_eq!(wechat.client.find_order(&order_no).await.expect("the order").trade_state, TradeState::NotPay);

    wechat.client.close(&order_no).await.expect("closed");
    wechat.client.close(&order_no).await.expect("closed again");
    assert_eq!(wechat.client.find_order(&order_no).await.expect("the order").trade_state, TradeState::Closed);
    assert_eq!(code(&wechat.place(&order_no, 300).await.expect_err("it is closed")), "ORDER_CLOSED");

    let unknown = wechat.client.find_order(&OrderNo::generate()).await.expect_err("nobody made it");
    assert!(
        unknown.refusal().is_some_and(|refusal| refusal.status == 404 && refusal.is("ORDER_NOT_EXIST")),
        "{unknown}"
    );
    wechat.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paid_order_is_found_by_both_numbers_and_cannot_be_closed() {
    let wechat = Wechat::start("public-key", true).await;
    let (order_no, transaction) = wechat.paid().await;
    assert_eq!(transaction.trade_state, TradeState::Success);
    let id = transaction.transaction_id.as_deref().expect("an id").parse().expect("a transaction id");
    let by_id = wechat.client.find_transaction(&id).await.expect("the payment");
    assert_eq!((by_id.out_trade_no.as_str(), by_id.amount.expect("an amount").total), (order_no.as_str(), 300));
    let error = wechat.client.close(&order_no).await.expect_err("it is paid");
    assert!(error.refusal().is_some_and(|refusal| refusal.is("ORDER_PAID")), "{error}");
    wechat.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_is_the_same_one_however_often_it_is_asked_for() {
    let wechat = Wechat::start("public-key", true).await;
    let (order_no, transaction) = wechat.paid().await;
    let first = wechat.refund(&transaction, "RF@1|*", 100).await.expect("accepted");
    assert_eq!((first.status, first.out_trade_no.as_str()), (RefundStatus::Processing, order_no.as_str()));
    let again = wechat.refund(&transaction, "RF@1|*", 100).await.expect("accepted");
    assert_eq!(again.refund_id, first.refund_id);
    let found = wechat.client.find_refund(&"RF@1|*".parse().expect("a number")).await.expect("the refund");
    assert_eq!(found.refund_id, first.refund_id);

    let too_much = wechat.refund(&transaction, "RF2", 201).await.expect_err("only 200 are left");
    assert_eq!(code(&too_much), "INVALID_REQUEST");
    let unknown = wechat.client.find_refund(&"RF3".parse().expect("a number")).await.expect_err("nobody asked for it");
    assert_eq!(code(&unknown), "RESOURCE_NOT_EXISTS");
    wechat.stop().await;
}

/// Each is an answer that says nothing about what was done. One is repeated; the same all the time is unknown, never a
/// failure.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_cannot_be_trusted_is_an_unknown_outcome() {
    let wechat = Wechat::start("public-key", true).await;
    for fault in [
        "apiError",
        "apiErrorAfter",
        "apiReset",
        "apiTruncated",
        "apiUnsigned",
        "apiBadSignature",
        "apiProbe",
        "apiStale",
    ] {
        wechat.next_answers("native", fault, 1).await;
        wechat.place(&OrderNo::generate(), 300).await.unwrap_or_else(|error| panic!("{fault} once: {error}"));

        wechat.next_answers("native", fault, 3).await;
        let order_no = OrderNo::generate();
        let error = wechat.place(&order_no, 300).await.expect_err(fault);
        assert!(matches!(error, Error::Unknown(_)), "{fault}: {error}");
        wechat.place(&order_no, 300).await.unwrap_or_else(|error| panic!("{fault} is over: {error}"));

        let (_, transaction) = wechat.paid().await;
        wechat.next_answers("refund", fault, 3).await;
        let error = wechat.refund(&transaction, order_no.as_str(), 300).await.expect_err(fault);
        assert!(matches!(error, Error::Unknown(_)), "{fault}: {error}");
        wechat
            .refund(&transaction, order_no.as_str(), 300)
            .await
            .unwrap_or_else(|error| panic!("the same refund again after {fault}: {error}"));
    }
    wechat.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_fast_is_unknown_and_not_repeated_at_once() {
    let wechat = Wechat::start("public-key", true).await;
    wechat.next_answers("query", "api429", 1).await;
    let error = wechat.client.find_order(&OrderNo::generate()).await.expect_err("too fast");
    assert!(matches!(error, Error::Unknown(_)) && !error.may_repeat(), "{error}");
    wechat.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_the_gateway_is_told_apart() {
    let wechat = Wechat::start("public-key", true).await;
    let error = wechat.place(&OrderNo::generate(), 0).await.expect_err("nothing costs nothing");
    assert!(matches!(&error, Error::NotAuthenticated(refusal) if refusal.is("PARAM_ERROR")), "{error}");
    wechat.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_fetched_and_followed_when_they_change() {
    let wechat = Wechat::start("certificate", false).await;
    assert!(wechat.keys.is_empty());
    // The first answer names a certificate that is not held: it is fetched on the way.
    wechat.place(&OrderNo::generate(), 300).await.expect("an order");
    assert!(!wechat.keys.is_empty());

    let rotated = wechat.control("certificates/rotate", json!({})).await;
    let serial = rotated["serial"].as_str().expect("a serial");
    assert!(wechat.keys.get(serial).is_none());
    assert!(
        !wechat.client.fetch_key(serial).await,
        "a serial that anybody may make up cannot make us ask again at once"
    );
    wechat.client.load_certificates().await.expect("the schedule's own way");
    assert!(wechat.keys.get(serial).is_some());
    wechat.place(&OrderNo::generate(), 300).await.expect("an order");
    wechat.stop().await;
}

/// Everybody who meets the new key waits for one fetch; one that hangs up neither ends it nor starts another.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_is_fetched_once_for_all_who_meet_it() {
    let wechat = Wechat::start("certificate", false).await;
    wechat.client.load_certificates().await.expect("certificates");
    let rotated = wechat.control("certificates/rotate", json!({})).await;
    let serial = rotated["serial"].as_str().expect("a serial").to_owned();
    wechat.control("faults/next", json!({"endpoint": "certificates", "fault": "apiSlow", "count": 1, "ms": 400})).await;

    let hung_up = tokio::time::timeout(std::time::Duration::from_millis(50), wechat.client.fetch_key(&serial)).await;
    assert!(hung_up.is_err(), "it takes longer");
    let mut meeting = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (client, serial) = (wechat.client.clone(), serial.clone());
        meeting.spawn(async move { client.fetch_key(&serial).await });
    }
    assert_eq!(meeting.join_all().await, vec![true; 20]);
    assert!(!wechat.client.fetch_key("made up").await);
    wechat.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merchant_without_certificates_needs_none() {
    let wechat = Wechat::start("public-key", true).await;
    wechat.client.load_certificates().await.expect("the public key is enough");
    wechat.stop().await;
    let without_anything = Wechat::start("public-key", false).await;
    let error = without_anything.client.load_certificates().await.expect_err("there is no key at all");
    assert!(matches!(error, Error::Unknown(_)), "what no key can verify decides nothing: {error}");
    without_anything.stop().await;
}
