//! What may happen, in any order.

use crate::{ORDERS, PRICE};
use proptest::prelude::*;
use shared::refunds::RefundStatus;

/// What can happen next.
#[derive(Clone, Debug)]
pub enum Happening {
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

pub fn happening() -> impl Strategy<Value = Happening> {
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
