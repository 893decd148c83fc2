//! Payment callbacks as WeChat Pay sends them, signed and encrypted, as the bytes of one HTTP request.

use anyhow::Context;
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    encoding::AsDer,
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::{KeyPair as _, RSA_PKCS1_SHA256},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{DateTime, FixedOffset, SecondsFormat};
use rand::distr::{Alphanumeric, SampleString};

/// Where callbacks go.
const PATH: &str = "/api/payment/notify/wechat";
/// What every order of a benchmark costs, in fen.
pub const AMOUNT_FEN: i64 = 100;
/// What of it a coupon paid, so that a body has the length of those that carry one.
const COUPON_FEN: i64 = 10;

/// Who sends: WeChat Pay with a key pair of its own, to one merchant.
pub struct Sender {
    key: KeyPair,
    /// `PUB_KEY_ID_…`
    pub key_id: String,
    api_key: LessSafeKey,
    /// The `APIv3` key, 32 characters.
    pub api_key_text: String,
    /// The merchant's app.
    pub app_id: String,
    /// The merchant.
    pub mch_id: String,
}

impl Sender {
    /// A sender with new keys.
    pub fn generate() -> anyhow::Result<Self> {
        let key = KeyPair::generate(KeySize::Rsa2048).context("no RSA key could be made")?;
        let api_key_text = Alphanumeric.sample_string(&mut rand::rng(), 32);
        let api_key = UnboundKey::new(&AES_256_GCM, api_key_text.as_bytes()).context("32 bytes are a key")?;
        Ok(Self {
            key,
            key_id: "PUB_KEY_ID_0119000001002026112200000000000001".into(),
            api_key: LessSafeKey::new(api_key),
            api_key_text,
            app_id: "wxd678efh567hg6787".into(),
            mch_id: "1900000100".into(),
        })
    }

    /// The public key that verifies what it signs, PEM.
    pub fn public_key_pem(&self) -> anyhow::Result<String> {
        let der = self.key.public_key().as_der().context("a key has an encoding")?;
        let base64 = BASE64_STANDARD.encode(der.as_ref());
        let lines: Vec<_> = base64.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        Ok(format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n")))
    }

    /// The request that tells of the payment of `order_no` under `transaction_id`, sent at `timestamp` (unix seconds).
    pub fn request(&self, order_no: &str, transaction_id: &str, timestamp: i64) -> anyhow::Result<Vec<u8>> {
        let body = self.body(order_no, transaction_id, timestamp)?;
        let nonce = Alphanumeric.sample_string(&mut rand::rng(), 32);
        let signature = self.sign(format!("{timestamp}\n{nonce}\n{body}\n").as_bytes())?;
        let (key_id, length) = (&self.key_id, body.len());
        Ok(format!(
            "POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: Mozilla/4.0\r\nAccept: */*\r\nPragma: no-cache\r\n\
             Connection: Keep-Alive\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
             Request-ID: 08{nonce}-0\r\nWechatpay-Nonce: {nonce}\r\nWechatpay-Signature: {signature}\r\n\
             Wechatpay-Timestamp: {timestamp}\r\nWechatpay-Serial: {key_id}\r\n\
             Wechatpay-Signature-Type: WECHATPAY2-SHA256-RSA2048\r\n\r\n{body}"
        )
        .into_bytes())
    }

    fn body(&self, order_no: &str, transaction_id: &str, timestamp: i64) -> anyhow::Result<String> {
        let china = FixedOffset::east_opt(8 * 3_600).context("eight hours are an offset")?;
        let at = DateTime::from_timestamp(timestamp, 0).context("a timestamp is an instant")?;
        let at = at.with_timezone(&china).to_rfc3339_opts(SecondsFormat::Secs, false);
        let (mch_id, app_id, paid) = (&self.mch_id, &self.app_id, AMOUNT_FEN - COUPON_FEN);
        let plaintext = format!(
            r#"{{"mchid":"{mch_id}","appid":"{app_id}","out_trade_no":"{order_no}","transaction_id":"{transaction_id}","trade_type":"NATIVE","trade_state":"SUCCESS","trade_state_desc":"支付成功","bank_type":"OTHERS","attach":"","success_time":"{at}","payer":{{"openid":"oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"}},"amount":{{"total":{AMOUNT_FEN},"payer_total":{paid},"currency":"CNY","payer_currency":"CNY"}},"promotion_detail":[{{"coupon_id":"10000000001","name":"1元代金券","scope":"GLOBAL","type":"NOCASH","amount":{COUPON_FEN},"stock_id":"10000001","wechatpay_contribute":0,"merchant_contribute":{COUPON_FEN},"other_contribute":0,"currency":"CNY"}}]}}"#
        );
        let nonce = Alphanumeric.sample_string(&mut rand::rng(), 12);
        let ciphertext = BASE64_STANDARD.encode(self.seal(&nonce, plaintext.into_bytes())?);
        let id = uuid_like();
        Ok(format!(
            r#"{{"id":"{id}","create_time":"{at}","resource_type":"encrypt-resource","event_type":"TRANSACTION.SUCCESS","summary":"支付成功","resource":{{"original_type":"transaction","algorithm":"AEAD_AES_256_GCM","ciphertext":"{ciphertext}","associated_data":"transaction","nonce":"{nonce}"}}}}"#
        ))
    }

    fn seal(&self, nonce: &str, mut text: Vec<u8>) -> anyhow::Result<Vec<u8>> {
        let nonce = Nonce::try_assume_unique_for_key(nonce.as_bytes()).context("twelve bytes are a nonce")?;
        self.api_key.seal_in_place_append_tag(nonce, Aad::from("transaction"), &mut text).context("it is short")?;
        Ok(text)
    }

    fn sign(&self, message: &[u8]) -> anyhow::Result<String> {
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).context("the key signs")?;
        Ok(BASE64_STANDARD.encode(signature))
    }
}

/// 36 characters in the shape of a UUID, as the ids of notifications are.
fn uuid_like() -> String {
    let hex = format!("{:032x}", rand::random::<u128>());
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys;
    use shared::{
        config::{self, Env},
        notify::{Fact, NotifyHeaders},
        wechat::{Opener, signature::Signed},
    };
    use std::{collections::BTreeMap, sync::Arc};

    /// Headers by their lower-case names, and the body.
    fn parts(request: &[u8]) -> (BTreeMap<String, String>, Vec<u8>) {
        let text = String::from_utf8(request.to_vec()).expect("UTF-8");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let headers = head.lines().skip(1).map(|line| line.split_once(": ").expect("a header"));
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        (headers, body.as_bytes().to_vec())
    }

    #[test]
    fn the_service_opens_what_is_sent_with_the_environment_that_is_made() {
        let sender = Sender::generate().expect("keys");
        let folder = std::env::temp_dir().join(format!("recharge-bench-test-{}", std::process::id()));
        let mut env = Env::default();
        for (name, value) in keys::write(&sender, &folder).expect("files") {
            env.set(&name, &value);
        }
        let (merchant, ring) = config::merchant(&mut env).unwrap_or_else(|| panic!("{}", env.faults()));
        std::fs::remove_dir_all(&folder).expect("it is ours");

        let now = 1_795_000_000;
        let request = sender.request("bench0123456789", "4200000000000000000000000001", now).expect("a request");
        let (headers, body) = parts(&request);
        assert_eq!(headers["content-length"], body.len().to_string());
        assert!((1_100..1_400).contains(&body.len()), "{} bytes are not what a callback has", body.len());
        let signed = Signed {
            timestamp: &headers["wechatpay-timestamp"],
            nonce: &headers["wechatpay-nonce"],
            signature: &headers["wechatpay-signature"],
        };
        assert!(signed.is_fresh(DateTime::from_timestamp(now + 299, 0).expect("an instant")));

        let stored = NotifyHeaders {
            wechatpay_timestamp: signed.timestamp.into(),
            wechatpay_nonce: signed.nonce.into(),
            wechatpay_signature: signed.signature.into(),
            wechatpay_serial: headers["wechatpay-serial"].clone(),
            wechatpay_signature_type: None,
            request_id: None,
            content_type: None,
            user_agent: None,
        };
        let opened = Opener::new(Arc::new(merchant), Arc::new(ring)).open(&stored, &body);
        let Ok(Fact::Payment(payment)) = opened.fact else { panic!("{opened:?}") };
        assert_eq!(payment.order_no.as_str(), "bench0123456789");
        assert_eq!(payment.transaction_id.as_str(), "4200000000000000000000000001");
        assert_eq!(payment.amount.get(), AMOUNT_FEN);
    }
}
