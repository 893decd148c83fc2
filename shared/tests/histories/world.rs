//! Both sides, what is on its way between them, and what must hold.

use crate::{
    BONUS, ORDERS, POINTS, PRICE, fen,
    happening::Happening,
    here::{Here, refund},
    of, order_no, payment,
    there::{There, report},
    transaction,
};
use chrono::{DateTime, TimeDelta};
use shared::{
    notify::Fault,
    orders::{OrderEvent, PaymentStatus},
    payments::{self, Payment},
    refunds::{self, Refund, RefundEvent as Event, RefundNo, RefundStatus, Report, Step, create::allowed},
};

/// Both sides, and what is on its way.
pub struct World {
    here: Here,
    there: There,
    payments: Vec<Payment>,
    reports: Vec<Report>,
    /// A refund of the console's took what one of ours had taken already.
    crossed: bool,
}

impl World {
    pub fn new() -> Self {
        let (payments, reports) = (Vec::new(), Vec::new());
        Self { here: Here::new(), there: There::default(), payments, reports, crossed: false }
    }

    pub fn happen(&mut self, happening: &Happening) {
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
    pub fn settle(mut self) {
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
