//! Which call a request is: the paths of the API, and what stands in them.

use axum::http::Method;

use crate::faults::Endpoint;

/// A call of the API with the parts of its path, percent-decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `POST /v3/pay/transactions/native`
    Native,
    /// `GET /v3/pay/transactions/out-trade-no/{out_trade_no}`
    ByOutTradeNo(String),
    /// `GET /v3/pay/transactions/id/{transaction_id}`
    ByTransactionId(String),
    /// `POST /v3/pay/transactions/out-trade-no/{out_trade_no}/close`
    Close(String),
    /// `POST /v3/refund/domestic/refunds`
    Refund,
    /// `GET /v3/refund/domestic/refunds/{out_refund_no}`
    RefundQuery(String),
    /// `POST /v3/refund/domestic/refunds/{refund_id}/apply-abnormal-refund`
    AbnormalRefund(String),
    /// `GET /v3/certificates`
    Certificates,
}

impl Route {
    /// The name under which faults know it.
    pub const fn endpoint(&self) -> Endpoint {
        match self {
            Self::Native => Endpoint::Native,
            Self::ByOutTradeNo(_) | Self::ByTransactionId(_) => Endpoint::Query,
            Self::Close(_) => Endpoint::Close,
            Self::Refund | Self::AbnormalRefund(_) => Endpoint::Refund,
            Self::RefundQuery(_) => Endpoint::RefundQuery,
            Self::Certificates => Endpoint::Certificates,
        }
    }

    /// Whether `Accept` and `User-Agent` are checked (section 1.2).
    pub const fn wants_accept(&self) -> bool {
        !self.is_of_transactions()
    }

    /// Whether it is below `/v3/pay/transactions`, which words some refusals differently.
    pub const fn is_of_transactions(&self) -> bool {
        matches!(self.endpoint(), Endpoint::Native | Endpoint::Query | Endpoint::Close)
    }
}

/// The call that `method` and `path` name.
///
/// # Errors
/// The HTTP status: 404 for a path that does not exist, 405 for one of another method.
pub fn find(method: &Method, path: &str) -> Result<Route, u16> {
    let parts: Vec<String> = path
        .split('/')
        .skip(1)
        .map(|part| decode(part).filter(|text| !text.is_empty()).ok_or(404))
        .collect::<Result<_, u16>>()?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let (wanted, route) = match parts.as_slice() {
        ["v3", "pay", "transactions", "native"] => (Method::POST, Route::Native),
        ["v3", "pay", "transactions", "out-trade-no", no] => (Method::GET, Route::ByOutTradeNo((*no).to_owned())),
        ["v3", "pay", "transactions", "out-trade-no", no, "close"] => (Method::POST, Route::Close((*no).to_owned())),
        ["v3", "pay", "transactions", "id", id] => (Method::GET, Route::ByTransactionId((*id).to_owned())),
        ["v3", "refund", "domestic", "refunds"] => (Method::POST, Route::Refund),
        ["v3", "refund", "domestic", "refunds", no] => (Method::GET, Route::RefundQuery((*no).to_owned())),
        ["v3", "refund", "domestic", "refunds", id, "apply-abnormal-refund"] => {
            (Method::POST, Route::AbnormalRefund((*id).to_owned()))
        }
        ["v3", "certificates"] => (Method::GET, Route::Certificates),
        _ => return Err(404),
    };
    if *method == wanted { Ok(route) } else { Err(405) }
}

/// Undoes percent-encoding. `None` when it is broken or not UTF-8.
pub fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first == b'%' {
            let (hex, tail) = rest.split_at_checked(2)?;
            bytes.push(*hex::decode(hex).ok()?.first()?);
            rest = tail;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_and_decoded() {
        let path = "/v3/pay/transactions/out-trade-no/A%7CB*1/close";
        assert_eq!(find(&Method::POST, path), Ok(Route::Close("A|B*1".into())));
        assert_eq!(find(&Method::GET, path), Err(405));
        assert_eq!(find(&Method::GET, "/v3/pay/transactions"), Err(404));
        assert_eq!(find(&Method::GET, "/v3/pay/transactions/id/"), Err(404));
        assert_eq!(find(&Method::GET, "/v3/certificates"), Ok(Route::Certificates));
    }

    #[test]
    fn broken_encodings_are_no_path() {
        assert_eq!(decode("%7"), None);
        assert_eq!(decode("%zz"), None);
        assert_eq!(decode("%ff"), None);
        assert_eq!(decode("%E8%AE%A2"), Some("订".into()));
    }
}
