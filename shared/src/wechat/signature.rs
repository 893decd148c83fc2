//! Signatures: RSASSA-PKCS1-v1_5 with SHA-256 over a few lines of text (wechatpay-v3.md §1.4, §2.2).

use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    rsa::KeyPair,
    signature::{self, KeyPair as _, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use rand::distr::{Alphanumeric, SampleString};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject};

/// Signatures of WeChat Pay's that are wrong on purpose begin with this (wechatpay-v3.md §3).
pub const PROBE_PREFIX: &str = "WECHATPAY/SIGNTEST/";

/// How far a timestamp may be from our clock, in seconds, to either side.
pub const FRESHNESS_SECONDS: u64 = 300;

/// The signature is missing, malformed, or not the key's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not match")]
pub struct BadSignature;

/// The key could not be used.
#[derive(Debug, thiserror::Error)]
pub enum BadKey {
    /// Not the PEM of such a key.
    #[error("not a PEM of {0}")]
    Pem(&'static str),
    /// PEM, but not an RSA key of 2048 bits or more.
    #[error("not an RSA key of 2048 to 8192 bits")]
    Rsa,
}

/// The merchant's private key and the serial number of its certificate: signs what we send.
pub struct Signer {
    mch_id: String,
    serial_no: String,
    key: KeyPair,
}

impl Signer {
    /// Reads a PKCS#8 or PKCS#1 PEM. `serial_no` is the merchant certificate's, upper-case hex.
    ///
    /// # Errors
    /// [`BadKey`] when the text is no such PEM, or no RSA key of a usable size.
    pub fn from_pem(mch_id: String, serial_no: String, pem: &[u8]) -> Result<Self, BadKey> {
        let der = PrivateKeyDer::from_pem_slice(pem).map_err(|_| BadKey::Pem("a private key"))?;
        let key = match &der {
            PrivateKeyDer::Pkcs1(der) => KeyPair::from_der(der.secret_pkcs1_der()),
            PrivateKeyDer::Pkcs8(der) => KeyPair::from_pkcs8(der.secret_pkcs8_der()),
            _ => return Err(BadKey::Pem("a PKCS#8 or PKCS#1 private key")),
        };
        Ok(Self { mch_id, serial_no, key: key.map_err(|_| BadKey::Rsa)? })
    }

    /// The public half, as `SubjectPublicKeyInfo` DER.
    pub fn public_key_der(&self) -> Vec<u8> {
        self.key.public_key().as_der().map(|der| der.as_ref().to_vec()).unwrap_or_default()
    }

    /// Signs `message`; standard base64.
    pub fn sign(&self, message: &[u8]) -> String {
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
            .expect("a key that was accepted signs any message, and the buffer has its length");
        STANDARD.encode(signature)
    }

    /// The `Authorization` of a request: `target` is the path and query exactly as sent, `body` the exact bytes
    /// (wechatpay-v3.md §1.3). Every repeat needs a new one.
    pub fn authorization(&self, method: &str, target: &str, body: &[u8], now: DateTime<Utc>) -> String {
        let nonce = Alphanumeric.sample_string(&mut rand::rng(), 32);
        self.authorization_with(method, target, body, now.timestamp(), &nonce)
    }

    fn authorization_with(&self, method: &str, target: &str, body: &[u8], timestamp: i64, nonce: &str) -> String {
        let mut message = format!("{method}\n{target}\n{timestamp}\n{nonce}\n").into_bytes();
        message.extend_from_slice(body);
        message.push(b'\n');
        format!(
            r#"WECHATPAY2-SHA256-RSA2048 mchid="{}",nonce_str="{nonce}",signature="{}",timestamp="{timestamp}",serial_no="{}""#,
            self.mch_id,
            self.sign(&message),
            self.serial_no,
        )
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer")
            .field("mch_id", &self.mch_id)
            .field("serial_no", &self.serial_no)
            .finish_non_exhaustive()
    }
}

/// Parses a public key once, for many verifications.
///
/// # Errors
/// [`BadKey`] when `spki_der` is no RSA `SubjectPublicKeyInfo` of a usable size.
pub fn parse_public_key(spki_der: &[u8]) -> Result<ParsedPublicKey, BadKey> {
    signature::UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, spki_der).parse().map_err(|_| BadKey::Rsa)
}

/// The signed parts of an answer or a callback, as they stand in its headers.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// `Wechatpay-Timestamp`, unix seconds.
    pub timestamp: &'a str,
    /// `Wechatpay-Nonce`.
    pub nonce: &'a str,
    /// `Wechatpay-Signature`, standard base64, or a probe.
    pub signature: &'a str,
}

impl Signed<'_> {
    /// Verifies the signature over the exact bytes of `body` (wechatpay-v3.md §2.2).
    ///
    /// # Errors
    /// [`BadSignature`]; a probe is one too, and so is anything that is no base64.
    pub fn verify(&self, key: &ParsedPublicKey, body: &[u8]) -> Result<(), BadSignature> {
        let signature = STANDARD.decode(self.signature).map_err(|_| BadSignature)?;
        let mut message = Vec::with_capacity(self.timestamp.len() + self.nonce.len() + body.len() + 3);
        for line in [self.timestamp.as_bytes(), self.nonce.as_bytes(), body] {
            message.extend_from_slice(line);
            message.push(b'\n');
        }
        key.verify_sig(&message, &signature).map_err(|_| BadSignature)
    }

    /// Whether the timestamp is a number within [`FRESHNESS_SECONDS`] of `now`.
    pub fn is_fresh(&self, now: DateTime<Utc>) -> bool {
        let decimal = !self.timestamp.is_empty() && self.timestamp.bytes().all(|byte| byte.is_ascii_digit());
        // abs_diff: a hostile timestamp must not overflow.
        decimal && self.timestamp.parse::<i64>().is_ok_and(|then| now.timestamp().abs_diff(then) <= FRESHNESS_SECONDS)
    }

    /// Whether it is wrong on purpose. Good for the log only: verification fails by itself.
    pub fn is_probe(&self) -> bool {
        self.signature.starts_with(PROBE_PREFIX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY_PKCS8: &[u8] = include_bytes!("../../tests/fixtures/openssl/merchant.pkcs8.pem");
    const KEY_PKCS1: &[u8] = include_bytes!("../../tests/fixtures/openssl/merchant.pkcs1.pem");
    const REQUEST: &str = include_str!("../../tests/fixtures/openssl/request.txt");
    const REQUEST_SIGNATURE: &str = include_str!("../../tests/fixtures/openssl/request.sig.b64");
    const CALLBACK_BODY: &[u8] = include_bytes!("../../tests/fixtures/openssl/callback.body");
    const CALLBACK_SIGNATURE: &str = include_str!("../../tests/fixtures/openssl/callback.sig.b64");
    const PLATFORM_KEY: &[u8] = include_bytes!("../../tests/fixtures/openssl/platform.pub.pem");

    fn signer(pem: &[u8]) -> Signer {
        Signer::from_pem("1900000100".into(), "408B07E79B8269FEC3D5D3E6AB8ED163A6A380DB".into(), pem).expect("a key")
    }

    fn platform_key() -> ParsedPublicKey {
        let der = rustls_pki_types::SubjectPublicKeyInfoDer::from_pem_slice(PLATFORM_KEY).expect("a public key");
        parse_public_key(&der).expect("an RSA key")
    }

    fn callback() -> Signed<'static> {
        Signed {
            timestamp: "1795000000",
            nonce: "593BEC0C930BF1AFEB40B4A08C8FB242",
            signature: CALLBACK_SIGNATURE.trim_end(),
        }
    }

    #[test]
    fn openssl_and_we_sign_alike_with_both_forms_of_the_key() {
        for pem in [KEY_PKCS8, KEY_PKCS1] {
            let authorization = signer(pem).authorization_with(
                "POST",
                "/v3/pay/transactions/native",
                br#"{"mchid":"1900000100"}"#,
                1_795_000_000,
                "593BEC0C930BF1AFEB40B4A08C8FB242",
            );
            assert!(REQUEST.ends_with("{\"mchid\":\"1900000100\"}\n"));
            assert_eq!(
                authorization,
                format!(
                    r#"WECHATPAY2-SHA256-RSA2048 mchid="1900000100",nonce_str="593BEC0C930BF1AFEB40B4A08C8FB242",signature="{}",timestamp="1795000000",serial_no="408B07E79B8269FEC3D5D3E6AB8ED163A6A380DB""#,
                    REQUEST_SIGNATURE.trim_end()
                )
            );
        }
    }

    #[test]
    fn what_openssl_signed_verifies() {
        assert_eq!(callback().verify(&platform_key(), CALLBACK_BODY), Ok(()));
    }

    #[test]
    fn any_change_breaks_the_signature() {
        let key = platform_key();
        let mut body = CALLBACK_BODY.to_vec();
        body[10] ^= 1;
        assert_eq!(callback().verify(&key, &body), Err(BadSignature));
        assert_eq!(callback().verify(&key, &CALLBACK_BODY[1..]), Err(BadSignature));
        for changed in [
            Signed { timestamp: "1795000001", ..callback() },
            Signed { nonce: "x", ..callback() },
            Signed { signature: "", ..callback() },
            Signed { signature: "WECHATPAY/SIGNTEST/x", ..callback() },
            Signed { signature: REQUEST_SIGNATURE.trim_end(), ..callback() },
        ] {
            assert_eq!(changed.verify(&key, CALLBACK_BODY), Err(BadSignature), "{changed:?}");
        }
    }

    #[test]
    fn a_timestamp_is_fresh_for_five_minutes_to_either_side() {
        let now = DateTime::from_timestamp(1_795_000_000, 0).expect("an instant");
        for (timestamp, fresh) in [
            ("1795000000", true),
            ("1794999700", true),
            ("1795000300", true),
            ("1794999699", false),
            ("1795000301", false),
            ("-9223372036854775808", false),
            ("9223372036854775807", false),
            ("99999999999999999999", false),
            ("+1795000000", false),
            ("1795000000000", false),
            ("1.795e9", false),
            ("", false),
        ] {
            assert_eq!(Signed { timestamp, ..callback() }.is_fresh(now), fresh, "{timestamp}");
        }
    }

    #[test]
    fn a_text_that_is_no_key_is_refused() {
        assert!(matches!(Signer::from_pem("m".into(), "s".into(), b"hello"), Err(BadKey::Pem(_))));
        assert!(matches!(Signer::from_pem("m".into(), "s".into(), PLATFORM_KEY), Err(BadKey::Pem(_))));
    }
}
