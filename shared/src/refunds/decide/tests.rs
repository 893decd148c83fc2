//! What refunds take, and their promise over random histories.

use super::*;
use proptest::prelude::*;

fn fen(amount: i64) -> Fen {
    Fen::try_from(amount).expect("an amount")
}

fn points(number: i64) -> Points {
    Points::try_from(number).expect("points")
}

/// An order of 100 fen, 100 points and 7 on top, paid at the beginning of time.
pub fn paid_parent(order_no: &str) -> Parent {
    Parent {
        order_no: order_no.parse().expect("an order number"),
        user_id: "alice".parse().expect("a user id"),
        amount: fen(100),
        points: points(100),
        bonus_points: points(7),
        status: PaymentStatus::Paid,
        transaction_id: "T1".parse().ok(),
        paid_at: Some(DateTime::UNIX_EPOCH),
        refunded: Fen::ZERO,
        live: Taken::default(),
        accepted: Taken::default(),
        count: 0,
    }
}

fn report(refund_no: &str, event: RefundEvent, amount: i64) -> Report {
    Report {
        refund_no: refund_no.parse().expect("a refund number"),
        order_no: "ORDER1".parse().expect("an order number"),
        transaction_id: "T1".parse().expect("a transaction id"),
        wechat_refund_id: format!("W{refund_no}"),
        event,
        succeeded_at: None,
        amount: fen(amount),
        total: fen(100),
    }
}

/// The order's side of one request of ours that was accepted: as `create` leaves it.
fn ask(parent: &mut Parent, refund_no: &str, amount: i64) -> Refund {
    let share = share(parent, fen(amount));
    parent.live.add(1, fen(amount), share);
    parent.count += 1;
    let change = Change {
        report: report(refund_no, RefundEvent::Accepted, amount),
        status: RefundStatus::Pending,
        external: false,
        misdirected: false,
        share,
        of: None,
        order: None,
    };
    Refund { wechat_refund_id: None, origin: super::super::Origin::Ours, ..Refund::external(&change) }
}

type Books = (BTreeMap<OrderNo, Parent>, BTreeMap<RefundNo, Refund>);

fn books(refunds: &[(&str, i64)]) -> Books {
    let mut parent = paid_parent("ORDER1");
    let refunds = refunds.iter().map(|(no, amount)| ask(&mut parent, no, *amount));
    let refunds: Vec<_> = refunds.map(|refund| (refund.refund_no.clone(), refund)).collect();
    (BTreeMap::from([(parent.order_no.clone(), parent)]), refunds.into_iter().collect())
}

fn tell((parents, refunds): &mut Books, report: &Report) -> Decision {
    decide_set(parents, refunds, &[report]).pop().expect("one decision")
}

fn parent((parents, _): &Books) -> &Parent {
    parents.values().next().expect("the order")
}

#[test]
fn the_parts_take_what_the_whole_would() {
    for parts in [vec![100], vec![33, 33, 34], vec![1; 100], vec![99, 1], vec![50, 25, 25]] {
        let mut parent = paid_parent("ORDER1");
        let taken: Vec<_> = parts.iter().map(|amount| ask(&mut parent, "R", *amount)).collect();
        let sum = |of: fn(&Refund) -> i64| taken.iter().map(of).sum::<i64>();
        assert_eq!(sum(|refund| refund.points.get()), 100, "{parts:?}");
        assert_eq!(sum(|refund| refund.bonus_points.get()), 7, "{parts:?}");
    }
}

#[test]
fn a_success_moves_the_order_and_a_second_one_nothing() {
    let mut books = books(&[("R1", 40), ("R2", 60)]);
    let done = tell(&mut books, &report("R1", RefundEvent::Succeeded, 40));
    assert_eq!(done.change().expect("a change").order, Some((PaymentStatus::PartiallyRefunded, fen(40))));
    assert_eq!(tell(&mut books, &report("R1", RefundEvent::Succeeded, 40)), Decision::Duplicate);
    let done = tell(&mut books, &report("R2", RefundEvent::Succeeded, 60));
    assert_eq!(done.change().expect("a change").order, Some((PaymentStatus::Refunded, fen(100))));
}

#[test]
fn what_came_to_nothing_gives_back_exactly_what_it_took() {
    let mut books = books(&[("R1", 33)]);
    let done = tell(&mut books, &report("R1", RefundEvent::Closed, 33));
    let change = done.change().expect("a change");
    assert_eq!((change.points_moved(), change.order), (33 + 2, None));
    assert_eq!(parent(&books).live, Taken::default());
    assert_eq!(
        tell(&mut books, &report("R1", RefundEvent::Succeeded, 33)),
        Decision::Refuse(Fault::RefundContradicted)
    );
}

#[test]
fn old_news_changes_nothing() {
    let mut books = books(&[("R1", 10)]);
    tell(&mut books, &report("R1", RefundEvent::Succeeded, 10));
    for event in [RefundEvent::Accepted, RefundEvent::Stuck] {
        assert_eq!(tell(&mut books, &report("R1", event, 10)), Decision::Duplicate);
    }
    assert_eq!(tell(&mut books, &report("R1", RefundEvent::Closed, 10)), Decision::Refuse(Fault::RefundContradicted));
}

#[test]
fn news_of_another_amount_or_payment_is_not_believed() {
    let mut books = books(&[("R1", 10)]);
    let other = Report { transaction_id: "T2".parse().expect("an id"), ..report("R1", RefundEvent::Succeeded, 10) };
    let elsewhere =
        Report { order_no: "ORDER2".parse().expect("a number"), ..report("R1", RefundEvent::Succeeded, 10) };
    for wrong in [report("R1", RefundEvent::Succeeded, 11), other, elsewhere] {
        assert_eq!(tell(&mut books, &wrong), Decision::Refuse(Fault::RefundMismatch));
    }
    tell(&mut books, &report("R1", RefundEvent::Accepted, 10));
    let other = Report { wechat_refund_id: "other".into(), ..report("R1", RefundEvent::Succeeded, 10) };
    assert_eq!(tell(&mut books, &other), Decision::Refuse(Fault::RefundMismatch));
}

#[test]
fn one_that_began_at_wechat_pay_is_taken_over() {
    let mut books = books(&[]);
    let done = tell(&mut books, &report("console", RefundEvent::Succeeded, 100));
    let change = done.change().expect("a change");
    assert!(change.external && !change.misdirected);
    assert_eq!((change.points_moved(), change.order), (-107, Some((PaymentStatus::Refunded, fen(100)))));

    let second =
        Report { transaction_id: "T2".parse().expect("an id"), ..report("other", RefundEvent::Succeeded, 100) };
    let done = tell(&mut books, &second);
    let change = done.change().expect("a change");
    assert!(change.misdirected && change.of.is_none() && change.points_moved() == 0, "the order keeps its own payment");
}

/// Its money was free again, and another has taken it before the news came.
#[test]
fn one_that_was_closed_at_wechat_pay_takes_nothing_however_little_is_left() {
    let mut books = books(&[]);
    tell(&mut books, &report("second", RefundEvent::Succeeded, 100));
    let done = tell(&mut books, &report("first", RefundEvent::Closed, 30));
    let change = done.change().expect("a change");
    assert_eq!((change.status, change.points_moved(), change.order), (RefundStatus::Closed, 0, None));
}

#[test]
fn one_that_leaves_nothing_for_ours_takes_its_own_share() {
    let mut books = books(&[("R1", 100)]);
    let done = tell(&mut books, &report("console", RefundEvent::Succeeded, 30));
    assert_eq!(done.change().expect("a change").points_moved(), -(30 + 2), "ours has taken all, and will be refused");
}

#[test]
fn news_that_comes_before_the_payment_is_early() {
    let (mut parents, mut refunds) = books(&[]);
    for parent in parents.values_mut() {
        (parent.transaction_id, parent.status) = (None, PaymentStatus::Pending);
    }
    let news = report("console", RefundEvent::Succeeded, 100);
    assert_eq!(decide_set(&mut parents, &mut refunds, &[&news]), [Decision::Refuse(Fault::OrderNotPaid)]);
    parents.clear();
    assert_eq!(decide_set(&mut parents, &mut refunds, &[&news]), [Decision::Refuse(Fault::OrderNotFound)]);
}

/// What can happen next to one of a few refunds.
#[derive(Clone, Debug)]
enum Happening {
    Ask(usize, i64),
    News(usize, RefundEvent),
}

fn happening() -> impl Strategy<Value = Happening> {
    let event = prop_oneof![
        Just(RefundEvent::Accepted),
        Just(RefundEvent::Succeeded),
        Just(RefundEvent::Closed),
        Just(RefundEvent::Stuck),
    ];
    prop_oneof![
        (0..6_usize, 1..120_i64).prop_map(|(n, amount)| Happening::Ask(n, amount)),
        (0..8_usize, event).prop_map(|(n, event)| Happening::News(n, event)),
    ]
}

proptest! {
    /// Whatever is asked for and told, however often and in whatever order: never more goes back than was paid, the points
    /// fit the money, and when all of the money has gone, exactly all of the points have, unless one that began at
    /// WeChat Pay crossed one of ours.
    #[test]
    fn money_and_points_go_back_together(history in prop::collection::vec(happening(), 0..60)) {
        let mut books = books(&[]);
        let (mut balance, mut crossed) = (107_i64, false);
        for happening in history {
            match happening {
                Happening::Ask(n, amount) => {
                    let no = format!("R{n}");
                    let known = books.1.contains_key(&no.parse().expect("a number"));
                    let parent = books.0.values_mut().next().expect("the order");
                    let allowed = crate::refunds::create::allowed(parent, Some(fen(amount)), DateTime::UNIX_EPOCH);
                    if let (false, Ok((amount, share))) = (known, allowed) {
                        let refund = ask(parent, &no, amount.get());
                        prop_assert_eq!((refund.points, refund.bonus_points), (share.points, share.bonus));
                        balance -= share.sum();
                        books.1.insert(refund.refund_no.clone(), refund);
                    }
                }
                Happening::News(n, event) => {
                    // R6 and R7 were never asked for here.
                    let no = format!("R{n}");
                    let known = books.1.get(&no.parse().expect("a number"));
                    let amount = known.map_or(30, |refund| refund.amount.get());
                    // WeChat Pay accepts no more than was paid.
                    let is_new_there = known.is_none_or(|refund| refund.status == RefundStatus::Pending);
                    let fits = !is_new_there || parent(&books).accepted.amount + amount <= 100;
                    let event = if fits { event } else { RefundEvent::Closed };
                    crossed |= known.is_none() && amount > parent(&books).left();
                    if let Some(change) = tell(&mut books, &report(&no, event, amount)).change() {
                        balance += change.points_moved();
                    }
                }
            }
            let parent = parent(&books);
            let live = books.1.values().filter(|refund| refund.status.is_live());
            let live_points: i64 = live.map(|refund| refund.points.get() + refund.bonus_points.get()).sum();
            prop_assert_eq!(balance, 107 - live_points);
            let went = books.1.values().filter(|refund| refund.status == RefundStatus::Success);
            let went: i64 = went.map(|refund| refund.amount.get()).sum();
            prop_assert_eq!(went, parent.refunded.get());
            prop_assert!(went <= 100);
            if parent.accepted.amount == 100 && parent.live.amount == 100 {
                // Two that crossed were rounded apart from each other: points and bonus, a point each.
                let most = if crossed { 2 } else { 0 };
                prop_assert!(balance.abs() <= most, "all of the money is gone, or going, and {} points are left", balance);
            }
        }
    }
}
