//! The headers of a callback, and the form in which they are stored.

use serde::Serialize;
use sqlx::{
    Decode, Postgres, Type,
    error::BoxDynError,
    postgres::{PgTypeInfo, PgValueRef},
};

/// The headers that are kept with a notification: those that were signed, and those that help support. Exactly as
/// received.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct NotifyHeaders {
    /// Unix seconds, decimal.
    pub wechatpay_timestamp: String,
    /// Random text of WeChat Pay's.
    pub wechatpay_nonce: String,
    /// Standard base64, or a probe.
    pub wechatpay_signature: String,
    /// `PUB_KEY_ID_…`, or a certificate's serial number.
    pub wechatpay_serial: String,
    /// Absent on some deliveries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wechatpay_signature_type: Option<String>,
    /// To quote to WeChat Pay's support.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Usually `application/json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Says nothing about the sender; shown only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
}

impl NotifyHeaders {
    /// How they are stored: the values, a line each, in the order of the fields; an empty line for one that is absent. A
    /// value has no line break (RFC 9110, section 5.5), and names that are always the same would be a tenth of the log.
    pub fn to_lines(&self) -> String {
        let optional = [&self.wechatpay_signature_type, &self.request_id, &self.content_type, &self.user_agent];
        let [signature_type, request_id, content_type, user_agent] =
            optional.map(|value| value.as_deref().unwrap_or(""));
        [
            &self.wechatpay_timestamp,
            &self.wechatpay_nonce,
            &self.wechatpay_signature,
            &self.wechatpay_serial,
            signature_type,
            request_id,
            content_type,
            user_agent,
        ]
        .join("\n")
    }

    /// Reads what [`Self::to_lines`] has written; `None` when it has another number of lines.
    pub fn from_lines(text: &str) -> Option<Self> {
        let mut lines = text.split('\n').map(str::to_owned);
        let mut next = || lines.next();
        let headers = Self {
            wechatpay_timestamp: next()?,
            wechatpay_nonce: next()?,
            wechatpay_signature: next()?,
            wechatpay_serial: next()?,
            wechatpay_signature_type: next().map(present)?,
            request_id: next().map(present)?,
            content_type: next().map(present)?,
            user_agent: next().map(present)?,
        };
        lines.next().is_none().then_some(headers)
    }
}

fn present(value: String) -> Option<String> {
    (!value.is_empty()).then_some(value)
}

impl Type<Postgres> for NotifyHeaders {
    fn type_info() -> PgTypeInfo {
        <&str as Type<Postgres>>::type_info()
    }
}

impl<'r> Decode<'r, Postgres> for NotifyHeaders {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        let text = <&str as Decode<Postgres>>::decode(value)?;
        Self::from_lines(text).ok_or_else(|| "the headers of a notification are not eight lines".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{option, prelude::*};

    /// What a header's value may be, RFC 9110: visible characters, spaces and tabs between them.
    const VALUE: &str = "[!-~]([!-~ \t]{0,40}[!-~])?";

    proptest! {
        #[test]
        fn what_was_stored_is_read_again(
            signed in [VALUE; 4],
            other in [option::of(VALUE), option::of(VALUE), option::of(VALUE), option::of(VALUE)],
        ) {
            let [wechatpay_timestamp, wechatpay_nonce, wechatpay_signature, wechatpay_serial] = signed;
            let [wechatpay_signature_type, request_id, content_type, user_agent] = other;
            let headers = NotifyHeaders {
                wechatpay_timestamp,
                wechatpay_nonce,
                wechatpay_signature,
                wechatpay_serial,
                wechatpay_signature_type,
                request_id,
                content_type,
                user_agent,
            };
            prop_assert_eq!(NotifyHeaders::from_lines(&headers.to_lines()), Some(headers));
        }
    }

    #[test]
    fn another_number_of_lines_is_refused() {
        for text in ["", "1\n2\n3\n4\n5\n6\n7", "1\n2\n3\n4\n5\n6\n7\n8\n9"] {
            assert_eq!(NotifyHeaders::from_lines(text), None, "{text:?}");
        }
    }
}
