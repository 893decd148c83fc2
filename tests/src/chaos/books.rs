//! WeChat Pay's books beside ours: what must agree when everything is settled. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// Examples that one complaint shows.
const EXAMPLES: usize = 5;

// What is lost.
const ORDERS_GONE: &str = "orders that were acknowledged and are not there";
const REFUNDS_GONE: &str = "refunds that were acknowledged and are not there";
const CALLBACKS_GONE: &str = "callbacks acknowledged and not in the log";
const NO_ORDER: &str = "payments of orders that are not here";
const NO_CREDIT: &str = "payments without a credit";
const NO_REFUND: &str = "refunds at WeChat Pay that are not here";
// What is doubled.
const CREDITED_AGAIN: &str = "payments credited more than once";
const TAKEN_AGAIN: &str = "refunds that moved their points more than once";

/// What WeChat Pay knows.
#[derive(Clone, Debug, Default)]
pub struct Theirs {
    /// Orders that can still be paid, by number.
    pub open: BTreeSet<String>,
    /// Payments, by order.
    pub payments: BTreeMap<String, Payment>,
    /// Refunds, by number.
    pub refunds: BTreeMap<String, TheirRefund>,
    /// True callbacks that were answered 200: how often, by the notification's id.
    pub acknowledged: BTreeMap<String, usize>,
    /// All callbacks that were answered 200, lies included.
    pub all_acknowledged: usize,
    /// Deliveries whose content was a lie under a true signature.
    pub lies: usize,
}

/// A payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// WeChat Pay's number.
    pub transaction_id: String,
    /// Fen.
    pub amount: i64,
}

/// A refund, as WeChat Pay knows it.
#[derive(Clone, Debug)]
pub struct TheirRefund {
    /// The order.
    pub order_no: String,
    /// Fen.
    pub amount: i64,
    /// `SUCCESS`, `CLOSED`, `PROCESSING` or `ABNORMAL`.
    pub status: String,
}

/// What we know.
#[derive(Clone, Debug, Default)]
pub struct Ours {
    /// Orders, by number.
    pub orders: BTreeMap<String, Order>,
    /// Ledger entries of payments: how many, and their sum, by order.
    pub credits: BTreeMap<String, (i64, i64)>,
    /// Refunds, by number.
    pub refunds: BTreeMap<String, OurRefund>,
    /// Sums of the ledger entries of refunds, by refund.
    pub debits: BTreeMap<String, i64>,
    /// Rows of the notify log that were acknowledged, by the notification's id.
    pub stored: BTreeMap<String, usize>,
    /// How many rows of the log have each status and error code.
    pub log: BTreeMap<String, usize>,
}

/// An order.
#[derive(Clone, Debug)]
pub struct Order {
    /// `paid` and so on.
    pub status: String,
    /// The payment that settled it.
    pub payment: Option<Payment>,
    /// What it gives, bonus included.
    pub points: i64,
}

/// A refund, as we know it.
#[derive(Clone, Debug)]
pub struct OurRefund {
    /// The order.
    pub order_no: String,
    /// Fen.
    pub amount: i64,
    /// What it took, bonus included.
    pub points: i64,
    /// `success` and so on.
    pub status: String,
    /// It began at WeChat Pay.
    pub external: bool,
}

/// What a caller was told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told<'a> {
    /// Orders that were acknowledged.
    pub orders: &'a [String],
    /// Refunds that were acknowledged.
    pub refunds: &'a [String],
    /// Orders whose cancel was acknowledged.
    pub cancelled: &'a [String],
}

/// Everything that does not agree, by what it is; nothing when the books balance.
#[derive(Debug, Default)]
pub struct Complaints(BTreeMap<&'static str, Vec<String>>);

impl Complaints {
    fn add(&mut self, about: &'static str, subject: impl Into<String>) {
        self.0.entry(about).or_default().push(subject.into());
    }

    /// Payments and refunds that are not here, and what was acknowledged and is not.
    pub fn lost(&self) -> usize {
        self.count(&[ORDERS_GONE, REFUNDS_GONE, CALLBACKS_GONE, NO_ORDER, NO_CREDIT, NO_REFUND])
    }

    /// Payments and refunds that moved points more than once.
    pub fn doubled(&self) -> usize {
        self.count(&[CREDITED_AGAIN, TAKEN_AGAIN])
    }

    fn count(&self, kinds: &[&str]) -> usize {
        kinds.iter().filter_map(|kind| self.0.get(kind)).map(Vec::len).sum()
    }

    /// One for each kind, with a few examples.
    pub fn lines(self) -> Vec<String> {
        let line = |(about, subjects): (&str, Vec<String>)| {
            let more = if subjects.len() > EXAMPLES { ", …" } else { "" };
            let examples: Vec<_> = subjects.iter().take(EXAMPLES).map(String::as_str).collect();
            format!("{about}: {} ({}{more})", subjects.len(), examples.join(", "))
        };
        self.0.into_iter().map(line).collect()
    }
}

/// Both sides' books, and what callers were told.
pub fn compare(theirs: &Theirs, ours: &Ours, told: Told<'_>) -> Complaints {
    let mut complaints = Complaints::default();
    payments(theirs, ours, &mut complaints);
    refunds(theirs, ours, told, &mut complaints);
    callbacks(theirs, ours, &mut complaints);
    for order_no in told.orders.iter().filter(|order_no| !ours.orders.contains_key(*order_no)) {
        complaints.add(ORDERS_GONE, order_no);
    }
    for refund_no in told.refunds.iter().filter(|refund_no| !ours.refunds.contains_key(*refund_no)) {
        complaints.add(REFUNDS_GONE, refund_no);
    }
    let is_ended = |order: &Order| matches!(order.status.as_str(), "cancelled" | "expired");
    for (order_no, order) in ours.orders.iter().filter(|(_, order)| is_ended(order)) {
        if theirs.open.contains(order_no) {
            complaints.add("orders ended here that can still be paid", format!("{order_no} {}", order.status));
        }
    }
    let status = |order_no: &String| ours.orders.get(order_no).map_or("nowhere", |order| order.status.as_str());
    for order_no in told.cancelled.iter().filter(|order_no| status(order_no) != "cancelled") {
        complaints.add("orders whose cancel was acknowledged", format!("{order_no} is {}", status(order_no)));
    }
    complaints
}

fn payments(theirs: &Theirs, ours: &Ours, complaints: &mut Complaints) {
    for (order_no, payment) in &theirs.payments {
        let Some(order) = ours.orders.get(order_no) else {
            complaints.add(NO_ORDER, order_no);
            continue;
        };
        match ours.credits.get(order_no) {
            None => complaints.add(NO_CREDIT, format!("{order_no} {}", order.status)),
            Some((1, points)) if *points == order.points => {}
            Some((1, points)) => complaints.add("credits of other points", format!("{order_no} {points}")),
            Some((count, _)) => complaints.add(CREDITED_AGAIN, format!("{order_no} {count} times")),
        }
        if order.payment.as_ref().is_some_and(|ours| ours != payment) {
            complaints.add("orders with another payment than WeChat Pay's", order_no);
        }
    }
    for (order_no, order) in ours.orders.iter().filter(|(_, order)| order.payment.is_some()) {
        if !theirs.payments.contains_key(order_no) {
            complaints.add("orders that are paid here alone", format!("{order_no} {}", order.status));
        }
    }
    for order_no in ours.credits.keys().filter(|order_no| !theirs.payments.contains_key(*order_no)) {
        complaints.add("credits without a payment", order_no);
    }
}

fn refunds(theirs: &Theirs, ours: &Ours, told: Told<'_>, complaints: &mut Complaints) {
    for (refund_no, refund) in &theirs.refunds {
        let Some(here) = ours.refunds.get(refund_no) else {
            // Begun and ended in WeChat Pay's console before we heard of it: nothing was moved.
            if refund.status == "CLOSED" && !told.refunds.contains(refund_no) {
                continue;
            }
            complaints.add(NO_REFUND, format!("{refund_no} {}", refund.status));
            continue;
        };
        let fits =
            matches!((refund.status.as_str(), here.status.as_str()), ("SUCCESS", "success") | ("CLOSED", "closed"));
        if !fits {
            let line = format!("{refund_no} {} there, {} here", refund.status, here.status);
            complaints.add("refunds that have not ended alike", line);
        }
        if (&refund.order_no, refund.amount) != (&here.order_no, here.amount) {
            complaints.add("refunds of another order or amount", refund_no);
        }
    }
    for (refund_no, refund) in &ours.refunds {
        let money_went = refund.status == "success";
        let moved = ours.debits.get(refund_no).copied().unwrap_or(0);
        let fitting = if money_went { -refund.points } else { 0 };
        if moved != fitting {
            let is_more = moved < -refund.points || moved > 0;
            let about = if is_more { TAKEN_AGAIN } else { "refunds whose points do not fit" };
            complaints.add(about, format!("{refund_no} {} {moved}", refund.status));
        }
        let is_there = theirs.refunds.contains_key(refund_no);
        if !is_there && refund.status != "failed" {
            complaints.add("refunds here alone", format!("{refund_no} {}", refund.status));
        }
    }
    for (order_no, order) in ours.orders.iter().filter(|(_, order)| order.status == "refunded") {
        let its_own: Vec<_> = ours.refunds.values().filter(|refund| refund.order_no == *order_no).collect();
        let taken: i64 = its_own.iter().filter(|one| one.status == "success").map(|one| one.points).sum();
        // One of ours that crosses one of theirs may leave a point behind.
        if taken != order.points && !its_own.iter().any(|one| one.external) {
            complaints.add("orders refunded whole that kept points", format!("{order_no} {taken} of {}", order.points));
        }
    }
}

fn callbacks(theirs: &Theirs, ours: &Ours, complaints: &mut Complaints) {
    for (id, times) in &theirs.acknowledged {
        let stored = ours.stored.get(id).copied().unwrap_or(0);
        if stored < *times {
            complaints.add(CALLBACKS_GONE, format!("{id} {stored} of {times}"));
        }
    }
    let stored: usize = ours.stored.values().sum();
    if stored < theirs.all_acknowledged {
        let line = format!("{} acknowledged, {stored} stored", theirs.all_acknowledged);
        complaints.add("more callbacks acknowledged than stored", line);
    }
    let unfinished =
        ours.log.iter().filter(|(status, _)| status.starts_with("received") || status.starts_with("retrying"));
    for (status, rows) in unfinished {
        complaints.add("rows of the log that are not finished", format!("{rows} {status}"));
    }
    let mut buried = 0;
    for (status, rows) in ours.log.iter().filter(|(status, _)| status.starts_with("dead")) {
        buried += rows;
        if !LIES.contains(&status.as_str()) {
            complaints.add("dead letters that no lie explains", format!("{rows} {status}"));
        }
    }
    if buried > theirs.lies {
        complaints.add("more dead letters than lies", format!("{buried} of {}", theirs.lies));
    }
}

/// What becomes of the simulator's lies.
const LIES: [&str; 4] = ["dead currency_mismatch", "dead appid_mismatch", "dead mchid_mismatch", "dead decrypt_failed"];

#[cfg(test)]
mod tests {
    use super::*;

    fn payment() -> Payment {
        Payment { transaction_id: "T1".into(), amount: 100 }
    }

    /// One order, paid, with a refund of a tenth of it, and two callbacks.
    fn balanced() -> (Theirs, Ours) {
        let their_refund = TheirRefund { order_no: "O1".into(), amount: 10, status: "SUCCESS".into() };
        let theirs = Theirs {
            open: ["O2".into()].into(),
            payments: [("O1".into(), payment())].into(),
            refunds: [("R1".into(), their_refund)].into(),
            acknowledged: [("N1".into(), 2)].into(),
            all_acknowledged: 3,
            lies: 1,
        };
        let order = Order { status: "partially_refunded".into(), payment: Some(payment()), points: 105 };
        let refund =
            OurRefund { order_no: "O1".into(), amount: 10, points: 10, status: "success".into(), external: false };
        let ours = Ours {
            orders: [("O1".into(), order)].into(),
            credits: [("O1".into(), (1, 105))].into(),
            refunds: [("R1".into(), refund)].into(),
            debits: [("R1".into(), -10)].into(),
            stored: [("N1".into(), 2), ("L1".into(), 1)].into(),
            log: [("processed".into(), 1), ("duplicate".into(), 1), ("dead currency_mismatch".into(), 1)].into(),
        };
        (theirs, ours)
    }

    fn check(change: impl FnOnce(&mut Theirs, &mut Ours), expected: &[&str]) {
        let (mut theirs, mut ours) = balanced();
        change(&mut theirs, &mut ours);
        assert_eq!(compare(&theirs, &ours, Told::default()).lines(), expected);
    }

    #[test]
    fn books_that_balance_give_no_complaint() {
        check(|_, _| (), &[]);
    }

    #[test]
    fn a_payment_has_one_credit_of_its_points() {
        check(|_, ours| ours.credits.clear(), &["payments without a credit: 1 (O1 partially_refunded)"]);
        let twice = |_: &mut Theirs, ours: &mut Ours| _ = ours.credits.insert("O1".into(), (2, 210));
        check(twice, &["payments credited more than once: 1 (O1 2 times)"]);
        let other = |_: &mut Theirs, ours: &mut Ours| _ = ours.credits.insert("O1".into(), (1, 100));
        check(other, &["credits of other points: 1 (O1 100)"]);
    }

    #[test]
    fn nothing_is_paid_here_alone() {
        check(
            |theirs, _| theirs.payments.clear(),
            &["credits without a payment: 1 (O1)", "orders that are paid here alone: 1 (O1 partially_refunded)"],
        );
    }

    #[test]
    fn a_refund_ends_here_as_it_ended_there() {
        let pending = |_: &mut Theirs, ours: &mut Ours| {
            ours.refunds.get_mut("R1").expect("it is there").status = "processing".into();
        };
        check(
            pending,
            &[
                "refunds that have not ended alike: 1 (R1 SUCCESS there, processing here)",
                "refunds whose points do not fit: 1 (R1 processing -10)",
            ],
        );
        check(|theirs, _| theirs.refunds.clear(), &["refunds here alone: 1 (R1 success)"]);
    }

    #[test]
    fn what_was_acknowledged_is_there() {
        let lost = |_: &mut Theirs, ours: &mut Ours| _ = ours.stored.insert("N1".into(), 1);
        check(
            lost,
            &[
                "callbacks acknowledged and not in the log: 1 (N1 1 of 2)",
                "more callbacks acknowledged than stored: 1 (3 acknowledged, 2 stored)",
            ],
        );
        let (theirs, ours) = balanced();
        let told = Told { orders: &["O2".into()], ..Told::default() };
        let complaints = compare(&theirs, &ours, told).lines();
        assert_eq!(complaints, ["orders that were acknowledged and are not there: 1 (O2)"]);
    }

    #[test]
    fn what_has_ended_here_cannot_be_paid_there_and_stays_ended() {
        let ended = |status: &str| Order { status: status.into(), payment: None, points: 105 };
        check(|_, ours| _ = ours.orders.insert("O2".into(), ended("pending")), &[]);
        let expired = |_: &mut Theirs, ours: &mut Ours| _ = ours.orders.insert("O2".into(), ended("expired"));
        check(expired, &["orders ended here that can still be paid: 1 (O2 expired)"]);
        let (theirs, ours) = balanced();
        let told = Told { cancelled: &["O1".into()], ..Told::default() };
        let complaints = compare(&theirs, &ours, told).lines();
        assert_eq!(complaints, ["orders whose cancel was acknowledged: 1 (O1 is partially_refunded)"]);
    }

    #[test]
    fn what_is_lost_and_what_is_doubled_is_counted() {
        let (theirs, mut ours) = balanced();
        let count = |ours: &Ours| {
            let complaints = compare(&theirs, ours, Told { orders: &["O3".into()], ..Told::default() });
            (complaints.lost(), complaints.doubled())
        };
        assert_eq!(count(&ours), (1, 0), "an order that was acknowledged");
        ours.credits.clear();
        assert_eq!(count(&ours), (2, 0), "and a credit");
        ours.credits.insert("O1".into(), (3, 315));
        assert_eq!(count(&ours), (1, 1));
        ours.debits.insert("R1".into(), -20);
        assert_eq!(count(&ours), (1, 2), "what a refund took");
    }

    #[test]
    fn no_row_is_left_and_only_lies_are_dead() {
        let left = |_: &mut Theirs, ours: &mut Ours| _ = ours.log.insert("retrying order_not_found".into(), 2);
        check(left, &["rows of the log that are not finished: 1 (2 retrying order_not_found)"]);
        let dead = |_: &mut Theirs, ours: &mut Ours| _ = ours.log.insert("dead poison".into(), 1);
        check(
            dead,
            &["dead letters that no lie explains: 1 (1 dead poison)", "more dead letters than lies: 1 (2 of 1)"],
        );
    }
}
