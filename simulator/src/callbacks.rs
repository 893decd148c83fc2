//! Callbacks as WeChat Pay writes them: the envelope and its signed headers (sections 2.1, 2.2, 3
//! and 4.2 of the protocol reference). Answers are signed in the same way.

mod plaintext;

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    clock::china,
    crypto::{self, Sealed},
    keys::{Keyring, UNKNOWN_SERIAL},
};

pub use plaintext::{Payer, Plaintext, RefundAmount, RefundPlaintext, TransactionAmount, TransactionPlaintext};

/// What a signature probe begins with.
pub const PROBE_PREFIX: &str = "WECHATPAY/SIGNTEST/";

/// The body of a callback before encryption.
#[derive(Clone, Debug)]
pub struct Letter<'a> {
    /// `id`
    pub id: Uuid,
    /// `create_time`
    pub created_at: DateTime<Utc>,
    /// `event_type`
    pub event_type: &'a str,
    /// `summary`
    pub summary: &'a str,
    /// `original_type` and associated data.
    pub original_type: &'a str,
    /// JSON text to encrypt.
    pub plaintext: &'a str,
}

#[derive(Serialize)]
struct Envelope<'a> {
    id: String,
    create_time: String,
    resource_type: &'static str,
    event_type: &'a str,
    summary: &'a str,
    resource: Resource<'a>,
}

#[derive(Serialize)]
struct Resource<'a> {
    original_type: &'a str,
    #[serde(flatten)]
    sealed: Sealed,
}

impl Letter<'_> {
    /// The envelope, encrypted under `api_key` (section 4.2).
    pub fn seal(&self, api_key: &str) -> anyhow::Result<String> {
        let sealed = crypto::seal(api_key, self.original_type, self.plaintext.as_bytes())?;
        let envelope = Envelope {
            id: self.id.hyphenated().to_string(),
            create_time: china(self.created_at),
            resource_type: "encrypt-resource",
            event_type: self.event_type,
            summary: self.summary,
            resource: Resource { original_type: self.original_type, sealed },
        };
        Ok(serde_json::to_string(&envelope)?)
    }
}

/// A notification id: a UUID of version 5, as real ones are.
pub fn new_id() -> Uuid {
    let mut bytes = *Uuid::now_v7().as_bytes();
    for byte in &mut bytes {
        *byte ^= rand::random::<u8>();
    }
    uuid::Builder::from_sha1_bytes(bytes).into_uuid()
}

/// What signs a callback, or pretends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SignedBy {
    /// WeChat Pay's public-key pair.
    PublicKey,
    /// The newest platform certificate.
    Certificate,
    /// Another key, under the true serial.
    Forged,
    /// Another key, under a serial that does not exist.
    UnknownSerial,
    /// Nothing: a signature probe.
    Probe,
}

/// The `Wechatpay-…` headers for `body`. `truly` is who signs the truth now; lies borrow its serial.
pub fn sign(
    keys: &Keyring,
    by: SignedBy,
    truly: SignedBy,
    timestamp: i64,
    body: &[u8],
) -> anyhow::Result<Vec<(&'static str, String)>> {
    let honest = match (by, truly) {
        (SignedBy::Certificate, _) | (_, SignedBy::Certificate) if by != SignedBy::PublicKey => &keys.certificate().key,
        _ => &keys.public_key,
    };
    let nonce = crypto::alphanumeric(32);
    let message = message(timestamp, &nonce, body);
    let (serial, signature) = match by {
        SignedBy::PublicKey | SignedBy::Certificate => (honest.serial.as_str(), honest.signer.sign(&message)?),
        SignedBy::Forged => (honest.serial.as_str(), keys.forger.sign(&message)?),
        SignedBy::UnknownSerial => (UNKNOWN_SERIAL, keys.forger.sign(&message)?),
        SignedBy::Probe => (honest.serial.as_str(), probe()),
    };
    Ok(headers(serial, signature, timestamp, nonce))
}

/// The five headers of a signed message (section 2.1).
pub fn headers(serial: &str, signature: String, timestamp: i64, nonce: String) -> Vec<(&'static str, String)> {
    vec![
        ("Wechatpay-Nonce", nonce),
        ("Wechatpay-Signature", signature),
        ("Wechatpay-Timestamp", timestamp.to_string()),
        ("Wechatpay-Serial", serial.to_owned()),
        ("Wechatpay-Signature-Type", "WECHATPAY2-SHA256-RSA2048".to_owned()),
    ]
}

/// What an answer's or a callback's signature is over (section 2.2).
pub fn message(timestamp: i64, nonce: &str, body: &[u8]) -> Vec<u8> {
    let mut message = format!("{timestamp}\n{nonce}\n").into_bytes();
    message.extend_from_slice(body);
    message.push(b'\n');
    message
}

/// A signature probe: as long as a signature, and none.
pub fn probe() -> String {
    format!("{PROBE_PREFIX}{}", crypto::alphanumeric(325))
}

/// `Request-ID`: hexadecimal and the internal code (section 2.1).
pub fn request_id(internal: u32) -> String {
    format!("08{}-{internal}", crypto::hex_bytes(28).to_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_has_three_lines_and_each_ends() {
        assert_eq!(message(1_722_850_421, "d824f2", b""), b"1722850421\nd824f2\n\n");
        assert_eq!(message(1, "n", b"{}\n"), b"1\nn\n{}\n\n");
    }

    #[test]
    fn the_envelope_has_the_members_in_the_observed_order() {
        let letter = Letter {
            id: new_id(),
            created_at: DateTime::UNIX_EPOCH,
            event_type: "TRANSACTION.SUCCESS",
            summary: "支付成功",
            original_type: "transaction",
            plaintext: "{}",
        };
        let text = letter.seal("0123456789abcdef0123456789ABCDEF").unwrap();
        let at = |member: &str| text.find(&format!("\"{member}\":")).unwrap();
        let order = ["id", "create_time", "resource_type", "event_type", "summary", "resource"];
        assert!(order.windows(2).all(|pair| at(pair[0]) < at(pair[1])), "{text}");
        assert!(text.contains("\"original_type\":\"transaction\",\"algorithm\":\"AEAD_AES_256_GCM\""));
        assert!(text.contains("\"create_time\":\"1970-01-01T08:00:00+08:00\""));
    }

    #[test]
    fn ids_are_uuids_of_version_5_and_differ() {
        assert_eq!(new_id().get_version_num(), 5);
        assert_ne!(new_id(), new_id());
    }

    #[test]
    fn a_probe_is_recognisable() {
        assert!(probe().starts_with(PROBE_PREFIX));
        assert_eq!(probe().len(), 344);
    }
}
