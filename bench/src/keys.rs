//! The files and variables by which the service knows its merchant and WeChat Pay's key.

use crate::callback::Sender;
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use std::{collections::BTreeMap, fs, path::Path};

/// Writes the key files into `folder`; answers the variables that name them, and all others about WeChat Pay.
pub fn write(sender: &Sender, folder: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    fs::create_dir_all(folder)?;
    let merchant = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
    let certificate = CertificateParams::new([sender.mch_id.clone()])?.self_signed(&merchant)?;
    let mut env = BTreeMap::new();
    for (name, file, content) in [
        ("WECHAT_PAY_PRIVATE_KEY_PATH", "merchant_key.pem", merchant.serialize_pem()),
        ("WECHAT_PAY_CERT_PATH", "merchant_cert.pem", certificate.pem()),
        ("WECHAT_PAY_PUBLIC_KEY_PATH", "platform_public_key.pem", sender.public_key_pem()?),
    ] {
        let path = folder.join(file);
        fs::write(&path, content)?;
        env.insert(name.to_owned(), path.to_string_lossy().into_owned());
    }
    for (name, value) in [
        ("WECHAT_PAY_APP_ID", sender.app_id.as_str()),
        ("WECHAT_PAY_MCH_ID", &sender.mch_id),
        ("WECHAT_PAY_API_KEY", &sender.api_key_text),
        ("WECHAT_PAY_PUBLIC_KEY_ID", &sender.key_id),
        ("WECHAT_PAY_NOTIFY_URL", "http://127.0.0.1/api/payment/notify/wechat"),
        // Nobody answers there: the keys are known, and no order is due to be asked about.
        ("WECHAT_PAY_BASE_URL", "http://127.0.0.1:9"),
    ] {
        env.insert(name.to_owned(), value.to_owned());
    }
    Ok(env)
}
