//! Our calls to WeChat Pay.

use super::Metric;
use metrics::{counter, histogram};
use std::time::Duration;

const CALLS: &str = "recharge_wechat_calls_total";
const CALL_SECONDS: &str = "recharge_wechat_call_duration_seconds";

/// A call may take 12 s, and in one case two of those.
const CALL_BUCKETS: &[f64] = &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0];

pub(super) const METRICS: &[Metric] = &[
    Metric::counter(CALLS, "Calls to WeChat Pay, quick repeats included, by endpoint and what could be concluded."),
    Metric::histogram(CALL_SECONDS, CALL_BUCKETS, "One such call, its repeats included."),
];

/// What was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WechatEndpoint {
    /// Placing a Native order.
    Native,
    /// An order, by our number.
    Query,
    /// An order, by WeChat Pay's number.
    QueryTransaction,
    /// Closing an order.
    Close,
    /// Asking for a refund.
    Refund,
    /// A refund, by our number.
    QueryRefund,
    /// Sending an abnormal refund elsewhere.
    RedirectRefund,
    /// The platform certificates.
    Certificates,
}

impl WechatEndpoint {
    /// All there are.
    pub const ALL: [Self; 8] = [
        Self::Native,
        Self::Query,
        Self::QueryTransaction,
        Self::Close,
        Self::Refund,
        Self::QueryRefund,
        Self::RedirectRefund,
        Self::Certificates,
    ];

    /// As the page spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Query => "query",
            Self::QueryTransaction => "query_transaction",
            Self::Close => "close",
            Self::Refund => "refund",
            Self::QueryRefund => "query_refund",
            Self::RedirectRefund => "redirect_refund",
            Self::Certificates => "certificates",
        }
    }
}

/// What could be concluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WechatOutcome {
    /// It was done.
    Ok,
    /// It was refused, and that was signed.
    Rejected,
    /// The gateway refused it, unsigned.
    NotAuthenticated,
    /// Nothing.
    Unknown,
}

impl WechatOutcome {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Ok, Self::Rejected, Self::NotAuthenticated, Self::Unknown];

    /// As the page spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Rejected => "rejected",
            Self::NotAuthenticated => "not_authenticated",
            Self::Unknown => "unknown",
        }
    }
}

pub(super) fn begin() {
    for endpoint in WechatEndpoint::ALL {
        for outcome in WechatOutcome::ALL {
            counter!(CALLS, "endpoint" => endpoint.as_str(), "outcome" => outcome.as_str()).absolute(0);
        }
        let _ = histogram!(CALL_SECONDS, "endpoint" => endpoint.as_str());
    }
}

/// A call has ended.
pub fn wechat_called(endpoint: WechatEndpoint, outcome: WechatOutcome, took: Duration) {
    counter!(CALLS, "endpoint" => endpoint.as_str(), "outcome" => outcome.as_str()).increment(1);
    histogram!(CALL_SECONDS, "endpoint" => endpoint.as_str()).record(took);
}
