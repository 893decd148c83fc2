//! The protocol's objects, as far as we use them. Unknown fields and new values are tolerated, as the protocol asks.

use crate::{money::Fen, notify::Fault, payments::Payment};
use chrono::{DateTime, FixedOffset, Utc};
use serde::{Deserialize, Serialize};

/// Where WeChat Pay has an order (wechatpay-v3.md §6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TradeState {
    /// Paid.
    Success,
    /// Paid, and some or all of it went back or is going back. Never "not paid".
    Refund,
    /// Not paid yet.
    #[serde(rename = "NOTPAY")]
    NotPay,
    /// Cannot be paid any more.
    Closed,
    /// A state of another product, or a new one.
    #[serde(other)]
    Unknown,
}

/// An order at WeChat Pay: a query's answer, and the plaintext of a payment notification (wechatpay-v3.md §4.4, §6.1).
#[derive(Clone, Debug, Deserialize)]
pub struct Transaction {
    /// Whose app.
    pub appid: String,
    /// Whose account.
    pub mchid: String,
    /// Our number.
    pub out_trade_no: String,
    /// WeChat Pay's number, once paid.
    #[serde(default)]
    pub transaction_id: Option<String>,
    /// Where it is.
    pub trade_state: TradeState,
    /// When it was paid.
    #[serde(default)]
    pub success_time: Option<DateTime<FixedOffset>>,
    /// What it cost.
    #[serde(default)]
    pub amount: Option<TransactionAmount>,
}

/// The amounts of an order. What the payer paid may be less, with a coupon; it is not our business.
#[derive(Clone, Debug, Deserialize)]
pub struct TransactionAmount {
    /// Fen.
    pub total: i64,
    /// `CNY`; absent while unpaid.
    #[serde(default)]
    pub currency: Option<String>,
}

impl Transaction {
    /// The payment, when it is one for this merchant and app, in CNY.
    ///
    /// # Errors
    /// The first rule it breaks: merchant, app, state, currency, amount, or a missing field.
    pub fn payment(&self, mch_id: &str, app_id: &str) -> Result<Payment, Fault> {
        if self.mchid != mch_id {
            return Err(Fault::MchidMismatch);
        }
        if self.appid != app_id {
            return Err(Fault::AppidMismatch);
        }
        // A refund may already have begun when we hear of the payment; paid it was.
        if !matches!(self.trade_state, TradeState::Success | TradeState::Refund) {
            return Err(Fault::TradeStateUnexpected);
        }
        let amount = self.amount.as_ref().ok_or(Fault::Malformed("amount is missing"))?;
        if amount.currency.as_deref() != Some("CNY") {
            return Err(Fault::CurrencyMismatch);
        }
        let transaction_id = self.transaction_id.as_deref().ok_or(Fault::Malformed("transaction_id is missing"))?;
        Ok(Payment {
            order_no: self.out_trade_no.parse().map_err(|_| Fault::Malformed("out_trade_no is out of its alphabet"))?,
            transaction_id: transaction_id
                .parse()
                .map_err(|_| Fault::Malformed("transaction_id is out of its range"))?,
            amount: Fen::try_from(amount.total).map_err(|_| Fault::AmountMismatch)?,
            paid_at: self.success_time.ok_or(Fault::Malformed("success_time is missing"))?.with_timezone(&Utc),
        })
    }
}

/// The answer to a new Native order.
#[derive(Debug, Deserialize)]
pub(super) struct NativeAnswer {
    pub(super) code_url: String,
}

/// A refund to ask for (wechatpay-v3.md §7.1). A repeat must be the same in every field.
#[derive(Clone, Debug, Serialize)]
pub struct NewRefund {
    /// The payment it takes from.
    pub transaction_id: String,
    /// Our number, the idempotency key: a new one would refund twice.
    pub out_refund_no: String,
    /// Shown to the payer, at most 80 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Always given: without it no callback comes in this protocol's form.
    pub notify_url: String,
    /// How much.
    pub amount: RefundAmount,
}

/// The amounts of a refund to ask for.
#[derive(Clone, Debug, Serialize)]
pub struct RefundAmount {
    /// Fen to give back.
    pub refund: Fen,
    /// Fen of the order.
    pub total: Fen,
    /// `CNY`; required here.
    pub currency: &'static str,
}

/// Where WeChat Pay has a refund (wechatpay-v3.md §7.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RefundStatus {
    /// The money went back.
    Success,
    /// It was not executed.
    Closed,
    /// Accepted.
    Processing,
    /// The payer's account cannot take it: a person must help.
    Abnormal,
    /// A new one.
    #[serde(other)]
    Unknown,
}

/// A refund at WeChat Pay (wechatpay-v3.md §7.2).
#[derive(Clone, Debug, Deserialize)]
pub struct Refund {
    /// WeChat Pay's number.
    pub refund_id: String,
    /// Our number.
    pub out_refund_no: String,
    /// The payment's number.
    pub transaction_id: String,
    /// The order's number.
    pub out_trade_no: String,
    /// Where it is.
    pub status: RefundStatus,
    /// When the money went back.
    #[serde(default)]
    pub success_time: Option<DateTime<FixedOffset>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAINTEXT: &str = include_str!("../../tests/fixtures/node/plaintext.json");

    fn payment(change: impl FnOnce(&mut serde_json::Value)) -> Result<Payment, Fault> {
        let mut json: serde_json::Value = serde_json::from_str(PLAINTEXT).expect("JSON");
        change(&mut json);
        let transaction: Transaction = serde_json::from_value(json).expect("a transaction");
        transaction.payment("1900000100", "wxd678efh567hg6787")
    }

    #[test]
    fn a_true_payment_is_read_whole() {
        let payment = payment(|_| ()).expect("a payment");
        assert_eq!(payment.order_no.as_str(), "SO20260101000001");
        assert_eq!(payment.transaction_id.as_str(), "4200000000202601010000000001");
        assert_eq!(payment.amount.get(), 300);
        assert_eq!(payment.paid_at.to_rfc3339(), "2026-01-01T05:25:40+00:00");
    }

    #[test]
    fn each_wrong_field_has_its_fault() {
        assert_eq!(payment(|json| json["mchid"] = "1900000101".into()), Err(Fault::MchidMismatch));
        assert_eq!(payment(|json| json["appid"] = "wx0".into()), Err(Fault::AppidMismatch));
        assert_eq!(payment(|json| json["amount"]["currency"] = "USD".into()), Err(Fault::CurrencyMismatch));
        assert_eq!(payment(|json| json["amount"]["total"] = (-1).into()), Err(Fault::AmountMismatch));
        assert_eq!(payment(|json| json["trade_state"] = "NOTPAY".into()), Err(Fault::TradeStateUnexpected));
        assert_eq!(payment(|json| json["trade_state"] = "NEW".into()), Err(Fault::TradeStateUnexpected));
        assert!(matches!(payment(|json| json["out_trade_no"] = "订单".into()), Err(Fault::Malformed(_))));
        assert!(matches!(payment(|json| json["transaction_id"] = "".into()), Err(Fault::Malformed(_))));
        assert!(matches!(payment(|json| json["success_time"] = serde_json::Value::Null), Err(Fault::Malformed(_))));
    }

    #[test]
    fn an_order_with_a_refund_was_paid() {
        assert!(payment(|json| json["trade_state"] = "REFUND".into()).is_ok());
    }
}
