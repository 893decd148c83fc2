//! What a refund takes, and what news of one means. Pure: no clock, no database, no log.

use super::{Refund, RefundEvent, RefundNo, RefundStatus, Report, Step};
use crate::{
    money::Fen,
    notify::Fault,
    orders::{OrderEvent, OrderNo, PaymentStatus, TransactionId},
    payments::Payable,
    points::Points,
    users::UserId,
};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;

/// What a decision needs to know of an order and its refunds. Read under the order's lock.
#[derive(Clone, Debug)]
pub struct Parent {
    /// Its number.
    pub order_no: OrderNo,
    /// Whose points they are.
    pub user_id: UserId,
    /// What was paid.
    pub amount: Fen,
    /// The points that were paid for.
    pub points: Points,
    /// The points on top.
    pub bonus_points: Points,
    /// Where it is.
    pub status: PaymentStatus,
    /// The payment that settled it.
    pub transaction_id: Option<TransactionId>,
    /// When.
    pub paid_at: Option<DateTime<Utc>>,
    /// What went back so far.
    pub refunded: Fen,
    /// What went back or is going back.
    pub live: Taken,
    /// That part of it which WeChat Pay has accepted.
    pub accepted: Taken,
    /// Refunds that count for the limit: all but the refused ones.
    pub count: i64,
}

/// Money that goes back, and the points taken for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Fen.
    pub amount: i64,
    /// Paid points.
    pub points: i64,
    /// Bonus points.
    pub bonus: i64,
}

impl Taken {
    const fn add(&mut self, sign: i64, amount: Fen, share: Share) {
        self.amount += sign * amount.get();
        self.points += sign * share.points.get();
        self.bonus += sign * share.bonus.get();
    }
}

impl Parent {
    /// The order as payments see it.
    pub fn payable(&self) -> Payable {
        Payable {
            order_no: self.order_no.clone(),
            user_id: self.user_id.clone(),
            amount: self.amount,
            points: self.points,
            bonus_points: self.bonus_points,
            status: self.status,
            transaction_id: self.transaction_id.clone(),
        }
    }

    /// What can still be asked back.
    pub fn left(&self) -> i64 {
        self.amount.get() - self.live.amount
    }
}

/// The points that a refund takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Paid points.
    pub points: Points,
    /// Bonus points.
    pub bonus: Points,
}

impl Share {
    /// Both together.
    pub fn sum(self) -> i64 {
        self.points.get() + self.bonus.get()
    }
}

/// What a refund of `amount` takes back. Rounded over all that is going back together: whatever the parts, when all of the
/// amount has gone, exactly all of the points have.
///
/// One that began at WeChat Pay may be more than is left here, when one of ours is under way that WeChat Pay will refuse for
/// it. Then those which it has accepted count alone: what ours took comes back with its refusal. After such a crossing the sum
/// may be a point off.
pub fn share(parent: &Parent, amount: Fen) -> Share {
    let taken = if amount.get() <= parent.left() { &parent.live } else { &parent.accepted };
    let gone = (taken.amount + amount.get()).min(parent.amount.get());
    let of = |given: Points, taken: i64| {
        let due = i128::from(given.get()) * i128::from(gone) / i128::from(parent.amount.get());
        // What was taken may be a point more than is due, when an earlier part came to nothing.
        let more = i64::try_from(due).unwrap_or(i64::MAX) - taken;
        Points::try_from(more.max(0)).unwrap_or(Points::ZERO)
    };
    Share { points: of(parent.points, taken.points), bonus: of(parent.bonus_points, taken.bonus) }
}

/// What to write of a refund.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What WeChat Pay said.
    pub report: Report,
    /// The state after it.
    pub status: RefundStatus,
    /// It is new here: it began at WeChat Pay.
    pub external: bool,
    /// It takes money that settled no order.
    pub misdirected: bool,
    /// Points that it takes now (a new one), or gives back (one that came to nothing).
    pub share: Share,
    /// Whose points, and of which order; `None` where no order is touched.
    pub of: Option<(OrderNo, UserId)>,
    /// The order's state and refunded amount, where they change.
    pub order: Option<(PaymentStatus, Fen)>,
}

impl Change {
    /// By how much the balance moves: down for a refund that is new here, up for one that came to nothing.
    pub fn points_moved(&self) -> i64 {
        if self.external { -self.share.sum() } else { self.share.sum() }
    }
}

/// What news of a refund means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Write this.
    Apply(Box<Change>),
    /// Nothing is left to change.
    Duplicate,
    /// It must not be applied, or not yet.
    Refuse(Fault),
}

impl Decision {
    /// What is to be written, if anything is.
    pub fn change(&self) -> Option<&Change> {
        match self {
            Self::Apply(change) => Some(change),
            Self::Duplicate | Self::Refuse(_) => None,
        }
    }
}

/// Decides a whole set, each on what the one before it left. `parents` holds the locked orders, `refunds` the refunds that
/// are known of those numbers.
pub fn decide_set(
    parents: &mut BTreeMap<OrderNo, Parent>,
    refunds: &mut BTreeMap<RefundNo, Refund>,
    reports: &[&Report],
) -> Vec<Decision> {
    reports
        .iter()
        .map(|report| {
            let decision = match refunds.get(&report.refund_no) {
                Some(refund) => decide_known(refund, parents, report),
                None => decide_external(parents, report),
            };
            if let Decision::Apply(change) = &decision {
                remember(change, parents, refunds);
            }
            decision
        })
        .collect()
}

fn decide_known(refund: &Refund, parents: &BTreeMap<OrderNo, Parent>, report: &Report) -> Decision {
    let fits = refund.transaction_id == report.transaction_id && refund.amount == report.amount;
    // Money that settled no order may have come for a number that is none of ours.
    let is_elsewhere = !refund.misdirected && refund.order_no.as_ref() != Some(&report.order_no);
    let other_id = refund.wechat_refund_id.as_ref().is_some_and(|id| *id != report.wechat_refund_id);
    if !fits || other_id || is_elsewhere {
        return Decision::Refuse(Fault::RefundMismatch);
    }
    let status = match refund.status.after(report.event) {
        Step::To(status) => status,
        Step::Nothing => return Decision::Duplicate,
        Step::Contradiction => return Decision::Refuse(Fault::RefundContradicted),
    };
    let parent = refund.order_no.as_ref().filter(|_| !refund.misdirected).and_then(|no| parents.get(no));
    let given_back =
        if status.is_live() { Share::NONE } else { Share { points: refund.points, bonus: refund.bonus_points } };
    apply(report, status, parent, given_back, false, refund.misdirected)
}

/// A refund that is not known here was begun at WeChat Pay. Its money is going, so its points go, there or not.
fn decide_external(parents: &BTreeMap<OrderNo, Parent>, report: &Report) -> Decision {
    let Some(parent) = parents.get(&report.order_no) else { return Decision::Refuse(Fault::OrderNotFound) };
    let Some(settled_by) = &parent.transaction_id else { return Decision::Refuse(Fault::OrderNotPaid) };
    let Step::To(status) = RefundStatus::Pending.after(report.event) else {
        return Decision::Refuse(Fault::RefundMismatch);
    };
    let misdirected = *settled_by != report.transaction_id;
    // One that was not executed takes nothing: its money may have gone back by another since.
    if status.is_live() && !misdirected && parent.refunded.get() + report.amount.get() > parent.amount.get() {
        return Decision::Refuse(Fault::RefundMismatch);
    }
    let taken = if misdirected || !status.is_live() { Share::NONE } else { share(parent, report.amount) };
    let parent = Some(parent).filter(|_| !misdirected);
    apply(report, status, parent, taken, true, misdirected)
}

fn apply(
    report: &Report,
    status: RefundStatus,
    parent: Option<&Parent>,
    share: Share,
    external: bool,
    misdirected: bool,
) -> Decision {
    let mut order = None;
    if let (Some(parent), RefundEvent::Succeeded) = (parent, report.event) {
        let refunded = parent.refunded.get() + report.amount.get();
        let left = Fen::try_from(parent.amount.get() - refunded);
        let (Ok(left), Ok(refunded)) = (left, Fen::try_from(refunded)) else {
            return Decision::Refuse(Fault::RefundMismatch);
        };
        match parent.status.after(OrderEvent::Refunded { left }) {
            Ok(status) => order = Some((status, refunded)),
            Err(_) => return Decision::Refuse(Fault::RefundMismatch),
        }
    }
    let of = parent.map(|parent| (parent.order_no.clone(), parent.user_id.clone()));
    Decision::Apply(Box::new(Change { report: report.clone(), status, external, misdirected, share, of, order }))
}

/// What the next decision of the set must know.
fn remember(change: &Change, parents: &mut BTreeMap<OrderNo, Parent>, refunds: &mut BTreeMap<RefundNo, Refund>) {
    let report = &change.report;
    let before = refunds.get(&report.refund_no).map(|refund| refund.status);
    let known = refunds.entry(report.refund_no.clone()).or_insert_with(|| Refund::external(change));
    known.status = change.status;
    known.wechat_refund_id = Some(report.wechat_refund_id.clone());
    let Some(parent) = change.of.as_ref().and_then(|(order_no, _)| parents.get_mut(order_no)) else { return };
    parent.count += i64::from(change.external);
    if let Some((status, refunded)) = change.order {
        (parent.status, parent.refunded) = (status, refunded);
    }
    let share = Share { points: known.points, bonus: known.bonus_points };
    let is_accepted = |status: RefundStatus| status.is_live() && status != RefundStatus::Pending;
    let turned = |was: Option<bool>, is: bool| i64::from(is) - i64::from(was.unwrap_or(false));
    parent.live.add(turned(before.map(RefundStatus::is_live), change.status.is_live()), report.amount, share);
    parent.accepted.add(turned(before.map(is_accepted), is_accepted(change.status)), report.amount, share);
}

impl Share {
    /// No points.
    pub const NONE: Self = Self { points: Points::ZERO, bonus: Points::ZERO };
}

impl Refund {
    /// What will be known of a refund that began at WeChat Pay.
    fn external(change: &Change) -> Self {
        let report = &change.report;
        Self {
            refund_no: report.refund_no.clone(),
            order_no: Some(report.order_no.clone()),
            origin: super::Origin::External,
            amount: report.amount,
            currency: "CNY".into(),
            points: change.share.points,
            bonus_points: change.share.bonus,
            reason: None,
            status: change.status,
            wechat_refund_id: Some(report.wechat_refund_id.clone()),
            failure_reason: None,
            transaction_id: report.transaction_id.clone(),
            total: report.total,
            misdirected: change.misdirected,
            overdrawn: false,
            attempts: 0,
            next_attempt_at: None,
            created_at: DateTime::UNIX_EPOCH,
            updated_at: DateTime::UNIX_EPOCH,
            completed_at: None,
        }
    }
}

#[cfg(test)]
pub(super) use tests::paid_parent;

#[cfg(test)]
mod tests;
