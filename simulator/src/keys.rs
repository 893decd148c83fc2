//! Who signs: the merchant's registered certificate and WeChat Pay's own keys.
//!
//! The files behind it are the business of [`files`]; rotation changes memory only, because
//! several simulators may share one directory.

pub mod files;

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, PKCS_RSA_SHA256, RsaKeySize,
    SerialNumber,
};
use rsa::{pkcs1v15::VerifyingKey, sha2::Sha256};

use crate::{
    config::KeyMode,
    crypto::{self, Signer},
};

/// A serial that belongs to no key of WeChat Pay.
pub const UNKNOWN_SERIAL: &str = "5157F09EFDC096DE15EBE81A47057A7232F1B8E1";

/// The merchant as WeChat Pay knows it.
#[derive(Clone, Debug)]
pub struct Merchant {
    /// `appid`, bound to the merchant number.
    pub app_id: String,
    /// Merchant number, 10 digits.
    pub mch_id: String,
    /// APIv3 key, 32 characters.
    pub api_key: String,
    /// Serial number of the API certificate, 40 upper-case hexadecimal digits.
    pub serial: String,
    /// Verifies the merchant's requests.
    pub verifier: VerifyingKey<Sha256>,
}

/// A signing key and the name that `Wechatpay-Serial` gives it.
#[derive(Clone, Debug)]
pub struct NamedKey {
    /// `PUB_KEY_ID_…` or a certificate's serial number.
    pub serial: String,
    /// The private half.
    pub signer: Signer,
}

/// A platform certificate.
#[derive(Clone, Debug)]
pub struct PlatformCertificate {
    /// Serial and private key.
    pub key: NamedKey,
    /// The certificate, PEM.
    pub pem: String,
    /// From when it is valid.
    pub effective_at: DateTime<Utc>,
    /// Until when it is valid.
    pub expires_at: DateTime<Utc>,
}

/// All keys of one simulator.
#[derive(Clone, Debug)]
pub struct Keyring {
    /// The one merchant.
    pub merchant: Merchant,
    /// The platform public key's private half.
    pub public_key: NamedKey,
    /// Platform certificates, oldest first, never empty.
    pub certificates: Vec<PlatformCertificate>,
    /// A key that is not WeChat Pay's, for forgeries.
    pub forger: Signer,
}

impl Keyring {
    /// The certificate that signs: the newest.
    pub fn certificate(&self) -> &PlatformCertificate {
        // `files::load` puts one in and nothing takes the last one out.
        &self.certificates[self.certificates.len() - 1]
    }

    /// The key for an answer, by the mode and the request's `Wechatpay-Serial` (section 2.3).
    ///
    /// `None`: the request asks for a public key that does not exist.
    pub fn for_answer(&self, mode: KeyMode, asked: Option<&str>) -> Option<&NamedKey> {
        let asked = asked.filter(|serial| serial.starts_with("PUB_KEY_ID_"));
        match (mode, asked) {
            (KeyMode::Certificate, _) | (KeyMode::Mixed, None) => Some(&self.certificate().key),
            (KeyMode::PublicKey, None) => Some(&self.public_key),
            (_, Some(id)) => (id == self.public_key.serial).then_some(&self.public_key),
        }
    }

    /// Whether `serial` names a key of WeChat Pay that can decrypt fields now.
    pub fn knows(&self, mode: KeyMode, serial: &str) -> bool {
        let certificate = self.certificates.iter().any(|one| one.key.serial == serial);
        let public_key = self.public_key.serial == serial;
        match mode {
            KeyMode::PublicKey => public_key,
            KeyMode::Certificate => certificate,
            KeyMode::Mixed => public_key || certificate,
        }
    }
}

/// A fresh RSA key of 2048 bits.
pub fn generate_key() -> anyhow::Result<KeyPair> {
    KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).context("cannot make an RSA key")
}

/// A fresh platform certificate, valid for five years from `now`.
pub fn new_platform_certificate(now: DateTime<Utc>) -> anyhow::Result<PlatformCertificate> {
    let key = generate_key()?;
    let issued = issue(&key, &[(DnType::CommonName, "Tenpay.com sign")], now)?;
    platform_certificate(issued, &key.serialize_pem())
}

fn platform_certificate(issued: Issued, key_pem: &str) -> anyhow::Result<PlatformCertificate> {
    Ok(PlatformCertificate {
        key: NamedKey { serial: issued.serial, signer: Signer::from_pem(key_pem)? },
        pem: issued.pem,
        effective_at: issued.effective_at,
        expires_at: issued.expires_at,
    })
}

/// A certificate and what it says about itself.
#[derive(Clone, Debug)]
pub struct Issued {
    /// PEM text.
    pub pem: String,
    /// 40 upper-case hexadecimal digits.
    pub serial: String,
    /// From when it is valid.
    pub effective_at: DateTime<Utc>,
    /// Until when it is valid.
    pub expires_at: DateTime<Utc>,
}

/// Issues a certificate for `key`, signed by a CA that is thrown away at once.
pub fn issue(key: &KeyPair, subject: &[(DnType, &str)], now: DateTime<Utc>) -> anyhow::Result<Issued> {
    const FIVE_YEARS: TimeDelta = TimeDelta::days(5 * 365);
    let ca_key = generate_key()?;
    let mut ca = CertificateParams::default();
    ca.distinguished_name = name(&[(DnType::CommonName, "Simulator Root CA")]);
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = Issuer::new(ca, ca_key);

    let mut serial: Vec<u8> = hex::decode(crypto::hex_bytes(20))?;
    // Positive and without a leading zero, so that it is always 40 digits long.
    serial[0] = serial[0] & 0x3f | 0x40;
    // A minute back, so that a clock slightly behind accepts it.
    let (effective_at, expires_at) = (now - TimeDelta::minutes(1), now + FIVE_YEARS);
    let mut params = CertificateParams::default();
    params.distinguished_name = name(&[
        (DnType::CountryName, "CN"),
        (DnType::LocalityName, "ShenZhen"),
        (DnType::OrganizationName, "Tenpay.com"),
    ]);
    for (kind, value) in subject {
        params.distinguished_name.push(kind.clone(), *value);
    }
    params.serial_number = Some(SerialNumber::from(serial.clone()));
    (params.not_before, params.not_after) =
        (std::time::SystemTime::from(effective_at).into(), std::time::SystemTime::from(expires_at).into());
    let certificate = params.signed_by(key, &ca).context("cannot sign a certificate")?;
    let pem = certificate.pem();
    Ok(Issued { pem, serial: hex::encode_upper(serial), effective_at, expires_at })
}

fn name(parts: &[(DnType, &str)]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    for (kind, value) in parts {
        name.push(kind.clone(), *value);
    }
    name
}
