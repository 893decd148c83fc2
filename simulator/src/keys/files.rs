//! The data directory: made once as a whole, then only read, and the merchant's settings file.

use std::{
    fs,
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use rcgen::{DnType, PublicKeyData};
use rsa::{RsaPublicKey, pkcs8::DecodePublicKey};
use x509_parser::pem::parse_x509_pem;

use super::{Issued, Keyring, Merchant, NamedKey, PlatformCertificate, generate_key, issue, platform_certificate};
use crate::{
    config::KeyMode,
    crypto::{self, Signer},
};

/// Every file of the directory; together they are one identity, so they come and go together.
const FILES: [&str; 11] = [
    "app_id",
    "mch_id",
    "apiv3_key",
    "apiclient_key.pem",
    "apiclient_cert.pem",
    "pub_key_id",
    "pub_key.pem",
    "platform_key.pem",
    "platform_cert.pem",
    "platform_cert_key.pem",
    "forged_key.pem",
];

/// Loads the keys in `dir`, making them first when there are none.
///
/// # Errors
/// When the directory holds some of the files but not all: making new ones beside them would
/// mix two identities.
pub fn load_or_make(dir: &Path) -> anyhow::Result<Keyring> {
    let present = FILES.iter().filter(|name| dir.join(name).exists()).count();
    if present == 0 {
        make(dir).with_context(|| format!("cannot make keys in {}", dir.display()))?;
    } else if let Some(missing) = FILES.iter().find(|name| !dir.join(name).exists()) {
        bail!("{} lacks {missing}; remove the directory to make new keys", dir.display());
    }
    load(dir).with_context(|| format!("cannot read the keys in {}", dir.display()))
}

/// Makes a whole set beside `dir` and moves it into place, so that nobody sees half of it.
fn make(dir: &Path) -> anyhow::Result<()> {
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut staging = dir.as_os_str().to_owned();
    staging.push(format!(".{}.tmp", crypto::hex_bytes(6)));
    let staging = PathBuf::from(staging);
    fs::create_dir(&staging)?;
    let made = fill(&staging).and_then(|()| move_into_place(&staging, dir));
    // Gone already when the whole directory was renamed.
    let _ = fs::remove_dir_all(&staging);
    made
}

fn move_into_place(staging: &Path, dir: &Path) -> anyhow::Result<()> {
    // Works when `dir` is absent or empty, and is atomic.
    if fs::rename(staging, dir).is_ok() {
        return Ok(());
    }
    if FILES.iter().any(|name| dir.join(name).exists()) {
        // Another simulator was faster: its keys are as good as ours.
        return Ok(());
    }
    for name in FILES {
        fs::rename(staging.join(name), dir.join(name))?;
    }
    Ok(())
}

fn fill(dir: &Path) -> anyhow::Result<()> {
    let now = DateTime::<Utc>::from(SystemTime::now());
    let mch_id = format!("19{}", crypto::digits(8));
    let (merchant, public, platform) = (generate_key()?, generate_key()?, generate_key()?);
    let merchant_cert = issue(&merchant, &[(DnType::CommonName, &mch_id)], now)?;
    let platform_cert = issue(&platform, &[(DnType::CommonName, "Tenpay.com sign")], now)?;
    let pub_key = pem("PUBLIC KEY", &public.subject_public_key_info());
    let pub_key_id = format!("PUB_KEY_ID_01{}{}", mch_id, crypto::digits(16));

    let open = |name: &str, text: &str| write(&dir.join(name), text, 0o644);
    let secret = |name: &str, text: &str| write(&dir.join(name), text, 0o600);
    open("app_id", &format!("wx{}", crypto::hex_bytes(8)))?;
    open("mch_id", &mch_id)?;
    secret("apiv3_key", &crypto::alphanumeric(32))?;
    secret("apiclient_key.pem", &merchant.serialize_pem())?;
    open("apiclient_cert.pem", &merchant_cert.pem)?;
    open("pub_key_id", &pub_key_id)?;
    open("pub_key.pem", &pub_key)?;
    secret("platform_key.pem", &public.serialize_pem())?;
    open("platform_cert.pem", &platform_cert.pem)?;
    secret("platform_cert_key.pem", &platform.serialize_pem())?;
    secret("forged_key.pem", &generate_key()?.serialize_pem())
}

fn load(dir: &Path) -> anyhow::Result<Keyring> {
    let read = |name: &str| -> anyhow::Result<String> {
        let text = fs::read_to_string(dir.join(name)).with_context(|| name.to_owned())?;
        Ok(text.trim_end().to_owned())
    };
    let signer = |name: &str| Signer::from_pem(&read(name)?).with_context(|| name.to_owned());
    let (merchant_cert, spki) = inspect(&read("apiclient_cert.pem")?)?;
    let merchant = Merchant {
        app_id: read("app_id")?,
        mch_id: read("mch_id")?,
        api_key: read("apiv3_key")?,
        serial: merchant_cert.serial,
        verifier: crypto::verifier(RsaPublicKey::from_public_key_der(&spki)?),
    };
    let public_key = NamedKey { serial: read("pub_key_id")?, signer: signer("platform_key.pem")? };
    let platform = certificate(&read("platform_cert.pem")?, &read("platform_cert_key.pem")?)?;
    let forger = signer("forged_key.pem")?;
    Ok(Keyring { merchant, public_key, certificates: vec![platform], forger })
}

fn certificate(pem: &str, key_pem: &str) -> anyhow::Result<PlatformCertificate> {
    platform_certificate(inspect(pem)?.0, key_pem)
}

/// What a certificate says about itself, and its public key as DER.
fn inspect(pem: &str) -> anyhow::Result<(Issued, Vec<u8>)> {
    let (_, parsed) = parse_x509_pem(pem.as_bytes()).context("not a PEM certificate")?;
    let x509 = parsed.parse_x509().context("not an X.509 certificate")?;
    let raw = x509.raw_serial();
    let serial = hex::encode_upper(raw.strip_prefix(&[0]).unwrap_or(raw));
    let at = |time: x509_parser::time::ASN1Time| {
        DateTime::from_timestamp(time.timestamp(), 0).context("a date out of range")
    };
    let validity = x509.validity();
    let issued = Issued {
        pem: format!("{}\n", pem.trim_end()),
        serial,
        effective_at: at(validity.not_before)?,
        expires_at: at(validity.not_after)?,
    };
    Ok((issued, x509.public_key().raw.to_vec()))
}

/// Writes the settings a merchant needs to talk to this simulator, with absolute paths.
///
/// A file that already says the same is left alone, so that the directory may be read-only.
pub fn write_merchant_env(
    path: &Path,
    dir: &Path,
    keys: &Keyring,
    mode: KeyMode,
    address: SocketAddr,
) -> anyhow::Result<()> {
    let dir = dir.canonicalize().context("the data directory has no absolute path")?;
    let text = merchant_env(&dir, keys, mode, address);
    if fs::read_to_string(path).is_ok_and(|present| present == text) {
        return Ok(());
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.tmp", crypto::hex_bytes(6)));
    let temporary = PathBuf::from(temporary);
    write(&temporary, &text, 0o600)
        .and_then(|()| Ok(fs::rename(&temporary, path)?))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn merchant_env(dir: &Path, keys: &Keyring, mode: KeyMode, address: SocketAddr) -> String {
    use std::fmt::Write as _;
    let file = |name: &str| dir.join(name).display().to_string();
    let merchant = &keys.merchant;
    let mut lines = vec![
        ("WECHAT_PAY_APP_ID", merchant.app_id.clone()),
        ("WECHAT_PAY_MCH_ID", merchant.mch_id.clone()),
        ("WECHAT_PAY_API_KEY", merchant.api_key.clone()),
        ("WECHAT_PAY_PRIVATE_KEY_PATH", file("apiclient_key.pem")),
        ("WECHAT_PAY_CERT_PATH", file("apiclient_cert.pem")),
        ("WECHAT_PAY_BASE_URL", format!("http://{address}")),
    ];
    if mode != KeyMode::Certificate {
        lines.push(("WECHAT_PAY_PUBLIC_KEY_PATH", file("pub_key.pem")));
        lines.push(("WECHAT_PAY_PUBLIC_KEY_ID", keys.public_key.serial.clone()));
    }
    lines.into_iter().fold(String::new(), |mut text, (name, value)| {
        let plain = value.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:+@".contains(c));
        let quote = if plain { "" } else { "'" };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name}={quote}{value}{quote}");
        text
    })
}

fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    options.open(path)?.write_all(text.as_bytes())?;
    Ok(())
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_once_and_the_env_file_names_them() {
        let dir = std::env::temp_dir().join(format!("simulator-{}", crypto::hex_bytes(6)));
        let made = load_or_make(&dir).unwrap();
        let again = load_or_make(&dir).unwrap();
        assert_eq!(made.merchant.serial, again.merchant.serial);
        assert_eq!(made.merchant.serial.len(), 40);
        assert_eq!(made.certificate().key.serial.len(), 40);
        assert_eq!(made.merchant.mch_id.len(), 10);
        assert_eq!(made.merchant.api_key.len(), 32);

        let (env, address) = (dir.join("merchant.env"), "127.0.0.1:9090".parse().unwrap());
        write_merchant_env(&env, &dir, &made, KeyMode::PublicKey, address).unwrap();
        let text = fs::read_to_string(&env).unwrap();
        assert!(text.contains("WECHAT_PAY_BASE_URL=http://127.0.0.1:9090\n"), "{text}");
        assert!(text.contains(&format!("WECHAT_PAY_PUBLIC_KEY_ID={}", made.public_key.serial)));

        fs::remove_file(dir.join("pub_key.pem")).unwrap();
        let error = load_or_make(&dir).unwrap_err().to_string();
        assert!(error.contains("lacks pub_key.pem"), "{error}");
        fs::remove_dir_all(&dir).unwrap();
    }
}
