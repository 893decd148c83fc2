//! WeChat Pay's keys: the public key of public-key mode and the platform certificates, held at once and chosen by the
//! serial that each answer and callback names (wechatpay-v3.md §2.3 to §2.5).

use super::{
    resource::{ApiV3Key, Resource},
    signature::{BadKey, Signed, parse_public_key},
};
use crate::notify::Fault;
use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::ParsedPublicKey,
};
use chrono::{DateTime, Utc};
use rustls_pki_types::{SubjectPublicKeyInfoDer, pem::PemObject};
use serde::Deserialize;
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};
use x509_parser::{pem::parse_x509_pem, prelude::X509Certificate};

/// A key that verifies what WeChat Pay signs.
pub struct PlatformKey {
    /// `PUB_KEY_ID_…` or a certificate's serial. An opaque text, never a number.
    pub id: String,
    /// SHA-256 of its DER.
    fingerprint: [u8; 32],
    key: ParsedPublicKey,
    /// When its certificate ends; a bare public key does not.
    expires_at: Option<DateTime<Utc>>,
}

impl PlatformKey {
    /// A key of public-key mode, from its `BEGIN PUBLIC KEY` PEM.
    ///
    /// # Errors
    /// [`BadKey`] when the text is no such PEM, or no RSA key of a usable size.
    pub fn from_public_key_pem(id: String, pem: &[u8]) -> Result<Self, BadKey> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| BadKey::Pem("a public key"))?;
        Ok(Self { id, fingerprint: sha256(&der), key: parse_public_key(&der)?, expires_at: None })
    }

    /// A platform certificate, from its PEM. Its id is its serial number.
    ///
    /// # Errors
    /// [`BadKey`] when the text is no certificate, or holds no RSA key of a usable size.
    pub fn from_certificate_pem(pem: &[u8]) -> Result<Self, BadKey> {
        read_certificate(pem, |certificate| {
            let der = certificate.tbs_certificate.subject_pki.raw;
            let (fingerprint, key) = (sha256(der), parse_public_key(der)?);
            let expires_at = DateTime::from_timestamp(certificate.validity().not_after.timestamp(), 0);
            Ok(Self { id: serial_no(certificate), fingerprint, key, expires_at })
        })
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

impl std::fmt::Debug for PlatformKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PlatformKey")
            .field("id", &self.id)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// A merchant certificate's serial number, as `Authorization` names it, and the public key it vouches for, as
/// `SubjectPublicKeyInfo` DER.
///
/// # Errors
/// [`BadKey::Pem`] when the text is no certificate.
pub fn read_merchant_certificate(pem: &[u8]) -> Result<(String, Vec<u8>), BadKey> {
    read_certificate(pem, |certificate| {
        Ok((serial_no(certificate), certificate.tbs_certificate.subject_pki.raw.to_vec()))
    })
}

fn read_certificate<T>(pem: &[u8], read: impl FnOnce(&X509Certificate<'_>) -> Result<T, BadKey>) -> Result<T, BadKey> {
    let (_, pem) = parse_x509_pem(pem).map_err(|_| BadKey::Pem("a certificate"))?;
    let certificate = pem.parse_x509().map_err(|_| BadKey::Pem("a certificate"))?;
    read(&certificate)
}

/// Upper-case hex, without the leading zero byte that DER puts before a high bit.
fn serial_no(certificate: &X509Certificate<'_>) -> String {
    let bytes = certificate.raw_serial();
    let bytes = bytes.strip_prefix(&[0]).unwrap_or(bytes);
    bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().concat()
}

/// All keys that may verify something now.
#[derive(Debug, Default)]
pub struct KeyRing {
    by_id: RwLock<HashMap<String, Arc<PlatformKey>>>,
}

/// One entry of `GET /v3/certificates` (wechatpay-v3.md §2.4).
#[derive(Debug, Deserialize)]
pub(super) struct CertificateEntry<'a> {
    serial_no: String,
    #[serde(borrow)]
    encrypt_certificate: Resource<'a>,
}

/// The answer of `GET /v3/certificates`.
#[derive(Debug, Deserialize)]
pub(super) struct CertificateList<'a> {
    #[serde(borrow)]
    data: Vec<CertificateEntry<'a>>,
}

impl CertificateList<'_> {
    /// Decrypts the certificates. To have opened under the `APIv3` key authenticates them; that is how the first list can
    /// be trusted, which is signed by a key that is inside it.
    pub(super) fn open(&self, api_key: &ApiV3Key) -> Result<Vec<PlatformKey>, &'static str> {
        self.data
            .iter()
            .map(|entry| {
                let pem = api_key
                    .open(&entry.encrypt_certificate)
                    .map_err(|_| "a certificate does not open; is WECHAT_PAY_API_KEY right?")?;
                let key = PlatformKey::from_certificate_pem(&pem).map_err(|_| "a certificate cannot be read")?;
                if key.id == entry.serial_no { Ok(key) } else { Err("a certificate has another serial number") }
            })
            .collect()
    }
}

impl KeyRing {
    /// A ring with the key of public-key mode, when there is one.
    pub fn new(public_key: Option<PlatformKey>) -> Self {
        let ring = Self::default();
        ring.add(public_key);
        ring
    }

    /// The key with this id, if it is held.
    pub fn get(&self, id: &str) -> Option<Arc<PlatformKey>> {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Whether nothing can be verified.
    pub fn is_empty(&self) -> bool {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// The same for two rings that hold the same keys.
    pub fn fingerprint(&self) -> [u8; 32] {
        let by_id = self.by_id.read().unwrap_or_else(PoisonError::into_inner);
        let mut keys: Vec<_> = by_id.values().map(|key| [key.id.as_bytes(), &key.fingerprint].concat()).collect();
        keys.sort_unstable();
        sha256(&keys.concat())
    }

    /// Adds keys, beside those that are held.
    pub(super) fn add(&self, keys: impl IntoIterator<Item = PlatformKey>) {
        let mut by_id = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        by_id.extend(keys.into_iter().map(|key| (key.id.clone(), Arc::new(key))));
    }

    /// Forgets certificates that have ended.
    pub(super) fn drop_expired(&self, now: DateTime<Utc>) {
        let mut by_id = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        by_id.retain(|_, key| key.expires_at.is_none_or(|expires_at| expires_at > now));
    }

    /// Verifies `signed` over `body` by the key that `serial` names. Does not judge the timestamp.
    ///
    /// # Errors
    /// [`Fault::KeyUnavailable`], [`Fault::SignatureProbe`] or [`Fault::SignatureInvalid`].
    pub fn verify(&self, serial: &str, signed: &Signed<'_>, body: &[u8]) -> Result<(), Fault> {
        let Some(platform) = self.get(serial) else { return Err(Fault::KeyUnavailable) };
        signed
            .verify(&platform.key, body)
            .map_err(|_| if signed.is_probe() { Fault::SignatureProbe } else { Fault::SignatureInvalid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATE: &[u8] = include_bytes!("../../tests/fixtures/openssl/merchant.cert.pem");
    const PUBLIC_KEY: &[u8] = include_bytes!("../../tests/fixtures/openssl/platform.pub.pem");
    const PRIVATE_KEY: &[u8] = include_bytes!("../../tests/fixtures/openssl/merchant.pkcs8.pem");

    #[test]
    fn a_certificate_of_openssls_gives_its_serial_and_its_key() {
        let (serial, public_key) = read_merchant_certificate(CERTIFICATE).expect("a certificate");
        assert_eq!(serial, "408B07E79B8269FEC3D5D3E6AB8ED163A6A380DB");
        let signer = super::super::Signer::from_pem("m".into(), serial, PRIVATE_KEY).expect("a key");
        assert_eq!(signer.public_key_der(), public_key);
    }

    #[test]
    fn both_key_modes_are_held_at_once() {
        let ring = KeyRing::new(PlatformKey::from_public_key_pem("PUB_KEY_ID_1".into(), PUBLIC_KEY).ok());
        ring.add(PlatformKey::from_certificate_pem(CERTIFICATE));
        assert!(ring.get("PUB_KEY_ID_1").is_some());
        assert!(ring.get("408B07E79B8269FEC3D5D3E6AB8ED163A6A380DB").is_some());
        assert!(ring.get("408b07e79b8269fec3d5d3e6ab8ed163a6a380db").is_none(), "an id is compared exactly");

        ring.drop_expired(DateTime::from_timestamp(9_000_000_000, 0).expect("an instant"));
        assert!(ring.get("PUB_KEY_ID_1").is_some(), "a bare key does not expire");
        assert!(ring.get("408B07E79B8269FEC3D5D3E6AB8ED163A6A380DB").is_none());
    }

    #[test]
    fn a_text_that_is_no_certificate_is_refused() {
        assert!(PlatformKey::from_certificate_pem(PUBLIC_KEY).is_err());
        assert!(PlatformKey::from_public_key_pem("x".into(), b"").is_err());
        assert!(read_merchant_certificate(b"nonsense").is_err());
    }
}
