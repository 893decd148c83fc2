//! What callbacks say, before it is encrypted (sections 4.4 and 4.5 of the protocol reference).

use serde::Serialize;
use serde_json::Value;

use crate::{
    clock::china,
    faults::Fault,
    keys::Merchant,
    world::{
        orders::{Order, Payment, promotion},
        refunds::Refund,
    },
};

/// What a notification says, before it is encrypted.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Plaintext {
    /// Of `TRANSACTION.SUCCESS`.
    Transaction(Box<TransactionPlaintext>),
    /// Of `REFUND.…`.
    Refund(Box<RefundPlaintext>),
}

/// Of `TRANSACTION.SUCCESS`, in the key order of real callbacks.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the names are those of the protocol")]
pub struct TransactionPlaintext {
    pub mchid: String,
    pub appid: String,
    pub out_trade_no: String,
    pub transaction_id: String,
    pub trade_type: &'static str,
    pub trade_state: &'static str,
    pub trade_state_desc: &'static str,
    pub bank_type: &'static str,
    pub attach: String,
    pub success_time: String,
    pub payer: Payer,
    pub amount: TransactionAmount,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub promotion_detail: Vec<Value>,
}

/// `payer`
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the names are those of the protocol")]
pub struct Payer {
    pub openid: String,
}

/// `amount` of a payment, fen.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the names are those of the protocol")]
pub struct TransactionAmount {
    pub total: i64,
    pub payer_total: i64,
    pub currency: &'static str,
    pub payer_currency: &'static str,
}

/// Of `REFUND.…`, in the key order of real callbacks.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the names are those of the protocol")]
pub struct RefundPlaintext {
    pub mchid: String,
    pub out_trade_no: String,
    pub transaction_id: String,
    pub out_refund_no: String,
    pub refund_id: String,
    pub refund_status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_time: Option<String>,
    pub amount: RefundAmount,
    pub user_received_account: &'static str,
}

/// `amount` of a refund, fen.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the names are those of the protocol")]
pub struct RefundAmount {
    pub total: i64,
    pub refund: i64,
    pub payer_total: i64,
    pub payer_refund: i64,
}

impl Plaintext {
    /// What a payment is notified with.
    pub fn of_payment(order: &Order, payment: &Payment) -> Self {
        let asked = &order.asked;
        Self::Transaction(Box::new(TransactionPlaintext {
            mchid: asked.mch_id.clone(),
            appid: asked.app_id.clone(),
            out_trade_no: order.out_trade_no.clone(),
            transaction_id: payment.transaction_id.clone(),
            trade_type: "NATIVE",
            trade_state: "SUCCESS",
            trade_state_desc: "支付成功",
            bank_type: "OTHERS",
            attach: asked.attach.clone().unwrap_or_default(),
            success_time: china(payment.paid_at),
            payer: Payer { openid: payment.openid.clone() },
            amount: TransactionAmount {
                total: order.total,
                payer_total: payment.payer_total,
                currency: "CNY",
                payer_currency: "CNY",
            },
            promotion_detail: promotion(order.total - payment.payer_total),
        }))
    }

    /// What the outcome of a refund is notified with.
    pub fn of_refund(refund: &Refund, merchant: &Merchant) -> Self {
        Self::Refund(Box::new(RefundPlaintext {
            mchid: merchant.mch_id.clone(),
            out_trade_no: refund.out_trade_no.clone(),
            transaction_id: refund.transaction_id.clone(),
            out_refund_no: refund.out_refund_no.clone(),
            refund_id: refund.refund_id.clone(),
            refund_status: refund.status.name(),
            success_time: refund.succeeded_at.map(china),
            amount: RefundAmount {
                total: refund.total,
                refund: refund.refund,
                payer_total: refund.payer_total,
                payer_refund: refund.payer_refund,
            },
            user_received_account: Refund::RECEIVED_BY,
        }))
    }

    /// `event_type` and `summary` of the notification that says this.
    pub fn event(&self) -> (&'static str, &'static str) {
        match self {
            Self::Transaction(_) => ("TRANSACTION.SUCCESS", "支付成功"),
            Self::Refund(refund) => match refund.refund_status {
                "SUCCESS" => ("REFUND.SUCCESS", "退款成功"),
                "CLOSED" => ("REFUND.CLOSED", "退款关闭"),
                _ => ("REFUND.ABNORMAL", "退款异常"),
            },
        }
    }

    /// `original_type`, which is the associated data too.
    pub const fn original_type(&self) -> &'static str {
        match self {
            Self::Transaction(_) => "transaction",
            Self::Refund(_) => "refund",
        }
    }

    /// The same with the lie in it; `None` when it has no such member.
    pub fn lied(&self, lie: Fault) -> Option<Self> {
        let mut lied = self.clone();
        match (&mut lied, lie) {
            (Self::Transaction(one), Fault::WrongAmount) => {
                one.amount.total = one.amount.total.saturating_add(1);
                one.amount.payer_total = one.amount.payer_total.saturating_add(1);
            }
            (Self::Transaction(one), Fault::WrongCurrency) => {
                (one.amount.currency, one.amount.payer_currency) = ("USD", "USD");
            }
            (Self::Transaction(one), Fault::WrongAppid) => {
                "wx0000000000000000".clone_into(&mut one.appid);
            }
            (Self::Transaction(one), Fault::WrongMchid) => "1900000000".clone_into(&mut one.mchid),
            (Self::Refund(one), Fault::WrongAmount) => {
                one.amount.refund = one.amount.refund.saturating_add(1);
                one.amount.payer_refund = one.amount.payer_refund.saturating_add(1);
            }
            (Self::Refund(one), Fault::WrongMchid) => "1900000000".clone_into(&mut one.mchid),
            _ => return None,
        }
        Some(lied)
    }
}
