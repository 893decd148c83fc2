//! The protocol's objects, as far as we use them. Unknown fields and new values are tolerated, as the protocol asks.

use crate::{
    money::Fen,
    notify::Fault,
    orders::TransactionId,
    payments::Payment,
    refunds::{RefundEvent, RefundNo, Report},
};
use chrono::{DateTime, FixedOffset, Utc};
use serde::Deserialize;

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
        if self.mchid == mch_id && self.appid != app_id {
            return Err(Fault::AppidMismatch);
        }
        self.money(mch_id)
    }

    /// The same for any app of the merchant's: what can be given back.
    ///
    /// # Errors
    /// The first rule it breaks.
    pub fn money(&self, mch_id: &str) -> Result<Payment, Fault> {
        if self.mchid != mch_id {
            return Err(Fault::MchidMismatch);
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
#[derive(Clone, Debug)]
pub struct NewRefund<'a> {
    /// The payment it takes from.
    pub transaction_id: &'a TransactionId,
    /// Our number, the idempotency key: a new one would refund twice.
    pub out_refund_no: &'a RefundNo,
    /// Shown to the payer; cut to 80 bytes.
    pub reason: Option<&'a str>,
    /// What goes back.
    pub refund: Fen,
    /// What was paid.
    pub total: Fen,
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
    /// How much.
    pub amount: RefundAmount,
}

/// The amounts of a refund; those of the payer, less coupons, are not our business.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct RefundAmount {
    /// Fen of the payment.
    pub total: i64,
    /// Fen that go back.
    pub refund: i64,
}

/// The plaintext of a refund notification (wechatpay-v3.md §4.5), which is not the object of the API.
#[derive(Clone, Debug, Deserialize)]
pub struct RefundNotice {
    /// Whose account.
    pub mchid: String,
    /// The order's number.
    pub out_trade_no: String,
    transaction_id: String,
    out_refund_no: String,
    refund_id: String,
    refund_status: RefundStatus,
    #[serde(default)]
    success_time: Option<DateTime<FixedOffset>>,
    amount: RefundAmount,
}

impl Refund {
    /// What WeChat Pay says of the refund; `None` for a state that this service does not know.
    ///
    /// # Errors
    /// [`Fault::Malformed`], by what is out of its range.
    pub fn report(&self) -> Result<Option<Report>, Fault> {
        let Some(event) = self.status.event() else { return Ok(None) };
        let Self { refund_id, out_refund_no, transaction_id, out_trade_no, success_time, amount, .. } = self;
        report(event, [out_refund_no, out_trade_no, transaction_id, refund_id], *success_time, *amount).map(Some)
    }
}

impl RefundNotice {
    /// What WeChat Pay says of the refund.
    ///
    /// # Errors
    /// [`Fault::Malformed`], by what is out of its range.
    pub fn report(&self) -> Result<Report, Fault> {
        // It is never told that a refund was accepted (wechatpay-v3.md §4.5).
        let event = self.refund_status.event().filter(|event| *event != RefundEvent::Accepted);
        let event = event.ok_or(Fault::Malformed("refund_status is none of those that are told"))?;
        let Self { refund_id, out_refund_no, transaction_id, out_trade_no, success_time, amount, .. } = self;
        report(event, [out_refund_no, out_trade_no, transaction_id, refund_id], *success_time, *amount)
    }
}

impl RefundStatus {
    const fn event(self) -> Option<RefundEvent> {
        match self {
            Self::Processing => Some(RefundEvent::Accepted),
            Self::Success => Some(RefundEvent::Succeeded),
            Self::Closed => Some(RefundEvent::Closed),
            Self::Abnormal => Some(RefundEvent::Stuck),
            Self::Unknown => None,
        }
    }
}

fn report(
    event: RefundEvent,
    [out_refund_no, out_trade_no, transaction_id, refund_id]: [&str; 4],
    success_time: Option<DateTime<FixedOffset>>,
    amount: RefundAmount,
) -> Result<Report, Fault> {
    let fen = |amount: i64| Fen::try_from(amount).ok().filter(|amount| *amount >= Fen::ONE);
    if !(1..=32).contains(&refund_id.len()) {
        return Err(Fault::Malformed("refund_id is out of its range"));
    }
    Ok(Report {
        refund_no: out_refund_no.parse().map_err(|_| Fault::Malformed("out_refund_no is out of its alphabet"))?,
        order_no: out_trade_no.parse().map_err(|_| Fault::Malformed("out_trade_no is out of its alphabet"))?,
        transaction_id: transaction_id.parse().map_err(|_| Fault::Malformed("transaction_id is out of its range"))?,
        wechat_refund_id: refund_id.to_owned(),
        event,
        succeeded_at: success_time.filter(|_| event == RefundEvent::Succeeded).map(|at| at.with_timezone(&Utc)),
        amount: fen(amount.refund).ok_or(Fault::Malformed("amount.refund is out of its range"))?,
        total: fen(amount.total).ok_or(Fault::Malformed("amount.total is out of its range"))?,
    })
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
    fn money_for_another_app_of_the_merchants_can_be_given_back() {
        let money = |member: &str, value: &str| {
            let mut json: serde_json::Value = serde_json::from_str(PLAINTEXT).expect("JSON");
            json[member] = value.into();
            serde_json::from_value::<Transaction>(json).expect("a transaction").money("1900000100")
        };
        assert_eq!(money("appid", "wx0").expect("a payment").amount.get(), 300);
        assert_eq!(money("mchid", "1900000101"), Err(Fault::MchidMismatch));
        assert_eq!(money("trade_state", "NOTPAY"), Err(Fault::TradeStateUnexpected));
    }

    #[test]
    fn an_order_with_a_refund_was_paid() {
        assert!(payment(|json| json["trade_state"] = "REFUND".into()).is_ok());
    }
}
