//! WeChat Pay's side, in as few lines as it can be told.

use crate::{PRICE, fen};
use shared::{
    money::Fen,
    orders::{OrderNo, TransactionId},
    payments::Payment,
    refunds::{RefundEvent as Event, RefundNo, RefundStatus, Report},
};

/// What WeChat Pay holds: the truth.
#[derive(Debug, Default)]
pub struct There {
    pub paid: Vec<Payment>,
    pub refunds: Vec<(Report, RefundStatus)>,
}

impl There {
    /// Accepts a refund, if the payment has room for it.
    pub fn begin(&mut self, report: Report) -> bool {
        let is_paid = self.paid.iter().any(|payment| payment.transaction_id == report.transaction_id);
        let live = self
            .refunds
            .iter()
            .filter(|(other, status)| other.transaction_id == report.transaction_id && *status != RefundStatus::Closed);
        let has_room = live.map(|(other, _)| other.amount.get()).sum::<i64>() + report.amount.get() <= PRICE;
        if is_paid && has_room {
            self.refunds.push((report, RefundStatus::Processing));
        }
        is_paid && has_room
    }

    /// What it says of a refund.
    pub fn say(&self, nth: usize) -> Option<Report> {
        let (report, status) = self.refunds.get(nth)?;
        let event = match status {
            RefundStatus::Success => Event::Succeeded,
            RefundStatus::Closed => Event::Closed,
            RefundStatus::Abnormal => Event::Stuck,
            _ => Event::Accepted,
        };
        Some(Report { event, ..report.clone() })
    }
}

pub fn report(refund_no: &RefundNo, order_no: &OrderNo, transaction_id: &TransactionId, amount: Fen) -> Report {
    Report {
        refund_no: refund_no.clone(),
        order_no: order_no.clone(),
        transaction_id: transaction_id.clone(),
        wechat_refund_id: format!("W{refund_no}"),
        event: Event::Accepted,
        succeeded_at: None,
        amount,
        total: fen(PRICE),
    }
}
