//! Why a notification could not be applied. The class decides what happens next; the code is what operators see.

/// What a fault calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The cause may pass by itself: try again.
    Passing,
    /// Nothing will change by itself: an operator must look.
    Final,
    /// Nothing of ours is at stake: it is not from WeChat Pay, or not for us.
    NotOurs,
}

impl Class {
    /// As the metrics spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Final => "final",
            Self::NotOurs => "not_ours",
        }
    }
}

/// Why a notification could not be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The signature is not the named key's.
    #[error("the signature does not match the body under the key it names")]
    SignatureInvalid,
    /// One of WeChat Pay's deliberate wrong signatures (wechatpay-v3.md §3).
    #[error("a signature probe of WeChat Pay's; it was refused, as it should be")]
    SignatureProbe,
    /// The door saw a timestamp over five minutes off.
    #[error("the timestamp is more than 5 minutes off; check this machine's clock if this happens often")]
    TimestampStale,
    /// No key for the serial, even after a refresh.
    #[error("no key is known for the serial number it names; is WECHAT_PAY_PUBLIC_KEY_ID right?")]
    KeyUnavailable,
    /// Signed by WeChat Pay, but not a notification as the protocol has it.
    #[error("not a notification as the protocol describes it: {0}")]
    Malformed(&'static str),
    /// The resource does not open under the `APIv3` key.
    #[error("the resource cannot be decrypted; is WECHAT_PAY_API_KEY right?")]
    DecryptFailed,
    /// An event of another product.
    #[error("an event of a kind that this service has no use for")]
    EventUnsupported,
    /// For another merchant.
    #[error("mchid is not WECHAT_PAY_MCH_ID")]
    MchidMismatch,
    /// For another app.
    #[error("appid is not WECHAT_PAY_APP_ID")]
    AppidMismatch,
    /// No such order (yet).
    #[error("there is no order with this out_trade_no")]
    OrderNotFound,
    /// Another amount than the order's.
    #[error("amount.total is not the order's amount")]
    AmountMismatch,
    /// Another currency than the order's.
    #[error("amount.currency is not CNY")]
    CurrencyMismatch,
    /// A success notification whose state is not success.
    #[error("trade_state is not SUCCESS")]
    TradeStateUnexpected,
    /// The order was already paid by another transaction.
    #[error("the order was already paid by another transaction; this money must go back")]
    PaidTwice,
    /// A refund of an order whose payment is not known here (yet).
    #[error("the order it refunds is not paid here")]
    OrderNotPaid,
    /// Another amount, payment or number than the refund has here.
    #[error("the refund has another amount, payment or refund_id here")]
    RefundMismatch,
    /// The refund has ended here, and otherwise.
    #[error("the refund has ended otherwise here; its points do not fit its money now")]
    RefundContradicted,
    /// A bug of ours, at this row alone.
    #[error("handling it panicked; see the worker's log")]
    HandlerPanicked,
    /// Several processes died while they handled it, the last of them with nothing else in their hands.
    #[error("several workers died while they handled it; it is not handled again by itself")]
    Poison,
    /// PostgreSQL refused the change: a constraint held where the code did not.
    #[error("the database refused the change ({0})")]
    DatabaseRefused(String),
    /// PostgreSQL could not do it now.
    #[error("the database could not apply it ({0})")]
    DatabaseError(String),
}

impl Fault {
    /// One of each kind.
    pub const fn each() -> [Self; 21] {
        [
            Self::SignatureInvalid,
            Self::SignatureProbe,
            Self::TimestampStale,
            Self::KeyUnavailable,
            Self::Malformed(""),
            Self::DecryptFailed,
            Self::EventUnsupported,
            Self::MchidMismatch,
            Self::AppidMismatch,
            Self::OrderNotFound,
            Self::AmountMismatch,
            Self::CurrencyMismatch,
            Self::TradeStateUnexpected,
            Self::PaidTwice,
            Self::OrderNotPaid,
            Self::RefundMismatch,
            Self::RefundContradicted,
            Self::HandlerPanicked,
            Self::Poison,
            Self::DatabaseRefused(String::new()),
            Self::DatabaseError(String::new()),
        ]
    }

    /// The stable code that operators and the API see.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::SignatureInvalid => "signature_invalid",
            Self::SignatureProbe => "signature_probe",
            Self::TimestampStale => "timestamp_stale",
            Self::KeyUnavailable => "key_unavailable",
            Self::Malformed(_) => "malformed_notification",
            Self::DecryptFailed => "decrypt_failed",
            Self::EventUnsupported => "event_unsupported",
            Self::MchidMismatch => "mchid_mismatch",
            Self::AppidMismatch => "appid_mismatch",
            Self::OrderNotFound => "order_not_found",
            Self::AmountMismatch => "amount_mismatch",
            Self::CurrencyMismatch => "currency_mismatch",
            Self::TradeStateUnexpected => "trade_state_unexpected",
            Self::PaidTwice => "paid_twice",
            Self::OrderNotPaid => "order_not_paid",
            Self::RefundMismatch => "refund_mismatch",
            Self::RefundContradicted => "refund_contradicted",
            Self::HandlerPanicked => "handler_panicked",
            Self::Poison => "poison",
            Self::DatabaseRefused(_) => "database_refused",
            Self::DatabaseError(_) => "database_error",
        }
    }

    /// What it calls for.
    pub const fn class(&self) -> Class {
        match self {
            // A stored row was verified at the door: when it fails now, the keys differ between the processes, and another
            // worker, or this one when its keys are right, can do it.
            Self::KeyUnavailable
            | Self::SignatureInvalid
            | Self::OrderNotFound
            | Self::OrderNotPaid
            | Self::DatabaseError(_) => Class::Passing,
            Self::Malformed(_)
            | Self::HandlerPanicked
            | Self::Poison
            | Self::DecryptFailed
            | Self::MchidMismatch
            | Self::AppidMismatch
            | Self::AmountMismatch
            | Self::CurrencyMismatch
            | Self::TradeStateUnexpected
            | Self::PaidTwice
            | Self::RefundMismatch
            | Self::RefundContradicted
            | Self::DatabaseRefused(_) => Class::Final,
            Self::SignatureProbe | Self::TimestampStale | Self::EventUnsupported => Class::NotOurs,
        }
    }

    /// Whether it is about who signed the notification.
    pub const fn is_about_the_signature(&self) -> bool {
        matches!(self, Self::SignatureInvalid | Self::SignatureProbe | Self::KeyUnavailable)
    }
}
