//! Payments and refunds of the same orders, told in any order, late, twice and in sets: what WeChat Pay holds in the end is
//! what we hold. The pure decisions alone, over a database of a few lines and a WeChat Pay of a few more.

mod happening;
mod here;
mod there;
mod world;

use chrono::DateTime;
use happening::happening;
use proptest::prelude::*;
use shared::{
    money::Fen,
    orders::{OrderNo, TransactionId},
    payments::Payment,
    points::Points,
};
use std::str::FromStr;
use world::World;

/// What each order costs, in fen, and gives, in points and on top.
const PRICE: i64 = 100;
const POINTS: i64 = 100;
const BONUS: i64 = 7;
const ORDERS: usize = 2;

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
