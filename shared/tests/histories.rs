//! Payments and refunds of the same orders, told in any order, late, twice and in sets: what WeChat Pay holds in the end is
//! what we hold. The pure decisions alone, over a database of a few lines and a WeChat Pay of a few more.

use chrono::{DateTime, TimeDelta};
use proptest::prelude::*;
use shared::{
    money::Fen,
    notify::Fault,
    orders::{OrderEvent, OrderNo, PaymentStatus, TransactionId},
    payments::{self, Payable, Payment},
    points::Points,
    refunds::{
        self, Change, Origin, Parent, Refund, RefundEvent as Event, RefundNo, RefundStatus, Report, Share, Step, Taken,
        create::allowed,
    },
};
use std::{collections::BTreeMap, str::FromStr};

/// What each order costs, in fen, and gives, in points and on top.
const PRICE: i64 = 100;
const POINTS: i64 = 100;
const BONUS: i64 = 7;
const ORDERS: usize = 2;

/// What can happen next.
#[derive(Clone, Debug)]
enum Happening {
    /// An order is paid at WeChat Pay, for the first time or again.
    Paid { order: usize, again: bool },
    /// It is told once more that it was.
    PaidTold { order: usize, again: bool },
    /// An order is given up here.
    Ended { order: usize, expired: bool },
    /// A refund is asked for here.
    Asked { order: usize, fen: i64 },
    /// WeChat Pay is called for one that was asked for.
    Called { refund: usize },
    /// A refund begins in WeChat Pay's console.
    Begun { order: usize, fen: i64 },
    /// WeChat Pay takes a refund further, without a word.
    Turned { refund: usize, into: RefundStatus },
    /// Where a refund is, is told.
    Told { refund: usize },
    /// Where all refunds are, is told.
    AllTold,
    /// What was told arrives, as one set.
    Arrived { backwards: bool },
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening as H;
    let (order, refund, fen) = (|| 0..ORDERS, || 0..6_usize, || prop_oneof![Just(PRICE), 30..60_i64, 1..PRICE]);
    let into = prop_oneof![
        4 => Just(RefundStatus::Success),
        1 => Just(RefundStatus::Closed),
        1 => Just(RefundStatus::Abnormal),
    ];
    prop_oneof![
        4 => (order(), prop::bool::weighted(0.2)).prop_map(|(order, again)| H::Paid { order, again }),
        1 => (order(), any::<bool>()).prop_map(|(order, again)| H::PaidTold { order, again }),
        1 => (order(), any::<bool>()).prop_map(|(order, expired)| H::Ended { order, expired }),
        4 => (order(), fen()).prop_map(|(order, fen)| H::Asked { order, fen }),
        4 => refund().prop_map(|refund| H::Called { refund }),
        2 => (order(), fen()).prop_map(|(order, fen)| H::Begun { order, fen }),
        4 => (refund(), into).prop_map(|(refund, into)| H::Turned { refund, into }),
        4 => refund().prop_map(|refund| H::Told { refund }),
        2 => Just(H::AllTold),
        4 => any::<bool>().prop_map(|backwards| H::Arrived { backwards }),
    ]
}

fn of<T: FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect(text)
}

fn fen(fen: i64) -> Fen {
    Fen::try_from(fen).expect("fen")
}

fn points(number: i64) -> Points {
    Points::try_from(number).expect("points")
}

fn order_no(order: usize) -> OrderNo {
    of(&format!("ORDER{order}"))
}

fn transaction(order: usize, again: bool) -> TransactionId {
    of(&format!("T{order}{}", if again { "again" } else { "" }))
}

fn payment(order: usize, again: bool) -> Payment {
    let transaction_id = transaction(order, again);
    Payment { order_no: order_no(order), transaction_id, amount: fen(PRICE), paid_at: DateTime::UNIX_EPOCH }
}

/// What our database holds.
#[derive(Clone, Debug)]
struct Here {
    orders: BTreeMap<OrderNo, (PaymentStatus, Option<TransactionId>, Fen)>,
    refunds: BTreeMap<RefundNo, Refund>,
    /// The ledger: what it was for, and by how much.
    entries: Vec<(String, i64)>,
}

impl Here {
    fn new() -> Self {
        let order = |order| (order_no(order), (PaymentStatus::Pending, None, Fen::ZERO));
        Self { orders: (0..ORDERS).map(order).collect(), refunds: BTreeMap::new(), entries: Vec::new() }
    }

    fn payables(&self) -> BTreeMap<OrderNo, Payable> {
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
    fn parent(&self, order_no: &OrderNo) -> Parent {
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

    fn balance(&self) -> i64 {
        self.entries.iter().map(|(_, delta)| delta).sum()
    }

    fn pay(&mut self, told: &[&Payment]) -> Vec<payments::Decision> {
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

    fn refund(&mut self, told: &[&Report]) -> Vec<refunds::Decision> {
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

    fn move_points(&mut self, refund_no: &RefundNo, delta: i64) {
        if delta != 0 {
            let kind = if delta < 0 { "taken" } else { "given back" };
            self.entries.push((format!("{refund_no} {kind}"), delta));
        }
    }
}

fn refund(refund_no: &RefundNo, order_no: &OrderNo, transaction: &TransactionId, amount: Fen, share: Share) -> Refund {
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

/// What WeChat Pay holds: the truth.
#[derive(Debug, Default)]
struct There {
    paid: Vec<Payment>,
    refunds: Vec<(Report, RefundStatus)>,
}

impl There {
    /// Accepts a refund, if the payment has room for it.
    fn begin(&mut self, report: Report) -> bool {
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
    fn say(&self, nth: usize) -> Option<Report> {
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

fn report(refund_no: &RefundNo, order_no: &OrderNo, transaction_id: &TransactionId, amount: Fen) -> Report {
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

/// Both sides, and what is on its way.
struct World {
    here: Here,
    there: There,
    payments: Vec<Payment>,
    reports: Vec<Report>,
    /// A refund of the console's took what one of ours had taken already.
    crossed: bool,
}

impl World {
    fn new() -> Self {
        let (payments, reports) = (Vec::new(), Vec::new());
        Self { here: Here::new(), there: There::default(), payments, reports, crossed: false }
    }

    fn happen(&mut self, happening: &Happening) {
        match *happening {
            Happening::Paid { order, again } => {
                let payment = payment(order, again);
                if !self.there.paid.contains(&payment) {
                    self.there.paid.push(payment.clone());
                    self.payments.push(payment);
                }
            }
            Happening::PaidTold { order, again } => {
                self.payments.extend(self.there.paid.iter().find(|paid| **paid == payment(order, again)).cloned());
            }
            Happening::Ended { order, expired } => {
                let order = self.here.orders.get_mut(&order_no(order)).expect("it is ours");
                let event = if expired { OrderEvent::Expired } else { OrderEvent::Cancelled };
                order.0 = order.0.after(event).unwrap_or(order.0);
            }
            Happening::Asked { order, fen: wanted } => {
                let parent = self.here.parent(&order_no(order));
                let transaction = parent.transaction_id.clone();
                if let Ok((amount, share)) =
                    allowed(&parent, Some(fen(wanted)), DateTime::UNIX_EPOCH + TimeDelta::days(1))
                    && self.here.balance() >= share.sum()
                {
                    let refund_no: RefundNo = of(&format!("R{:03}", self.here.refunds.len()));
                    let new = refund(&refund_no, &parent.order_no, &transaction.expect("it is paid"), amount, share);
                    self.here.refunds.insert(refund_no.clone(), new);
                    self.here.move_points(&refund_no, -share.sum());
                }
            }
            Happening::Called { refund } => {
                let pending = self.here.refunds.values().filter(|refund| refund.status == RefundStatus::Pending);
                if let Some(refund) = pending.clone().nth(refund).cloned() {
                    self.call(&refund);
                }
            }
            Happening::Begun { order, fen: wanted } => {
                let refund_no: RefundNo = of(&format!("C{:03}", self.there.refunds.len()));
                self.there.begin(report(&refund_no, &order_no(order), &transaction(order, false), fen(wanted)));
            }
            Happening::Turned { refund, into } => {
                if let Some((_, status)) = self.there.refunds.get_mut(refund)
                    && matches!(
                        (*status, into),
                        (RefundStatus::Processing, _) | (RefundStatus::Abnormal, RefundStatus::Success)
                    )
                {
                    *status = into;
                }
            }
            Happening::Told { refund } => self.reports.extend(self.there.say(refund)),
            Happening::AllTold => self.tell_all(),
            Happening::Arrived { backwards } => self.arrive(backwards),
        }
    }

    fn tell_all(&mut self) {
        self.reports.extend((0..self.there.refunds.len()).filter_map(|nth| self.there.say(nth)));
    }

    /// The call is answered at once, by what WeChat Pay knows of this number or makes of it.
    fn call(&mut self, refund: &Refund) {
        let order_no = refund.order_no.as_ref().expect("it has one");
        let known = self.there.refunds.iter().position(|(report, _)| report.refund_no == refund.refund_no);
        if known.is_none()
            && !self.there.begin(report(&refund.refund_no, order_no, &refund.transaction_id, refund.amount))
        {
            let Step::To(status) = refund.status.after(Event::Refused) else { panic!("it is pending") };
            self.here.refunds.get_mut(&refund.refund_no).expect("it is ours").status = status;
            self.here.move_points(&refund.refund_no, refund.points.get() + refund.bonus_points.get());
            return;
        }
        let answer = self.there.say(known.unwrap_or(self.there.refunds.len() - 1)).expect("it is there");
        self.here.refund(&[&answer]);
    }

    /// A set comes to the same as its parts one by one, and nothing of it is taken for a lie.
    fn arrive(&mut self, backwards: bool) {
        let (mut paid, mut told) = (std::mem::take(&mut self.payments), std::mem::take(&mut self.reports));
        if backwards {
            paid.reverse();
            told.reverse();
        }
        let mut apart = self.here.clone();
        for payment in &paid {
            apart.pay(&[payment]);
        }
        for report in &told {
            let is_new = !apart.refunds.contains_key(&report.refund_no);
            self.crossed |= is_new && report.amount.get() > apart.parent(&report.order_no).left();
            apart.refund(&[report]);
        }
        let decided = self.here.pay(&paid.iter().collect::<Vec<_>>());
        for (decision, payment) in decided.iter().zip(&paid) {
            if let payments::Decision::Refuse(fault) = decision {
                assert_eq!(*fault, Fault::PaidTwice, "{payment:?}");
            }
        }
        let decided = self.here.refund(&told.iter().collect::<Vec<_>>());
        for (decision, report) in decided.iter().zip(&told) {
            if let refunds::Decision::Refuse(fault) = decision {
                assert_eq!(*fault, Fault::OrderNotPaid, "{report:?}");
            }
        }
        assert_eq!(format!("{:?}", self.here), format!("{apart:?}"), "a set is not the sum of its parts");
        self.check();
    }

    /// What must hold at any time.
    fn check(&self) {
        let causes: std::collections::BTreeSet<_> = self.here.entries.iter().map(|(cause, _)| cause).collect();
        assert_eq!(causes.len(), self.here.entries.len(), "a cause moved points twice: {:?}", self.here.entries);
        let live = self.here.refunds.values().filter(|refund| refund.status.is_live());
        let taken: i64 = live.map(|refund| refund.points.get() + refund.bonus_points.get()).sum();
        let paid = self.here.orders.values().filter(|(_, transaction, _)| transaction.is_some()).count();
        assert_eq!(self.here.balance(), i64::try_from(paid).expect("few") * (POINTS + BONUS) - taken);
    }

    /// Whatever was lost is told again, and all that was asked for is called for: then both sides hold the same.
    fn settle(mut self) {
        let pending: Vec<_> =
            self.here.refunds.values().filter(|refund| refund.status == RefundStatus::Pending).cloned().collect();
        self.arrive(false);
        for refund in &pending {
            if self.here.refunds[&refund.refund_no].status == RefundStatus::Pending {
                self.call(refund);
            }
        }
        self.payments = self.there.paid.clone();
        self.tell_all();
        self.arrive(false);

        for (report, status) in &self.there.refunds {
            assert_eq!(self.here.refunds[&report.refund_no].status, *status, "{report:?}");
        }
        for order in 0..ORDERS {
            let (status, settled_by, refunded) = &self.here.orders[&order_no(order)];
            let is_paid = self.there.paid.iter().any(|payment| payment.order_no == order_no(order));
            assert_eq!(settled_by.is_some(), is_paid, "order {order} is {status:?}");
            let went = self.there.refunds.iter().filter(|(report, status)| {
                *status == RefundStatus::Success && Some(&report.transaction_id) == settled_by.as_ref()
            });
            let went: i64 = went.map(|(report, _)| report.amount.get()).sum();
            assert_eq!(refunded.get(), went, "order {order}");
            assert_eq!(*status == PaymentStatus::Refunded, went == PRICE, "order {order}");
            if went == PRICE {
                let live = self.here.parent(&order_no(order)).live;
                let left = (POINTS - live.points).abs() + (BONUS - live.bonus).abs();
                assert!(
                    left <= if self.crossed { 2 } else { 0 },
                    "all of the money is back, and {left} points are not"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// However payments and refunds are told: credited once, taken once, and in the end as WeChat Pay has it.
    #[test]
    fn both_sides_hold_the_same_in_the_end(history in prop::collection::vec(happening(), 0..40)) {
        let mut world = World::new();
        for happening in &history {
            world.happen(happening);
        }
        world.settle();
    }
}
