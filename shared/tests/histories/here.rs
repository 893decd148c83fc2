//! Our side: the service's decisions over a database of a few lines.

use crate::{BONUS, ORDERS, POINTS, PRICE, fen, of, order_no, points};
use chrono::DateTime;
use shared::{
    money::Fen,
    orders::{OrderNo, PaymentStatus, TransactionId},
    payments::{self, Payable, Payment},
    refunds::{self, Change, Origin, Parent, Refund, RefundNo, RefundStatus, Report, Share, Taken},
};
use std::collections::BTreeMap;

/// What our database holds.
#[derive(Clone, Debug)]
pub struct Here {
    pub orders: BTreeMap<OrderNo, (PaymentStatus, Option<TransactionId>, Fen)>,
    pub refunds: BTreeMap<RefundNo, Refund>,
    /// The ledger: what it was for, and by how much.
    pub entries: Vec<(String, i64)>,
}

impl Here {
    pub fn new() -> Self {
        let order = |order| (order_no(order), (PaymentStatus::Pending, None, Fen::ZERO));
        Self { orders: (0..ORDERS).map(order).collect(), refunds: BTreeMap::new(), entries: Vec::new() }
    }

    pub fn payables(&self) -> BTreeMap<OrderNo, Payable> {
        let payable =
            |(order_no, (status, transaction_id, _)): (&OrderNo, &(PaymentStatus, Option<TransactionId>, Fen))| {
                Payable {
                    order_no: order_no.clone(),
                    user_id: of("alice"),
                    amount: fen(PRICE),
                    points: points(POINTS),
                    bonus_points: points(BONUS),
                    status: *status,
                    transaction_id: transaction_id.clone(),
                }
            };
        self.orders.iter().map(payable).map(|payable| (payable.order_no.clone(), payable)).collect()
    }

    /// As the service's query has it.
    pub fn parent(&self, order_no: &OrderNo) -> Parent {
        let (status, transaction_id, refunded) = self.orders[order_no].clone();
        let of_order =
            || self.refunds.values().filter(|refund| refund.order_no.as_ref() == Some(order_no) && !refund.misdirected);
        let taken = |counts: fn(&Refund) -> bool| {
            of_order().filter(|refund| counts(refund)).fold(Taken::default(), |sum, refund| Taken {
                amount: sum.amount + refund.amount.get(),
                points: sum.points + refund.points.get(),
                bonus: sum.bonus + refund.bonus_points.get(),
            })
        };
        Parent {
            order_no: order_no.clone(),
            user_id: of("alice"),
            amount: fen(PRICE),
            points: points(POINTS),
            bonus_points: points(BONUS),
            status,
            paid_at: transaction_id.as_ref().map(|_| DateTime::UNIX_EPOCH),
            transaction_id,
            refunded,
            live: taken(|refund| refund.status.is_live()),
            accepted: taken(|refund| refund.status.is_live() && refund.status != RefundStatus::Pending),
            count: i64::try_from(of_order().filter(|refund| refund.status != RefundStatus::Failed).count())
                .expect("few"),
        }
    }

    pub fn balance(&self) -> i64 {
        self.entries.iter().map(|(_, delta)| delta).sum()
    }

    pub fn pay(&mut self, told: &[&Payment]) -> Vec<payments::Decision> {
        let decisions = payments::decide_set(&mut self.payables(), told);
        for decision in &decisions {
            if let payments::Decision::Settle(settled) = decision {
                let order = self.orders.get_mut(&settled.order_no).expect("it is ours");
                (order.0, order.1) = (PaymentStatus::Paid, Some(settled.transaction_id.clone()));
                self.entries.push((format!("{} recharge", settled.order_no), POINTS + BONUS));
            }
        }
        decisions
    }

    pub fn refund(&mut self, told: &[&Report]) -> Vec<refunds::Decision> {
        let mut parents: BTreeMap<_, _> = self.orders.keys().map(|no| (no.clone(), self.parent(no))).collect();
        let decisions = refunds::decide_set(&mut parents, &mut self.refunds.clone(), told);
        for change in decisions.iter().filter_map(refunds::Decision::change) {
            self.write(change);
        }
        decisions
    }

    fn write(&mut self, change: &Change) {
        let report = &change.report;
        if change.external {
            let new = refund(&report.refund_no, &report.order_no, &report.transaction_id, report.amount, change.share);
            self.refunds.insert(
                report.refund_no.clone(),
                Refund { origin: Origin::External, misdirected: change.misdirected, ..new },
            );
        }
        let known = self.refunds.get_mut(&report.refund_no).expect("it is known");
        (known.status, known.wechat_refund_id) = (change.status, Some(report.wechat_refund_id.clone()));
        if let Some((order_no, _)) = &change.of {
            self.move_points(&report.refund_no, change.points_moved());
            if let Some((status, refunded)) = change.order {
                let order = self.orders.get_mut(order_no).expect("it is ours");
                (order.0, order.2) = (status, refunded);
            }
        }
    }

    pub fn move_points(&mut self, refund_no: &RefundNo, delta: i64) {
        if delta != 0 {
            let kind = if delta < 0 { "taken" } else { "given back" };
            self.entries.push((format!("{refund_no} {kind}"), delta));
        }
    }
}

pub fn refund(
    refund_no: &RefundNo,
    order_no: &OrderNo,
    transaction: &TransactionId,
    amount: Fen,
    share: Share,
) -> Refund {
    Refund {
        refund_no: refund_no.clone(),
        order_no: Some(order_no.clone()),
        origin: Origin::Ours,
        amount,
        currency: "CNY".into(),
        points: share.points,
        bonus_points: share.bonus,
        reason: None,
        status: RefundStatus::Pending,
        wechat_refund_id: None,
        failure_reason: None,
        transaction_id: transaction.clone(),
        total: fen(PRICE),
        misdirected: false,
        overdrawn: false,
        attempts: 0,
        next_attempt_at: None,
        created_at: DateTime::UNIX_EPOCH,
        updated_at: DateTime::UNIX_EPOCH,
        completed_at: None,
    }
}
