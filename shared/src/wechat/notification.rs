//! Notifications: from the stored bytes to a verified fact (wechatpay-v3.md §4).

use super::{
    Merchant, RefundNotice, Transaction,
    keys::KeyRing,
    resource::{Resource, ResourceError},
    signature::Signed,
};
use crate::{
    notify::{Fact, Fault, NotifyHeaders, NotifyType},
    orders::OrderNo,
    payments::Payment,
};
use serde::{Deserialize, de::IgnoredAny};
use std::{borrow::Cow, sync::Arc};

/// The part of the envelope that the door reads.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    event_type: Cow<'a, str>,
}

/// The envelope.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    event_type: Cow<'a, str>,
    #[serde(borrow)]
    resource: Resource<'a>,
}

/// The body is not JSON.
#[derive(Debug, thiserror::Error)]
#[error("the body is not JSON")]
pub struct NotJson;

/// Which family of events a body belongs to, or `None` for one that is none of ours.
///
/// # Errors
/// [`NotJson`]
pub fn notify_type(body: &[u8]) -> Result<Option<NotifyType>, NotJson> {
    let Ok(head) = serde_json::from_slice::<Head<'_>>(body) else {
        // JSON of another shape may be signed all the same, and then is kept.
        return serde_json::from_slice::<IgnoredAny>(body).map(|_| None).map_err(|_| NotJson);
    };
    Ok(match head.event_type.split_once('.') {
        Some(("TRANSACTION", _)) => Some(NotifyType::Payment),
        Some(("REFUND", _)) => Some(NotifyType::Refund),
        _ => None,
    })
}

/// What a stored notification says.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened {
    /// The order it names, as soon as that could be read.
    pub order_no: Option<OrderNo>,
    /// What it vouches for, or why it is of no use.
    pub fact: Result<Fact, Fault>,
}

/// Opens stored notifications: verifies again, because a worker trusts nothing but what was signed; then decrypts, and
/// checks whom it is for.
#[derive(Clone, Debug)]
pub struct Opener {
    merchant: Arc<Merchant>,
    keys: Arc<KeyRing>,
}

impl Opener {
    /// An opener with these keys.
    pub const fn new(merchant: Arc<Merchant>, keys: Arc<KeyRing>) -> Self {
        Self { merchant, keys }
    }

    /// Opens one. The timestamp is not judged again: the door did, when the notification was fresh.
    pub fn open(&self, headers: &NotifyHeaders, body: &[u8]) -> Opened {
        match self.decrypt(headers, body) {
            Ok((event_type, plaintext)) => self.read(&event_type, &plaintext),
            Err(fault) => Opened { order_no: None, fact: Err(fault) },
        }
    }

    /// The payment that a stored notification vouches for, to whichever app of the merchant's: what can be given back.
    ///
    /// # Errors
    /// Why it vouches for none.
    pub fn open_money(&self, headers: &NotifyHeaders, body: &[u8]) -> Result<Payment, Fault> {
        let (_, plaintext) = self.decrypt(headers, body)?;
        let transaction: Transaction =
            serde_json::from_slice(&plaintext).map_err(|_| Fault::Malformed("the plaintext is no transaction"))?;
        transaction.money(&self.merchant.mch_id)
    }

    fn decrypt(&self, headers: &NotifyHeaders, body: &[u8]) -> Result<(String, Vec<u8>), Fault> {
        let signed = Signed {
            timestamp: &headers.wechatpay_timestamp,
            nonce: &headers.wechatpay_nonce,
            signature: &headers.wechatpay_signature,
        };
        self.keys.verify(&headers.wechatpay_serial, &signed, body)?;
        let head: Head<'_> = serde_json::from_slice(body).map_err(|_| Fault::Malformed("no event_type"))?;
        if !matches!(&*head.event_type, "TRANSACTION.SUCCESS" | "REFUND.SUCCESS" | "REFUND.ABNORMAL" | "REFUND.CLOSED")
        {
            return Err(Fault::EventUnsupported);
        }
        let envelope: Envelope<'_> =
            serde_json::from_slice(body).map_err(|_| Fault::Malformed("no resource, or not its shape"))?;
        let original_type = if envelope.event_type.starts_with("REFUND.") { "refund" } else { "transaction" };
        if envelope.resource.original_type.as_deref() != Some(original_type) {
            return Err(Fault::EventUnsupported);
        }
        let plaintext = self.merchant.api_key.open(&envelope.resource).map_err(|error| match error {
            ResourceError::Malformed => Fault::Malformed("resource"),
            ResourceError::Tag => Fault::DecryptFailed,
        })?;
        Ok((envelope.event_type.into_owned(), plaintext))
    }

    fn read(&self, event_type: &str, plaintext: &[u8]) -> Opened {
        if event_type.starts_with("REFUND.") {
            return self.read_refund(plaintext);
        }
        let Ok(transaction) = serde_json::from_slice::<Transaction>(plaintext) else {
            return Opened { order_no: None, fact: Err(Fault::Malformed("the plaintext is no transaction")) };
        };
        Opened {
            order_no: transaction.out_trade_no.parse().ok(),
            fact: transaction.payment(&self.merchant.mch_id, &self.merchant.app_id).map(Fact::Payment),
        }
    }

    fn read_refund(&self, plaintext: &[u8]) -> Opened {
        let Ok(notice) = serde_json::from_slice::<RefundNotice>(plaintext) else {
            return Opened { order_no: None, fact: Err(Fault::Malformed("the plaintext is no refund")) };
        };
        let is_ours = notice.mchid == self.merchant.mch_id;
        let fact = if is_ours { notice.report().map(Fact::Refund) } else { Err(Fault::MchidMismatch) };
        Opened { order_no: notice.out_trade_no.parse().ok(), fact }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_event_decides_the_type() {
        let of = |body: &str| notify_type(body.as_bytes()).expect("JSON");
        assert_eq!(of(r#"{"event_type":"TRANSACTION.SUCCESS"}"#), Some(NotifyType::Payment));
        assert_eq!(of(r#"{"x":[1],"event_type":"REFUND.CLOSED"}"#), Some(NotifyType::Refund));
        assert_eq!(of(r#"{"event_type":"COUPON.USE"}"#), None);
        assert_eq!(of(r#"{"event_type":5}"#), None);
        assert_eq!(of("[]"), None);
    }

    #[test]
    fn what_is_not_json_is_told_apart() {
        for body in ["", "{", "{\"event_type\":\"TRANSACTION.SUCCESS\"", "[1,", "<xml/>", "{\"event_type\":5", "\u{0}"]
        {
            assert!(notify_type(body.as_bytes()).is_err(), "{body}");
        }
        assert!(notify_type(&[0xff, 0xfe]).is_err());
    }
}
