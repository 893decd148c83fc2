//! Callbacks of the simulator's making, and what is read out of them.

use clap::Parser;
use serde::Deserialize;
use serde_json::{Value, json};
use shared::{
    config::{self, Env},
    notify::{Fault, NotifyHeaders},
    orders::{OrderNo, PaymentStatus},
    payments::{Payable, Payment},
    wechat::{KeyRing, Merchant, Opener, Transaction, resource::Resource, signature::Signed},
};
use simulator::{config::Cli, server};
use std::{collections::BTreeMap, ops::RangeInclusive, sync::Arc};

/// What WeChat Pay's callbacks weigh.
const BODY_BYTES: RangeInclusive<usize> = 1_000..=1_500;

/// Everything that the benchmarks work on.
pub struct Stock {
    pub merchant: Arc<Merchant>,
    pub keys: Arc<KeyRing>,
    pub opener: Opener,
    pub callbacks: Vec<Callback>,
}

/// One that was received, and what is in it.
pub struct Callback {
    pub headers: NotifyHeaders,
    pub body: Vec<u8>,
    pub plaintext: Vec<u8>,
    pub payment: Payment,
}

/// As the service reads it.
#[derive(Deserialize)]
pub struct Envelope<'a> {
    #[serde(borrow)]
    pub resource: Resource<'a>,
}

impl Stock {
    /// Starts a simulator, has so many orders paid, and takes their callbacks.
    pub fn make(count: usize) -> Self {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(Self::take(count))
    }

    async fn take(count: usize) -> Self {
        // Its keys stay there for the next time.
        let folder = concat!(env!("CARGO_TARGET_TMPDIR"), "/simulator");
        let cli = Cli::parse_from(["simulator", "--listen", "127.0.0.1:0", "--data-dir", folder]);
        let running = server::start(cli.config).await.expect("a simulator");
        let mut env = Env::of([("WECHAT_PAY_NOTIFY_URL", "http://127.0.0.1:9/notify")]);
        for line in std::fs::read_to_string(format!("{folder}/merchant.env")).expect("its settings").lines() {
            if let Some((name, value)) = line.split_once('=') {
                env.set(name, value.trim_matches(['"', '\'']));
            }
        }
        let (merchant, keys) = config::merchant(&mut env).unwrap_or_else(|| panic!("{}", env.faults()));
        let (merchant, keys) = (Arc::new(merchant), Arc::new(keys));
        let opener = Opener::new(Arc::clone(&merchant), Arc::clone(&keys));
        let mut stock = Self { merchant, keys, opener, callbacks: Vec::with_capacity(count) };
        let control = Control { http: reqwest::Client::new(), url: format!("http://{}/control", running.address) };
        for _ in 0..count {
            let callback = stock.read(&control.paid().await);
            stock.callbacks.push(callback);
        }
        running.stop().await;
        stock
    }

    fn read(&self, sent: &Value) -> Callback {
        let header = |name: &str| sent["headers"][name].as_str().expect(name).to_owned();
        let headers = NotifyHeaders {
            wechatpay_timestamp: header("Wechatpay-Timestamp"),
            wechatpay_nonce: header("Wechatpay-Nonce"),
            wechatpay_signature: header("Wechatpay-Signature"),
            wechatpay_serial: header("Wechatpay-Serial"),
            ..NotifyHeaders::default()
        };
        let body = sent["body"].as_str().expect("a body").as_bytes().to_vec();
        assert!(BODY_BYTES.contains(&body.len()), "a callback of {} bytes", body.len());
        let envelope: Envelope<'_> = serde_json::from_slice(&body).expect("an envelope");
        let plaintext = self.merchant.api_key.open(&envelope.resource).expect("it is for us");
        let payment = self.payment(&plaintext).expect("a payment");
        Callback { headers, body, plaintext, payment }
    }

    /// The payment that a plaintext tells of.
    pub fn payment(&self, plaintext: &[u8]) -> Result<Payment, Fault> {
        let transaction: Transaction = serde_json::from_slice(plaintext).expect("a transaction");
        transaction.payment(&self.merchant.mch_id, &self.merchant.app_id)
    }

    /// The orders of the first so many callbacks, still to be paid.
    pub fn orders(&self, count: usize) -> BTreeMap<OrderNo, Payable> {
        let order = |Callback { payment, .. }: &Callback| Payable {
            order_no: payment.order_no.clone(),
            user_id: "alice".parse().expect("a user"),
            amount: payment.amount,
            points: 100.try_into().expect("points"),
            bonus_points: 5.try_into().expect("points"),
            status: PaymentStatus::Pending,
            transaction_id: None,
        };
        self.callbacks[..count].iter().map(|callback| (callback.payment.order_no.clone(), order(callback))).collect()
    }
}

impl Callback {
    pub fn signed(&self) -> Signed<'_> {
        Signed {
            timestamp: &self.headers.wechatpay_timestamp,
            nonce: &self.headers.wechatpay_nonce,
            signature: &self.headers.wechatpay_signature,
        }
    }

    pub fn envelope(&self) -> Envelope<'_> {
        serde_json::from_slice(&self.body).expect("an envelope")
    }
}

/// The simulator's control API.
struct Control {
    http: reqwest::Client,
    url: String,
}

impl Control {
    /// The callback of a new order that is paid.
    async fn paid(&self) -> Value {
        let order_no = OrderNo::generate();
        // As long as WeChat Pay allows: with it a callback weighs what most do.
        let (attach, notify_url) = ("a".repeat(128), "http://127.0.0.1:9/notify");
        let order = json!({"outTradeNo": order_no, "total": 100, "attach": attach, "notifyUrl": notify_url});
        self.ask("/orders", order).await;
        self.ask(&format!("/orders/{order_no}/pay"), json!({"notify": false})).await;
        self.ask("/sign", json!({"outTradeNo": order_no})).await
    }

    async fn ask(&self, path: &str, body: Value) -> Value {
        let answer = self.http.post(format!("{}{path}", self.url)).json(&body).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{path}: {answer:?}");
        answer.json().await.expect("JSON")
    }
}
