//! A merchant for the tests: it signs requests, verifies answers and receives callbacks with code
//! of its own, and starts simulators that share one set of keys.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aes_gcm::{
    Aes256Gcm, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use axum::{Router, body::Bytes, extract::State, http::HeaderMap, http::StatusCode, routing::post};
use base64::{Engine, prelude::BASE64_STANDARD};
use clap::Parser;
use reqwest::{Method, Response};
use rsa::{
    RsaPrivateKey, RsaPublicKey,
    pkcs1v15::{Signature, SigningKey, VerifyingKey},
    pkcs8::{DecodePrivateKey, DecodePublicKey},
    sha2::Sha256,
    signature::{SignatureEncoding, Signer, Verifier},
};
use serde_json::{Value, json};
use simulator::{
    config::Cli,
    server::{self, Running},
};
use x509_parser::pem::parse_x509_pem;

/// The directory of keys that all tests of a process share.
fn data_dir() -> &'static PathBuf {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| std::env::temp_dir().join(format!("simulator-test-{}", std::process::id())))
}

/// A simulator and the merchant that uses it.
pub struct World {
    pub running: Running,
    pub env: HashMap<String, String>,
    pub received: Arc<Mutex<Vec<Callback>>>,
    pub answers: Arc<Mutex<Vec<StatusCode>>>,
    pub notify_url: String,
    http: reqwest::Client,
    key: SigningKey<Sha256>,
    serial: String,
    pub public_key: VerifyingKey<Sha256>,
}

/// A callback as the merchant got it.
#[derive(Clone, Debug)]
pub struct Callback {
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Callback {
    pub fn envelope(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// An answer of the simulator, read.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn is_signed(&self) -> bool {
        self.headers.contains_key("wechatpay-signature")
    }
}

impl World {
    /// Starts a simulator at a free port, sixty times as fast as WeChat Pay.
    pub async fn start(flags: &[&str]) -> Self {
        /// Keeps two tests from making the keys at the same time.
        static MADE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let dir = data_dir();
        let made = MADE.lock().await;
        let (received, answers) = (Arc::default(), Arc::default());
        let notify_url = receive(Arc::clone(&received), Arc::clone(&answers)).await;
        let env_file = dir.with_extension(format!("{}.env", port(&notify_url)));
        let (dir_text, env_text) = (dir.to_str().unwrap(), env_file.to_str().unwrap());
        let fixed = ["simulator", "--listen", "127.0.0.1:0", "--clock-factor", "60"];
        let files = ["--data-dir", dir_text, "--env-file", env_text];
        let arguments = fixed.iter().chain(&files).chain(flags);
        let running = server::start(Cli::parse_from(arguments).config).await.unwrap();
        drop(made);
        let env: HashMap<String, String> = std::fs::read_to_string(&env_file)
            .unwrap()
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        std::fs::remove_file(&env_file).unwrap();
        let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
        let key = RsaPrivateKey::from_pkcs8_pem(&read("apiclient_key.pem")).unwrap();
        let public_key = RsaPublicKey::from_public_key_pem(&read("pub_key.pem")).unwrap();
        Self {
            running,
            env,
            received,
            answers,
            notify_url,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            key: SigningKey::new(key),
            serial: certificate(&read("apiclient_cert.pem")).0,
            public_key: VerifyingKey::new(public_key),
        }
    }

    /// The `authorization` header of a request made now.
    pub fn authorization(&self, method: &Method, target: &str, body: &str) -> String {
        let timestamp = now();
        let nonce = "593BEC0C930BF1AFEB40B4A08C8FB242";
        let message = format!("{method}\n{target}\n{timestamp}\n{nonce}\n{body}\n");
        let signature = BASE64_STANDARD.encode(self.key.sign(message.as_bytes()).to_bytes());
        let (mch_id, serial) = (&self.env["WECHAT_PAY_MCH_ID"], &self.serial);
        format!(
            "WECHATPAY2-SHA256-RSA2048 mchid=\"{mch_id}\",nonce_str=\"{nonce}\",\
             signature=\"{signature}\",timestamp=\"{timestamp}\",serial_no=\"{serial}\""
        )
    }

    /// Calls the API with a signature of its own.
    pub async fn v3_signed(
        &self,
        method: Method,
        target: &str,
        body: &str,
        authorization: String,
    ) -> reqwest::Result<Answer> {
        let url = format!("http://{}{target}", self.running.address);
        let request = self
            .http
            .request(method, url)
            .header("Authorization", authorization)
            .header("Accept", "application/json")
            .header("User-Agent", "test/1")
            .header("Content-Type", "application/json")
            .body(body.to_owned());
        read(request.send().await?).await
    }

    /// Calls the API, correctly signed.
    pub async fn v3(&self, method: Method, target: &str, body: &str) -> Answer {
        let authorization = self.authorization(&method, target, body);
        self.v3_signed(method, target, body, authorization).await.unwrap()
    }

    /// Calls the control API.
    pub async fn control(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let url = format!("http://{}/control{path}", self.running.address);
        let answer = self.http.request(method, url).body(body.to_string()).send().await.unwrap();
        let answer = read(answer).await.unwrap();
        (answer.status, answer.json())
    }

    /// The body of an order.
    pub fn order(&self, out_trade_no: &str) -> String {
        json!({
            "appid": self.env["WECHAT_PAY_APP_ID"],
            "mchid": self.env["WECHAT_PAY_MCH_ID"],
            "description": "充值",
            "out_trade_no": out_trade_no,
            "notify_url": self.notify_url,
            "amount": {"total": 100, "currency": "CNY"},
        })
        .to_string()
    }

    /// Makes an order through the API.
    pub async fn make_order(&self, out_trade_no: &str) -> Answer {
        let body = self.order(out_trade_no);
        self.v3(Method::POST, "/v3/pay/transactions/native", &body).await
    }

    /// The target of an order's query.
    pub fn query(&self, out_trade_no: &str) -> String {
        let mch_id = &self.env["WECHAT_PAY_MCH_ID"];
        format!("/v3/pay/transactions/out-trade-no/{out_trade_no}?mchid={mch_id}")
    }

    /// Waits until `count` callbacks have come, then gives them all.
    pub async fn callbacks(&self, count: usize) -> Vec<Callback> {
        for _ in 0..500 {
            let received = self.received.lock().unwrap().clone();
            if received.len() >= count {
                return received;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{count} callbacks do not come: {:?}", self.received.lock().unwrap());
    }

    /// The decrypted plaintext of a callback.
    pub fn decrypt(&self, callback: &Callback) -> Value {
        let plain = self.open(&callback.envelope()["resource"]);
        serde_json::from_slice(&plain).unwrap()
    }

    /// Decrypts a resource with the APIv3 key.
    pub fn open(&self, resource: &Value) -> Vec<u8> {
        let text = |name: &str| resource[name].as_str().unwrap().to_owned();
        let cipher = Aes256Gcm::new_from_slice(self.env["WECHAT_PAY_API_KEY"].as_bytes()).unwrap();
        let msg = BASE64_STANDARD.decode(text("ciphertext")).unwrap();
        let (nonce, aad) = (text("nonce"), text("associated_data"));
        let nonce = <&Nonce<_>>::try_from(nonce.as_bytes()).unwrap();
        cipher.decrypt(nonce, Payload { msg: &msg, aad: aad.as_bytes() }).unwrap()
    }
}

/// Whether the `Wechatpay-…` headers sign `body` under `key` within the window.
pub fn verifies(key: &VerifyingKey<Sha256>, headers: &HeaderMap, body: &[u8]) -> bool {
    let header = |name: &str| headers[name].to_str().unwrap();
    let (timestamp, nonce) = (header("wechatpay-timestamp"), header("wechatpay-nonce"));
    let message = [format!("{timestamp}\n{nonce}\n").as_bytes(), body, b"\n"].concat();
    let Ok(bytes) = BASE64_STANDARD.decode(header("wechatpay-signature")) else { return false };
    let Ok(signature) = Signature::try_from(bytes.as_slice()) else { return false };
    let fresh = now().abs_diff(timestamp.parse().unwrap()) <= 300;
    fresh && key.verify(&message, &signature).is_ok()
}

/// Serial number and key of a PEM certificate.
pub fn certificate(pem: &str) -> (String, VerifyingKey<Sha256>) {
    let (_, pem) = parse_x509_pem(pem.as_bytes()).unwrap();
    let x509 = pem.parse_x509().unwrap();
    let key = RsaPublicKey::from_public_key_der(x509.public_key().raw).unwrap();
    (hex::encode_upper(x509.raw_serial()), VerifyingKey::new(key))
}

async fn read(response: Response) -> reqwest::Result<Answer> {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Ok(Answer { status, headers, body: response.bytes().await?.to_vec() })
}

type Inbox = (Arc<Mutex<Vec<Callback>>>, Arc<Mutex<Vec<StatusCode>>>);

/// Receives callbacks. They are answered with `answers`, first to last, then with 204.
async fn receive(received: Arc<Mutex<Vec<Callback>>>, answers: Arc<Mutex<Vec<StatusCode>>>) -> String {
    async fn take(State((received, answers)): State<Inbox>, headers: HeaderMap, body: Bytes) -> StatusCode {
        received.lock().unwrap().push(Callback { headers, body: body.to_vec() });
        let mut answers = answers.lock().unwrap();
        if answers.is_empty() { StatusCode::NO_CONTENT } else { answers.remove(0) }
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/notify", listener.local_addr().unwrap());
    let router = Router::new().route("/notify", post(take)).with_state((received, answers));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

fn port(url: &str) -> u16 {
    url.trim_end_matches("/notify").rsplit(':').next().unwrap().parse().unwrap()
}

fn now() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    elapsed.as_secs().try_into().unwrap()
}
