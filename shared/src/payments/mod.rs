//! Payments: what a verified fact about an order means. The one way in for money, wherever the fact came from.

pub mod apply;
mod sql;

use crate::{
    money::Fen,
    notify::Fault,
    orders::{OrderEvent, OrderNo, PaymentStatus, TransactionId},
    points::Points,
    users::UserId,
};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;

/// A payment that WeChat Pay vouches for: its signature was verified, and it is for this merchant and app, in CNY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// The order it is for.
    pub order_no: OrderNo,
    /// WeChat Pay's number of it.
    pub transaction_id: TransactionId,
    /// What the order cost (`amount.total`; the payer may have paid less, with a coupon).
    pub amount: Fen,
    /// When, by WeChat Pay's clock.
    pub paid_at: DateTime<Utc>,
}

/// What a decision needs to know of an order. Read under the order's lock.
#[derive(Clone, Debug)]
pub struct Payable {
    /// Its number.
    pub order_no: OrderNo,
    /// Who gets the points.
    pub user_id: UserId,
    /// What it costs.
    pub amount: Fen,
    /// The points that are paid for.
    pub points: Points,
    /// The points on top.
    pub bonus_points: Points,
    /// Where it is.
    pub status: PaymentStatus,
    /// The payment that settled it, if one did.
    pub transaction_id: Option<TransactionId>,
}

/// A payment that settles an order: what to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The order that is paid.
    pub order_no: OrderNo,
    /// By which payment.
    pub transaction_id: TransactionId,
    /// When.
    pub paid_at: DateTime<Utc>,
    /// Who gets the points.
    pub user_id: UserId,
    /// The points that are paid for.
    pub points: Points,
    /// The points on top.
    pub bonus_points: Points,
    /// Where the order was. Anything but pending is late money, which is worth a line in the log.
    pub from: PaymentStatus,
}

impl Settlement {
    /// By how much the balance grows.
    pub const fn credit(&self) -> i64 {
        self.points.get() + self.bonus_points.get()
    }
}

/// What a payment means for the order it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Mark the order paid and credit the points.
    Settle(Settlement),
    /// This very payment has settled the order before.
    Duplicate,
    /// It must not be applied.
    Refuse(Fault),
}

/// What a verified payment means for the order it names. Pure: no clock, no database, no log.
pub fn decide(order: &Payable, payment: &Payment) -> Decision {
    if order.transaction_id.as_ref() == Some(&payment.transaction_id) {
        return Decision::Duplicate;
    }
    if order.amount != payment.amount {
        return Decision::Refuse(Fault::AmountMismatch);
    }
    match order.status.after(OrderEvent::Paid) {
        Ok(_) => Decision::Settle(Settlement {
            order_no: order.order_no.clone(),
            transaction_id: payment.transaction_id.clone(),
            paid_at: payment.paid_at,
            user_id: order.user_id.clone(),
            points: order.points,
            bonus_points: order.bonus_points,
            from: order.status,
        }),
        // Another transaction has paid this order. The money is real, so a person must look.
        Err(_) => Decision::Refuse(Fault::PaidTwice),
    }
}

/// Decides a whole set, each on what the one before it left. `orders` holds the locked orders by number.
pub fn decide_set(orders: &mut BTreeMap<OrderNo, Payable>, payments: &[&Payment]) -> Vec<Decision> {
    payments
        .iter()
        .map(|payment| {
            // No such order may mean not yet: a passing fault, which the retry ladder outlives or reports.
            let Some(order) = orders.get_mut(&payment.order_no) else {
                return Decision::Refuse(Fault::OrderNotFound);
            };
            let decision = decide(order, payment);
            if let Decision::Settle(settlement) = &decision {
                order.status = PaymentStatus::Paid;
                order.transaction_id = Some(settlement.transaction_id.clone());
            }
            decision
        })
        .collect()
}

#[cfg(test)]
mod tests;
