//! The merchant's variables: ids, keys and addresses.

use super::Env;
use crate::wechat::{
    ApiV3Key, KeyRing, Merchant, OFFICIAL_BASE_URL, PlatformKey, Signer, keys::read_merchant_certificate,
};
use url::Url;

/// Reads who we are to WeChat Pay, and its key when there is one. The key files are read and checked against each other here.
pub fn merchant(env: &mut Env) -> Option<(Merchant, KeyRing)> {
    let app_id = id(env, "WECHAT_PAY_APP_ID", "the app's id, 1 to 32 letters and digits");
    let mch_id = id(env, "WECHAT_PAY_MCH_ID", "the merchant's id, 1 to 32 letters and digits");
    let api_key: Option<ApiV3Key> = env.required("WECHAT_PAY_API_KEY", "the APIv3 key, exactly 32 bytes");
    let signer = signer(env, mch_id.as_deref());
    let notify_url =
        env.required_as("WECHAT_PAY_NOTIFY_URL", NOTIFY_URL, |text| is_notify_url(text).then(|| text.to_owned()));
    let refund_notify_url =
        env.optional_as("WECHAT_PAY_REFUND_NOTIFY_URL", NOTIFY_URL, "<WECHAT_PAY_NOTIFY_URL>/refund", |text| {
            is_notify_url(text).then(|| text.to_owned())
        });
    let public_key = public_key(env);
    let base_url =
        env.optional_as("WECHAT_PAY_BASE_URL", "an http(s):// URL without a path", OFFICIAL_BASE_URL, base_url);
    let (notify_url, public_key) = (notify_url?, public_key?);
    let merchant = Merchant {
        app_id: app_id?,
        mch_id: mch_id?,
        api_key: api_key?,
        signer: signer?,
        public_key_id: public_key.as_ref().map(|key| key.id.clone()),
        base_url: base_url?.or_else(|| self::base_url(OFFICIAL_BASE_URL))?,
        refund_notify_url: refund_notify_url?.unwrap_or_else(|| format!("{notify_url}/refund")),
        notify_url,
    };
    Some((merchant, KeyRing::new(public_key)))
}

const NOTIFY_URL: &str = "a public http(s):// URL of 8 to 248 bytes, without query and fragment";

/// wechatpay-v3.md §4.9; room is left for `/refund`.
fn is_notify_url(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#');
    (8..=248).contains(&text.len()) && text.bytes().all(plain) && web_url(text).is_some()
}

fn web_url(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

fn base_url(text: &str) -> Option<Url> {
    web_url(text).filter(|url| url.path() == "/" && url.query().is_none() && url.fragment().is_none())
}

fn id(env: &mut Env, name: &'static str, expects: &'static str) -> Option<String> {
    env.required_as(name, expects, |text| {
        let sound = text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        sound.then(|| text.to_owned())
    })
}

fn signer(env: &mut Env, mch_id: Option<&str>) -> Option<Signer> {
    const KEY: &str = "WECHAT_PAY_PRIVATE_KEY_PATH";
    const CERTIFICATE: &str = "WECHAT_PAY_CERT_PATH";
    let a_key = "the path of the merchant's private key, an RSA key as PKCS#8 or PKCS#1 PEM";
    let a_certificate = "the path of the merchant's certificate, PEM";
    let (key, certificate) = (env.file(KEY, a_key), env.file(CERTIFICATE, a_certificate));

    let certificate = certificate.and_then(|pem| {
        read_merchant_certificate(&pem)
            .inspect_err(|error| {
                env.fault(CERTIFICATE, &format!("names a file that is {error}"), a_certificate);
            })
            .ok()
    });
    let (serial_no, public_key) = certificate.map_or((None, None), |(serial, key)| (Some(serial), Some(key)));
    let signer = key.and_then(|pem| {
        let (mch_id, serial_no) = (mch_id.unwrap_or_default().to_owned(), serial_no.clone().unwrap_or_default());
        Signer::from_pem(mch_id, serial_no, &pem)
            .inspect_err(|error| env.fault(KEY, &format!("names a file that is {error}"), a_key))
            .ok()
    })?;
    if public_key? != signer.public_key_der() {
        env.fault(KEY, "does not belong to the certificate of WECHAT_PAY_CERT_PATH", a_key);
        return None;
    }
    Some(signer)
}

#[expect(clippy::option_option, reason = "the outer one means malformed, as in Env")]
fn public_key(env: &mut Env) -> Option<Option<PlatformKey>> {
    const PATH: &str = "WECHAT_PAY_PUBLIC_KEY_PATH";
    const ID: &str = "WECHAT_PAY_PUBLIC_KEY_ID";
    let a_path = "the path of WeChat Pay's public key, PEM; goes with WECHAT_PAY_PUBLIC_KEY_ID";
    let an_id = "PUB_KEY_ID_ and digits; goes with WECHAT_PAY_PUBLIC_KEY_PATH";
    let pem = env.optional_file(PATH, a_path);
    let id = env.optional_as(ID, an_id, "unset", |text| {
        let sound = text
            .strip_prefix("PUB_KEY_ID_")
            .is_some_and(|digits| (1..=64).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()));
        sound.then(|| text.to_owned())
    });
    match (pem?, id?) {
        (None, None) => Some(None),
        (Some(pem), Some(id)) => PlatformKey::from_public_key_pem(id, &pem)
            .inspect_err(|error| env.fault(PATH, &format!("names a file that is {error}"), a_path))
            .ok()
            .map(Some),
        (Some(_), None) => {
            env.fault(ID, "is missing", an_id);
            None
        }
        (None, Some(_)) => {
            env.fault(PATH, "is missing", a_path);
            None
        }
    }
}
