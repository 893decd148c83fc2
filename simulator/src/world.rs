//! What WeChat Pay knows: orders, refunds and notifications, all in memory.
//!
//! The rules of the states are here and nowhere else; this module speaks no HTTP and asks no
//! clock: whoever calls says what time it is.

pub mod notifications;
pub mod orders;
pub mod refunds;

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use crate::{clock::china_day, crypto};
use notifications::Notification;
use orders::{Order, State};
use refunds::{Refund, Status};

/// Why WeChat Pay refuses: what the API answers with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// `code` of the answer.
    pub code: &'static str,
    /// `message` of the answer.
    pub message: String,
    /// Internal code, the suffix of `Request-ID`.
    pub internal: u32,
}

impl Refusal {
    /// A refusal with the given status, code, message and internal code.
    pub fn new(status: u16, code: &'static str, message: impl Into<String>, internal: u32) -> Self {
        Self { status, code, message: message.into(), internal }
    }

    /// `400 INVALID_REQUEST`
    pub fn invalid(message: impl Into<String>, internal: u32) -> Self {
        Self::new(400, "INVALID_REQUEST", message, internal)
    }
}

/// All that has happened since the start, or the last reset.
#[derive(Debug)]
pub struct World {
    orders: HashMap<String, Order>,
    order_nos: Vec<String>,
    codes: HashMap<String, String>,
    transactions: HashMap<String, String>,
    refunds: HashMap<String, Refund>,
    refund_nos: Vec<String>,
    refund_ids: HashMap<String, String>,
    /// What is told to merchants.
    pub notifications: HashMap<Uuid, Notification>,
    notification_ids: Vec<Uuid>,
    /// Six digits that keep the numbers of this run apart from those of another, whose orders the
    /// merchant may still have in its database.
    run: String,
    counter: u64,
}

impl Default for World {
    fn default() -> Self {
        Self {
            orders: HashMap::new(),
            order_nos: Vec::new(),
            codes: HashMap::new(),
            transactions: HashMap::new(),
            refunds: HashMap::new(),
            refund_nos: Vec::new(),
            refund_ids: HashMap::new(),
            notifications: HashMap::new(),
            notification_ids: Vec::new(),
            run: crypto::digits(6),
            counter: 0,
        }
    }
}

/// Totals for comparing the merchant's books with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Orders ever made.
    pub orders: usize,
    /// Paid orders, refunded or not.
    pub payments: usize,
    /// Sum of the paid orders' totals, fen.
    pub paid: i64,
    /// Refunds ever accepted.
    pub refunds: usize,
    /// Sum of the refunds that succeeded, fen.
    pub refunded: i64,
    /// Sum of the refunds still under way (PROCESSING or ABNORMAL), fen.
    pub refunding: i64,
}

impl World {
    /// The order, after whatever time has done to it.
    pub fn order(&mut self, out_trade_no: &str, now: DateTime<Utc>) -> Option<&mut Order> {
        let order = self.orders.get_mut(out_trade_no)?;
        order.age(now);
        Some(order)
    }

    /// The order as it was left; for reading what does not change.
    pub fn order_as_left(&self, out_trade_no: &str) -> Option<&Order> {
        self.orders.get(out_trade_no)
    }

    /// The order that a `transaction_id` belongs to.
    pub fn by_transaction(&self, transaction_id: &str) -> Option<&str> {
        self.transactions.get(transaction_id).map(String::as_str)
    }

    /// The order whose valid code this is.
    pub fn by_code(&self, code_url: &str) -> Option<&str> {
        self.codes.get(code_url).map(String::as_str)
    }

    /// Adds a new order.
    pub fn add_order(&mut self, order: Order) {
        let no = order.out_trade_no.clone();
        self.codes.insert(order.code_url.clone(), no.clone());
        self.order_nos.push(no.clone());
        self.orders.insert(no, order);
    }

    /// Gives an unpaid order a new code; the older one becomes invalid (section 5.5).
    pub fn renew_code(&mut self, out_trade_no: &str, now: DateTime<Utc>) -> Option<String> {
        let order = self.orders.get_mut(out_trade_no)?;
        self.codes.remove(&order.code_url);
        order.renew_code(now);
        self.codes.insert(order.code_url.clone(), out_trade_no.to_owned());
        Some(order.code_url.clone())
    }

    /// The newest orders, newest first.
    pub fn newest_orders(&self, limit: usize) -> impl Iterator<Item = &Order> {
        self.order_nos.iter().rev().take(limit).filter_map(|no| self.orders.get(no))
    }

    /// All orders, oldest first.
    pub fn all_orders(&self) -> impl Iterator<Item = &Order> {
        self.order_nos.iter().filter_map(|no| self.orders.get(no))
    }

    /// The refund with this number.
    pub fn refund(&self, out_refund_no: &str) -> Option<&Refund> {
        self.refunds.get(out_refund_no)
    }

    /// The refund with this number, to change.
    pub fn refund_mut(&mut self, out_refund_no: &str) -> Option<&mut Refund> {
        self.refunds.get_mut(out_refund_no)
    }

    /// The refund with WeChat Pay's number.
    pub fn refund_by_id(&self, refund_id: &str) -> Option<&Refund> {
        self.refund_ids.get(refund_id).and_then(|no| self.refunds.get(no))
    }

    /// The refunds of an order, oldest first.
    pub fn refunds_of<'a>(&'a self, order: &'a Order) -> impl Iterator<Item = &'a Refund> {
        order.refunds.iter().filter_map(|no| self.refunds.get(no))
    }

    /// All refunds, oldest first.
    pub fn all_refunds(&self) -> impl DoubleEndedIterator<Item = &Refund> {
        self.refund_nos.iter().filter_map(|no| self.refunds.get(no))
    }

    fn add_refund(&mut self, refund: Refund) {
        let no = refund.out_refund_no.clone();
        if let Some(order) = self.orders.get_mut(&refund.out_trade_no) {
            order.refunds.push(no.clone());
        }
        self.refund_ids.insert(refund.refund_id.clone(), no.clone());
        self.refund_nos.push(no.clone());
        self.refunds.insert(no, refund);
    }

    /// Adds a notification and links it to its order.
    pub fn add_notification(&mut self, mut notification: Notification) -> Uuid {
        let id = notification.id;
        notification.sequence = self.notification_ids.len() as u64;
        if let Some(order) = self.orders.get_mut(&notification.out_trade_no) {
            order.notifications.push(id);
        }
        self.notification_ids.push(id);
        self.notifications.insert(id, notification);
        id
    }

    /// The newest notifications, newest first.
    pub fn newest_notifications(&self, limit: usize) -> impl Iterator<Item = &Notification> {
        self.notification_ids.iter().rev().take(limit).filter_map(|id| self.notifications.get(id))
    }

    /// Notifications that are neither delivered nor given up.
    pub fn pending_notifications(&self) -> usize {
        self.notifications.values().filter(|one| one.is_pending()).count()
    }

    /// Sums over everything.
    pub fn totals(&self) -> Totals {
        let paid = || self.orders.values().filter(|order| order.state == State::Paid);
        let sum = |statuses: &[Status]| {
            self.refunds
                .values()
                .filter(|refund| statuses.contains(&refund.status))
                .map(|refund| refund.refund)
                .fold(0, i64::saturating_add)
        };
        Totals {
            orders: self.orders.len(),
            payments: paid().count(),
            paid: paid().map(|order| order.total).fold(0, i64::saturating_add),
            refunds: self.refunds.len(),
            refunded: sum(&[Status::Success]),
            refunding: sum(&[Status::Processing, Status::Abnormal]),
        }
    }

    /// A `transaction_id`: 28 digits.
    pub fn next_transaction_id(&mut self, now: DateTime<Utc>) -> String {
        self.counter += 1;
        format!("4200{}{}{:010}", self.run, china_day(now), self.counter)
    }

    /// A `refund_id`: 29 digits.
    pub fn next_refund_id(&mut self, now: DateTime<Utc>) -> String {
        self.counter += 1;
        format!("5030{}{}{:011}", self.run, china_day(now), self.counter)
    }
}
