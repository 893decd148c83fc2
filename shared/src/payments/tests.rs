//! The decision's cases, and its promise over random histories.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn order(status: PaymentStatus, paid_by: Option<&str>) -> Payable {
    Payable {
        order_no: "ORDER1".parse().expect("an order number"),
        user_id: "alice".parse().expect("a user id"),
        amount: fen(100),
        points: points(100),
        bonus_points: points(5),
        status,
        transaction_id: paid_by.map(transaction),
    }
}

fn payment(transaction_id: &str, amount: i64) -> Payment {
    Payment {
        order_no: "ORDER1".parse().expect("an order number"),
        transaction_id: transaction(transaction_id),
        amount: fen(amount),
        paid_at: DateTime::UNIX_EPOCH,
    }
}

fn fen(amount: i64) -> Fen {
    Fen::try_from(amount).expect("an amount")
}

fn points(number: i64) -> Points {
    Points::try_from(number).expect("points")
}

fn transaction(id: &str) -> TransactionId {
    id.parse().expect("a transaction id")
}

#[test]
fn money_is_honoured_in_every_unpaid_state() {
    for status in [PaymentStatus::Pending, PaymentStatus::Cancelled, PaymentStatus::Expired, PaymentStatus::Failed] {
        let decision = decide(&order(status, None), &payment("T1", 100));
        assert!(
            matches!(decision, Decision::Settle(ref s) if s.from == status && s.bonus_points == points(5)),
            "{decision:?}"
        );
    }
}

#[test]
fn the_same_transaction_again_is_a_duplicate_in_every_paid_state() {
    for status in [PaymentStatus::Paid, PaymentStatus::PartiallyRefunded, PaymentStatus::Refunded] {
        assert_eq!(decide(&order(status, Some("T1")), &payment("T1", 100)), Decision::Duplicate);
    }
}

#[test]
fn another_transaction_for_a_paid_order_waits_for_an_operator() {
    for status in [PaymentStatus::Paid, PaymentStatus::PartiallyRefunded, PaymentStatus::Refunded] {
        assert_eq!(decide(&order(status, Some("T1")), &payment("T2", 100)), Decision::Refuse(Fault::PaidTwice));
    }
}

#[test]
fn a_different_amount_is_not_settled() {
    for amount in [0, 99, 101] {
        let decision = decide(&order(PaymentStatus::Pending, None), &payment("T1", amount));
        assert_eq!(decision, Decision::Refuse(Fault::AmountMismatch));
    }
}

#[test]
fn a_payment_without_an_order_may_be_early() {
    assert_eq!(decide_set(&mut BTreeMap::new(), &[&payment("T1", 100)]), [Decision::Refuse(Fault::OrderNotFound)]);
}

/// A payment as a random history has it: which order, which transaction, right or wrong amount.
fn any_payment() -> impl Strategy<Value = Payment> {
    (0..4_u8, 0..3_u8, prop::bool::weighted(0.8)).prop_map(|(order, transaction_id, right)| Payment {
        order_no: format!("ORDER{order}").parse().expect("an order number"),
        transaction_id: transaction(&format!("T{order}-{transaction_id}")),
        amount: fen(if right { 100 } else { 1 }),
        paid_at: DateTime::UNIX_EPOCH,
    })
}

proptest! {
    /// However payments are duplicated, reordered, wrong, and cut into sets: each order is settled by the first right
    /// payment that names it, and by no other.
    #[test]
    fn each_order_is_settled_exactly_once(
        history in prop::collection::vec(any_payment(), 0..40),
        cuts in prop::collection::vec(1..8_usize, 1..12),
    ) {
        // ORDER3 does not exist.
        let mut orders: BTreeMap<OrderNo, Payable> = (0..3)
            .map(|n| {
                let order_no: OrderNo = format!("ORDER{n}").parse().expect("an order number");
                (order_no.clone(), Payable { order_no, ..order(PaymentStatus::Pending, None) })
            })
            .collect();

        let mut decisions = Vec::new();
        let mut rest = history.as_slice();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() { break; }
            let (set, after) = rest.split_at((*cut).min(rest.len()));
            decisions.extend(decide_set(&mut orders, &set.iter().collect::<Vec<_>>()));
            rest = after;
        }

        let mut paid_by: BTreeMap<OrderNo, TransactionId> = BTreeMap::new();
        let mut credited = BTreeSet::new();
        for (payment, decision) in history.iter().zip(&decisions) {
            let expected = match paid_by.get(&payment.order_no) {
                _ if payment.order_no.as_str() == "ORDER3" => "not found",
                Some(transaction_id) if *transaction_id == payment.transaction_id => "duplicate",
                _ if payment.amount != fen(100) => "wrong amount",
                Some(_) => "paid twice",
                None => "settle",
            };
            let actual = match decision {
                Decision::Settle(_) => "settle",
                Decision::Duplicate => "duplicate",
                Decision::Refuse(Fault::OrderNotFound) => "not found",
                Decision::Refuse(Fault::AmountMismatch) => "wrong amount",
                Decision::Refuse(Fault::PaidTwice) => "paid twice",
                Decision::Refuse(other) => panic!("{other:?}"),
            };
            prop_assert_eq!(actual, expected);
            if let Decision::Settle(settlement) = decision {
                prop_assert!(credited.insert(settlement.order_no.clone()), "credited twice");
                paid_by.insert(payment.order_no.clone(), payment.transaction_id.clone());
            }
        }
    }
}
