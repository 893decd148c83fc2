//! The calls: Native order, query, close, refund, refund query, certificates.
//!
//! Each may be repeated with the same parameters, by the protocol's own word (wechatpay-v3.md §5.5, §6.3, §7.4, §9.2), so
//! each is: two or three quick tries, a new signature every time. What is then still unknown is the caller's to ask about.

use super::{
    Error, KeyRing, Merchant, NewRefund, Refund, Transaction,
    error::Unknown,
    keys::CertificateList,
    model::NativeAnswer,
    transport::{Answer, Transport},
};
use crate::{
    clock,
    metrics::{WechatEndpoint as Endpoint, WechatOutcome, wechat_called},
    money::Fen,
    notify::Fault,
    orders::{OrderNo, TransactionId},
    payments::Payment,
    refunds::RefundNo,
};
use backon::{BackoffBuilder, ExponentialBuilder};
use chrono::{DateTime, FixedOffset, SecondsFormat, Utc};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use serde::{Serialize, de::DeserializeOwned};
use std::{sync::Arc, time::Duration};
use tokio::{sync::Mutex, time::Instant};
use tokio_util::sync::CancellationToken;

/// For one call, its repeats included.
const CALL_DEADLINE: Duration = Duration::from_secs(12);
const REPEATS: usize = 2;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Keys are fetched for an unknown serial at most this often: anybody can make one up.
const REFRESH_PAUSE: Duration = Duration::from_mins(1);

/// How long somebody who names an unknown serial waits for it. WeChat Pay waits 5 s for its answer.
const FETCH_WAIT: Duration = Duration::from_secs(3);
const RELOAD_PAUSE: Duration = Duration::from_hours(6);

/// What stays literal in a path; `|` travels as `%7C` (wechatpay-v3.md §1.4).
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'*').remove(b'.').remove(b'@');

/// A Native order to place (wechatpay-v3.md §5.2). A repeat must be the same in every field.
#[derive(Clone, Debug)]
pub struct NativeOrder<'a> {
    /// Our number.
    pub out_trade_no: &'a OrderNo,
    /// Shown to the payer; cut to 127 bytes.
    pub description: &'a str,
    /// How much.
    pub total: Fen,
    /// Until when it can be paid. Whole seconds.
    pub time_expire: DateTime<Utc>,
}

#[derive(Serialize)]
struct NativeRequest<'a> {
    appid: &'a str,
    mchid: &'a str,
    description: String,
    out_trade_no: &'a str,
    time_expire: String,
    notify_url: &'a str,
    amount: OrderAmount,
}

#[derive(Serialize)]
struct OrderAmount {
    total: Fen,
    currency: &'static str,
}

#[derive(Serialize)]
struct CloseRequest<'a> {
    mchid: &'a str,
}

#[derive(Serialize)]
struct RefundRequest<'a> {
    transaction_id: &'a str,
    out_refund_no: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    // Always given: without it no callback comes in this protocol's form (wechatpay-v3.md §4.5).
    notify_url: &'a str,
    amount: RefundRequestAmount,
}

#[derive(Serialize)]
struct RefundRequestAmount {
    refund: Fen,
    total: Fen,
    currency: &'static str,
}

#[derive(Serialize)]
struct AbnormalRequest<'a> {
    out_refund_no: &'a str,
    r#type: &'static str,
}

/// A client of WeChat Pay, for one merchant. Clones share everything.
#[derive(Clone, Debug)]
pub struct Client {
    transport: Transport,
    merchant: Arc<Merchant>,
    keys: Arc<KeyRing>,
    last_refresh: Arc<Mutex<Option<Instant>>>,
}

impl Client {
    /// A client that signs as `merchant` and verifies with `keys`. Nothing is sent yet.
    ///
    /// # Errors
    /// When TLS cannot be set up on this machine.
    pub fn new(merchant: Arc<Merchant>, keys: Arc<KeyRing>) -> Result<Self, reqwest::Error> {
        let transport = Transport::new(&merchant.base_url)?;
        Ok(Self { transport, merchant, keys, last_refresh: Arc::default() })
    }

    /// Places a Native order; answers what its QR code must say. Valid for two hours.
    pub async fn place_native(&self, order: &NativeOrder<'_>) -> Result<String, Error> {
        let request = NativeRequest {
            appid: &self.merchant.app_id,
            mchid: &self.merchant.mch_id,
            description: cut_to_bytes(order.description, 127),
            out_trade_no: order.out_trade_no.as_str(),
            time_expire: china_time(order.time_expire),
            notify_url: &self.merchant.notify_url,
            amount: OrderAmount { total: order.total, currency: "CNY" },
        };
        let answer: NativeAnswer =
            self.json(Endpoint::Native, Method::POST, "/v3/pay/transactions/native", &body(&request)).await?;
        Ok(answer.code_url)
    }

    /// The order with this number of ours, paid or not.
    pub async fn find_order(&self, out_trade_no: &OrderNo) -> Result<Transaction, Error> {
        let target = format!("{}?mchid={}", order_path(out_trade_no), path(&self.merchant.mch_id));
        self.json(Endpoint::Query, Method::GET, &target, "").await
    }

    /// The payment that a paid order holds, when it is one for this merchant and app, in CNY.
    ///
    /// # Errors
    /// The first rule it breaks.
    pub fn payment(&self, transaction: &Transaction) -> Result<Payment, Fault> {
        transaction.payment(&self.merchant.mch_id, &self.merchant.app_id)
    }

    /// The paid order with this number of WeChat Pay's.
    pub async fn find_transaction(&self, transaction_id: &TransactionId) -> Result<Transaction, Error> {
        let id = path(transaction_id.as_str());
        let target = format!("/v3/pay/transactions/id/{id}?mchid={}", path(&self.merchant.mch_id));
        self.json(Endpoint::QueryTransaction, Method::GET, &target, "").await
    }

    /// Closes the order, so that it cannot be paid any more. One that is closed already is fine.
    pub async fn close(&self, out_trade_no: &OrderNo) -> Result<(), Error> {
        let request = CloseRequest { mchid: &self.merchant.mch_id };
        let target = format!("{}/close", order_path(out_trade_no));
        match self.call(Endpoint::Close, Method::POST, &target, &body(&request)).await {
            Ok(_) => Ok(()),
            Err(Error::Rejected(refusal)) if refusal.is("ORDER_CLOSED") => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Asks for a refund. An answer means accepted, not refunded.
    pub async fn refund(&self, refund: &NewRefund<'_>) -> Result<Refund, Error> {
        let request = RefundRequest {
            transaction_id: refund.transaction_id.as_str(),
            out_refund_no: refund.out_refund_no.as_str(),
            reason: refund.reason.map(|reason| cut_to_bytes(reason, 80)),
            notify_url: &self.merchant.refund_notify_url,
            amount: RefundRequestAmount { refund: refund.refund, total: refund.total, currency: "CNY" },
        };
        self.json(Endpoint::Refund, Method::POST, "/v3/refund/domestic/refunds", &body(&request)).await
    }

    /// The refund with this number of ours.
    pub async fn find_refund(&self, out_refund_no: &RefundNo) -> Result<Refund, Error> {
        let target = format!("/v3/refund/domestic/refunds/{}", path(out_refund_no.as_str()));
        self.json(Endpoint::QueryRefund, Method::GET, &target, "").await
    }

    /// Sends an abnormal refund to the merchant's own settlement account, from where it is paid out by hand
    /// (wechatpay-v3.md §7.6). `refund_id` is WeChat Pay's number of it.
    pub async fn redirect_abnormal(&self, refund_id: &str, out_refund_no: &RefundNo) -> Result<Refund, Error> {
        let request = AbnormalRequest { out_refund_no: out_refund_no.as_str(), r#type: "MERCHANT_BANK_CARD" };
        let target = format!("/v3/refund/domestic/refunds/{}/apply-abnormal-refund", path(refund_id));
        self.json(Endpoint::RedirectRefund, Method::POST, &target, &body(&request)).await
    }

    /// Fetches the platform certificates into the key ring. A merchant of public-key mode has none, which is fine.
    pub async fn load_certificates(&self) -> Result<(), Error> {
        // This answer may be signed by a certificate that is inside it, so it is opened before it is verified.
        let accept = |answer| self.accept_certificates(answer);
        let fetch = self.repeated(&Method::GET, "/v3/certificates", "", accept);
        match counted(Endpoint::Certificates, fetch).await {
            Err(error) if error.refusal().is_some_and(|refusal| refusal.status == 404) && !self.keys.is_empty() => {
                Ok(())
            }
            result => result.map(drop),
        }
    }

    /// Fetches the certificates because somebody named `serial`, which is not held: one fetch at a time, which all wait for,
    /// and not more than one a minute. Answers whether the key is held now, after a bounded wait; the fetch goes on
    /// although nobody waits.
    pub async fn fetch_key(&self, serial: &str) -> bool {
        if self.last_refresh.try_lock().is_ok_and(|last| last.is_some_and(|last| last.elapsed() < REFRESH_PAUSE)) {
            return self.keys.get(serial).is_some();
        }
        let (client, wanted) = (self.clone(), serial.to_owned());
        let fetch = tokio::spawn(async move {
            let mut last = client.last_refresh.lock().await;
            let is_held = client.keys.get(&wanted).is_some();
            if is_held || last.is_some_and(|last| last.elapsed() < REFRESH_PAUSE) {
                return is_held;
            }
            *last = Some(Instant::now());
            if let Err(error) = client.load_certificates().await {
                tracing::warn!("WeChat Pay's certificates cannot be refreshed: {error}");
            }
            client.keys.get(&wanted).is_some()
        });
        matches!(tokio::time::timeout(FETCH_WAIT, fetch).await, Ok(Ok(true)))
    }

    /// Loads the certificates now and again a few times a day, until `stop` (wechatpay-v3.md §2.4: more often than every
    /// 12 hours). While none can be had it tries again soon.
    pub async fn keep_keys_fresh(self, stop: CancellationToken) {
        let mut failures = 0;
        while !stop.is_cancelled() {
            let pause = match self.load_certificates().await {
                Ok(()) => {
                    failures = 0;
                    RELOAD_PAUSE
                }
                Err(error) => {
                    if failures == 0 {
                        tracing::warn!("WeChat Pay's certificates cannot be loaded: {error}");
                    }
                    failures += 1;
                    Duration::from_secs(1).saturating_mul(1 << failures.min(6))
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    fn accept_certificates(&self, answer: Answer) -> Result<Vec<u8>, Error> {
        if answer.status.is_success() {
            let unreadable = |why: &str| Error::Unknown(Unknown::Unreadable(why.into()));
            let list: CertificateList<'_> =
                serde_json::from_slice(&answer.body).map_err(|_| unreadable("it is no list of certificates"))?;
            self.keys.add(list.open(&self.merchant.api_key).map_err(unreadable)?);
            self.keys.drop_expired(clock::now());
        }
        answer.trusted(&self.keys)
    }

    async fn json<T: DeserializeOwned>(
        &self,
        endpoint: Endpoint,
        method: Method,
        target: &str,
        body: &str,
    ) -> Result<T, Error> {
        let answer = self.call(endpoint, method, target, body).await?;
        // A success without the field it is for says nothing about what was done.
        serde_json::from_slice(&answer).map_err(|error| Error::Unknown(Unknown::Unreadable(error.to_string())))
    }

    async fn call(&self, endpoint: Endpoint, method: Method, target: &str, body: &str) -> Result<Vec<u8>, Error> {
        let accept = |answer: Answer| answer.trusted(&self.keys);
        let call = async {
            match self.repeated(&method, target, body, accept).await {
                Err(Error::Unknown(Unknown::KeyMissing(serial))) if self.fetch_key(&serial).await => {
                    self.repeated(&method, target, body, accept).await
                }
                result => result,
            }
        };
        counted(endpoint, call).await
    }

    /// Sends until an answer is accepted, or is a refusal, or the request has been repeated enough.
    async fn repeated(
        &self,
        method: &Method,
        target: &str,
        body: &str,
        accept: impl Fn(Answer) -> Result<Vec<u8>, Error> + Send,
    ) -> Result<Vec<u8>, Error> {
        let deadline = Instant::now() + CALL_DEADLINE;
        let mut pauses =
            ExponentialBuilder::default().with_min_delay(FIRST_PAUSE).with_max_times(REPEATS).with_jitter().build();
        for attempt in 0.. {
            let sent = self.transport.send(&self.merchant, attempt, method, target, body);
            let result = match tokio::time::timeout_at(deadline, sent).await {
                Ok(answer) => answer.and_then(&accept),
                Err(_) => break,
            };
            match (result, pauses.next()) {
                (Err(error), Some(pause)) if error.may_repeat() => tokio::time::sleep(pause).await,
                (result, _) => return result,
            }
        }
        Err(Error::Unknown(Unknown::Deadline))
    }
}

/// Counts a call, its repeats included.
async fn counted<T>(endpoint: Endpoint, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let begun = Instant::now();
    let result = call.await;
    let outcome = match &result {
        Ok(_) => WechatOutcome::Ok,
        Err(Error::Rejected(_)) => WechatOutcome::Rejected,
        Err(Error::NotAuthenticated(_)) => WechatOutcome::NotAuthenticated,
        Err(Error::Unknown(_)) => WechatOutcome::Unknown,
    };
    wechat_called(endpoint, outcome, begun.elapsed());
    result
}

fn order_path(out_trade_no: &OrderNo) -> String {
    format!("/v3/pay/transactions/out-trade-no/{}", path(out_trade_no.as_str()))
}

fn path(segment: &str) -> String {
    utf8_percent_encode(segment, PATH).to_string()
}

fn body(request: &impl Serialize) -> String {
    serde_json::to_string(request).expect("a struct of texts and numbers is JSON")
}

/// An instant as WeChat Pay writes it, in whole seconds.
fn china_time(at: DateTime<Utc>) -> String {
    let china = FixedOffset::east_opt(8 * 3_600).expect("an offset within a day");
    at.with_timezone(&china).to_rfc3339_opts(SecondsFormat::Secs, false)
}

/// The longest beginning of at most `bytes` bytes, less the characters that the protocol refuses (over 3 bytes of UTF-8).
fn cut_to_bytes(text: &str, bytes: usize) -> String {
    let mut kept: String = text.chars().filter(|char| char.len_utf8() <= 3).collect();
    kept.truncate(kept.floor_char_boundary(bytes));
    // WeChat Pay wants some description, and a name may be emoji alone.
    if kept.trim().is_empty() { "积分".into() } else { kept }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_travels_encoded_and_a_star_does_not() {
        let order_no = "A_b-c|d*9".parse().expect("an order number");
        assert_eq!(order_path(&order_no), "/v3/pay/transactions/out-trade-no/A_b-c%7Cd*9");
    }

    #[test]
    fn a_description_is_cut_in_bytes_between_characters() {
        assert_eq!(cut_to_bytes("积分", 5), "积");
        assert_eq!(cut_to_bytes("积分", 6), "积分");
        assert_eq!(cut_to_bytes("a😀b", 127), "ab");
        assert_eq!(cut_to_bytes("😀", 127), "积分");
    }

    #[test]
    fn times_are_china_times_without_fractions() {
        let at = DateTime::from_timestamp(1_795_000_000, 999_999_999).expect("an instant");
        assert_eq!(china_time(at), "2026-11-18T19:06:40+08:00");
    }
}
