//! Who is calling: the `Authorization` header and the request's signature (sections 1.3 to 1.6).

use serde_json::json;

use super::{Request, answer::Answer, route::Route};
use crate::{crypto, keys::Merchant};

/// The one scheme that is understood.
pub const SCHEME: &str = "WECHATPAY2-SHA256-RSA2048";
/// How far a request's timestamp may be off, seconds.
const WINDOW_SECONDS: u64 = 300;
/// Internal code of everything about signatures.
const INTERNAL: u32 = 268_443_699;

/// The five parts of the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization {
    /// `mchid`
    pub mch_id: String,
    /// `nonce_str`
    pub nonce: String,
    /// `signature`, base64.
    pub signature: String,
    /// `timestamp`, Unix seconds.
    pub timestamp: i64,
    /// `serial_no` of the merchant's certificate.
    pub serial: String,
}

impl Authorization {
    /// Reads the header's value after the scheme: five pairs in any order, without blanks.
    pub fn parse(text: &str) -> Option<Self> {
        const NAMES: [&str; 5] = ["mchid", "nonce_str", "signature", "timestamp", "serial_no"];
        let mut parts: [Option<&str>; 5] = [None; 5];
        let mut rest = text;
        loop {
            let (name, tail) = rest.split_once("=\"")?;
            let (value, tail) = tail.split_once('"')?;
            let slot = &mut parts[NAMES.iter().position(|known| *known == name)?];
            if slot.replace(value).is_some() || value.is_empty() {
                return None;
            }
            if tail.is_empty() {
                break;
            }
            rest = tail.strip_prefix(',')?;
        }
        let [mch_id, nonce, signature, timestamp, serial] = parts;
        Some(Self {
            mch_id: mch_id?.to_owned(),
            nonce: nonce?.to_owned(),
            signature: signature?.to_owned(),
            timestamp: timestamp.filter(|t| t.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()?,
            serial: serial?.to_owned(),
        })
    }
}

/// What a request's signature is over: five lines, each ends in LF (section 1.4).
pub fn message(method: &str, target: &str, timestamp: i64, nonce: &str, body: &[u8]) -> Vec<u8> {
    let mut message = format!("{method}\n{target}\n{timestamp}\n{nonce}\n").into_bytes();
    message.extend_from_slice(body);
    message.push(b'\n');
    message
}

/// Lets a request pass that the merchant has signed within the last 5 minutes.
///
/// # Errors
/// `401 SIGN_ERROR`, unsigned, with the message that belongs to what is wrong.
pub fn check(merchant: &Merchant, now: i64, request: &Request, route: &Route) -> Result<(), Answer> {
    let malformed = || {
        sign_error(if route.is_of_transactions() {
            "签名信息错误，验签失败"
        } else {
            "Http头Authorization值格式错误，请参考《微信支付商户REST API签名规则》"
        })
    };
    let header = request.header("authorization").ok_or_else(malformed)?;
    let (scheme, pairs) = header.split_once(' ').ok_or_else(malformed)?;
    if scheme != SCHEME {
        return Err(sign_error("HTTP头Authorization认证类型不正确"));
    }
    let auth = Authorization::parse(pairs).ok_or_else(malformed)?;
    if now.abs_diff(auth.timestamp) > WINDOW_SECONDS {
        let message = "Http头Authorization中的timestamp与发起请求的时间不得超过5分钟";
        return Err(sign_error(message));
    }
    if auth.mch_id != merchant.mch_id || auth.serial != merchant.serial {
        let message = "商户证书序列号有误。请使用签名私钥匹配的证书序列号";
        return Err(sign_error(message));
    }
    let (method, target) = (request.method.as_str(), request.target.as_str());
    let message = message(method, target, auth.timestamp, &auth.nonce, &request.body);
    if crypto::verify(&merchant.verifier, &message, &auth.signature) {
        return Ok(());
    }
    Err(mismatch(request, &auth, message.len()))
}

fn sign_error(message: &str) -> Answer {
    Answer::refused(401, "SIGN_ERROR", message, INTERNAL)
}

/// The refusal of a wrong signature shows the beginning of what should have been signed.
fn mismatch(request: &Request, auth: &Authorization, length: usize) -> Answer {
    /// Characters of the body that are shown.
    const SHOWN: usize = 9;
    let (method, target) = (request.method.as_str(), &request.target);
    let body = String::from_utf8_lossy(&request.body);
    let shown: String = body.chars().take(SHOWN).collect();
    let truncated = message(method, target, auth.timestamp, &auth.nonce, shown.as_bytes());
    sign_error("签名错误，请检查后再试").with_detail(json!({
        "detail": {"issue": "sign not match"},
        "field": "signature",
        "location": "authorization",
        "sign_information": {
            "method": method,
            "sign_message_length": length,
            "truncated_sign_message": String::from_utf8_lossy(&truncated),
            "url": target,
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_of_a_get_ends_in_two_line_feeds() {
        let target = "/v3/pay/transactions/id/1217752501201407033233368018?mchid=1230000109";
        let message = message("GET", target, 1_652_750_623, "eBYqCOxa0QudMnPvVilkTzOg3gHh5Z3u", b"");
        let expected = "GET\n/v3/pay/transactions/id/1217752501201407033233368018?mchid=1230000109\n\
                        1652750623\neBYqCOxa0QudMnPvVilkTzOg3gHh5Z3u\n\n";
        assert_eq!(String::from_utf8(message).unwrap(), expected);
    }

    #[test]
    fn the_pairs_may_come_in_any_order() {
        let text = "mchid=\"1900007291\",serial_no=\"408B\",nonce_str=\"593B\",\
                    timestamp=\"1554208460\",signature=\"a+/=\"";
        let auth = Authorization::parse(text).unwrap();
        assert_eq!(auth.timestamp, 1_554_208_460);
        assert_eq!(auth.signature, "a+/=");
    }

    #[test]
    fn malformed_headers_are_none() {
        let good = "mchid=\"1\",nonce_str=\"n\",signature=\"s\",timestamp=\"1\",serial_no=\"2\"";
        assert!(Authorization::parse(good).is_some());
        for bad in [
            "",
            "mchid=\"1\"",
            &good.replace(',', ", "),
            &good.replace("\"1\"", "\"-1\""),
            &good.replace("\"s\"", "\"\""),
            &format!("{good},mchid=\"1\""),
            &format!("{good},"),
            &good.replace('"', ""),
        ] {
            assert_eq!(Authorization::parse(bad), None, "{bad}");
        }
    }
}
