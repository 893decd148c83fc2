//! The cryptography of the protocol: RSA signatures and the AES-256-GCM resource.
//!
//! It is written against the protocol alone and shares nothing with the service under test.
//! Requests are verified with `rsa`; answers and callbacks are signed with `aws-lc-rs`, because a
//! load test is mostly signatures. The tests verify with the one what the other has signed.

use aes_gcm::{
    Aes256Gcm, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use rand::{RngExt, distr::Alphanumeric};
use rsa::{
    RsaPublicKey,
    pkcs1v15::{Signature, VerifyingKey},
    sha2::{Digest, Sha256},
    signature::Verifier as _,
};
use serde::Serialize;
use x509_parser::pem::parse_x509_pem;

/// Signs with RSASSA-PKCS1-v1_5 and SHA-256, the algorithm of `WECHATPAY2-SHA256-RSA2048`.
#[derive(Clone, Debug)]
pub struct Signer(Arc<RsaKeyPair>);

impl Signer {
    /// Reads a private key, PKCS#8 PEM.
    pub fn from_pem(pem: &str) -> anyhow::Result<Self> {
        let (_, pem) = parse_x509_pem(pem.as_bytes()).context("not a PEM file")?;
        let key = RsaKeyPair::from_pkcs8(&pem.contents).context("not a PKCS#8 RSA key")?;
        Ok(Self(Arc::new(key)))
    }

    /// The signature of `message` in standard base64.
    pub fn sign(&self, message: &[u8]) -> anyhow::Result<String> {
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).context("the key cannot sign")?;
        Ok(BASE64_STANDARD.encode(signature))
    }
}

/// Whether `signature` (base64) is that of `message` under `key`.
pub fn verify(key: &VerifyingKey<Sha256>, message: &[u8], signature: &str) -> bool {
    let Ok(bytes) = BASE64_STANDARD.decode(signature) else { return false };
    let Ok(signature) = Signature::try_from(bytes.as_slice()) else { return false };
    key.verify(message, &signature).is_ok()
}

/// The verifying half of a public key.
pub fn verifier(key: RsaPublicKey) -> VerifyingKey<Sha256> {
    VerifyingKey::new(key)
}

/// An encrypted resource as it stands in callbacks and in the certificate list (section 4.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sealed {
    /// `AEAD_AES_256_GCM`.
    pub algorithm: &'static str,
    /// Base64 of the ciphertext and its 16-byte tag.
    pub ciphertext: String,
    /// Bound to the ciphertext, not secret.
    pub associated_data: String,
    /// The IV: 12 ASCII characters.
    pub nonce: String,
}

/// Encrypts `plain` under the APIv3 key with a fresh nonce.
///
/// # Errors
/// When the key is not 32 bytes long.
pub fn seal(api_key: &str, associated_data: &str, plain: &[u8]) -> anyhow::Result<Sealed> {
    let cipher = Aes256Gcm::new_from_slice(api_key.as_bytes())
        .map_err(|_| anyhow!("an APIv3 key has exactly 32 bytes, this one {}", api_key.len()))?;
    let nonce = alphanumeric(12);
    let iv = <&Nonce<_>>::try_from(nonce.as_bytes()).context("the nonce is not 12 bytes")?;
    let ciphertext = cipher
        .encrypt(iv, Payload { msg: plain, aad: associated_data.as_bytes() })
        .map_err(|_| anyhow!("the plaintext is too long"))?;
    Ok(Sealed {
        algorithm: "AEAD_AES_256_GCM",
        ciphertext: BASE64_STANDARD.encode(ciphertext),
        associated_data: associated_data.to_owned(),
        nonce,
    })
}

/// Upper-case hexadecimal SHA-256, for telling whether two requests are the same.
pub fn digest(bytes: &[u8]) -> String {
    hex::encode_upper(Sha256::digest(bytes))
}

/// `length` random characters of `[0-9A-Za-z]`.
pub fn alphanumeric(length: usize) -> String {
    rand::rng().sample_iter(Alphanumeric).take(length).map(char::from).collect()
}

/// `length` random decimal digits.
pub fn digits(length: usize) -> String {
    let mut rng = rand::rng();
    (0..length).map(|_| char::from(rng.random_range(b'0'..=b'9'))).collect()
}

/// `length` random bytes in lower-case hexadecimal, so twice as many characters.
pub fn hex_bytes(length: usize) -> String {
    let bytes: Vec<u8> = (0..length).map(|_| rand::rng().random()).collect();
    hex::encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef0123456789ABCDEF";

    fn open(key: &str, sealed: &Sealed) -> Option<Vec<u8>> {
        let cipher = Aes256Gcm::new_from_slice(key.as_bytes()).unwrap();
        let msg = BASE64_STANDARD.decode(&sealed.ciphertext).unwrap();
        let iv = <&Nonce<_>>::try_from(sealed.nonce.as_bytes()).unwrap();
        let aad = sealed.associated_data.as_bytes();
        cipher.decrypt(iv, Payload { msg: &msg, aad }).ok()
    }

    #[test]
    fn what_is_sealed_opens_under_the_same_key_and_data_only() {
        let mut sealed = seal(KEY, "transaction", b"{\"a\":1}").unwrap();
        assert_eq!(sealed.nonce.len(), 12);
        assert_eq!(open(KEY, &sealed).unwrap(), b"{\"a\":1}");
        assert_eq!(open("another-key-of-exactly-32-bytes!", &sealed), None);
        sealed.associated_data = "refund".to_owned();
        assert_eq!(open(KEY, &sealed), None);
    }

    #[test]
    fn what_one_library_signs_the_other_verifies() {
        use rsa::pkcs8::DecodePublicKey;
        let key = crate::keys::generate_key().unwrap();
        let spki = rcgen::PublicKeyData::subject_public_key_info(&key);
        let verifier = verifier(RsaPublicKey::from_public_key_der(&spki).unwrap());
        let signer = Signer::from_pem(&key.serialize_pem()).unwrap();
        let signature = signer.sign(b"message").unwrap();
        assert_eq!(signature.len(), 344);
        assert!(verify(&verifier, b"message", &signature));
        assert!(!verify(&verifier, b"another", &signature));
        assert!(!verify(&verifier, b"message", "WECHATPAY/SIGNTEST/x"));
    }

    #[test]
    fn a_short_key_is_refused() {
        assert!(seal("short", "", b"").is_err());
    }
}
