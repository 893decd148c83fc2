//! A refund, its states and its sums (section 7 of the protocol reference).

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Refusal, World,
    orders::{Order, Payment},
};
use crate::clock::china;

/// Refunds that one order can have.
const MOST_PER_ORDER: usize = 50;
/// How long after the payment it can be refunded.
const WINDOW: TimeDelta = TimeDelta::days(365);

/// `status` of a refund.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// Accepted.
    Processing,
    /// The money is back.
    Success,
    /// Not executed.
    Closed,
    /// The payer's account cannot take it.
    Abnormal,
}

impl Status {
    /// As it stands in answers and callbacks.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Processing => "PROCESSING",
            Self::Success => "SUCCESS",
            Self::Closed => "CLOSED",
            Self::Abnormal => "ABNORMAL",
        }
    }

    /// Whether a refund in this state may go to `next`.
    pub const fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Processing, Self::Success | Self::Closed | Self::Abnormal) | (Self::Abnormal, Self::Success)
        )
    }
}

/// What a merchant asks for when it refunds.
#[derive(Clone, Debug, Default)]
pub struct NewRefund {
    /// Merchant's number of the refund.
    pub out_refund_no: String,
    /// Merchant's number of the order.
    pub out_trade_no: String,
    /// Fen, at least 1.
    pub refund: i64,
    /// The order's total as the merchant sees it, fen.
    pub total: i64,
    /// Shown to the payer.
    pub reason: Option<String>,
    /// Where the outcome is notified.
    pub notify_url: Option<String>,
    /// `funds_account`
    pub funds_account: Option<String>,
    /// `amount.from`
    pub from: Vec<Value>,
    /// Of all parameters, to recognise the same request.
    pub digest: String,
}

/// One refund.
#[derive(Clone, Debug)]
pub struct Refund {
    /// Merchant's number.
    pub out_refund_no: String,
    /// Merchant's number of the order.
    pub out_trade_no: String,
    /// WeChat Pay's number.
    pub refund_id: String,
    /// The payment it gives back.
    pub transaction_id: String,
    /// What was asked for.
    pub asked: NewRefund,
    /// Fen.
    pub refund: i64,
    /// The order's total, fen.
    pub total: i64,
    /// What the payer had paid, fen.
    pub payer_total: i64,
    /// What the payer gets back, fen.
    pub payer_refund: i64,
    /// Where it stands.
    pub status: Status,
    /// `channel`
    pub channel: &'static str,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// When it succeeded.
    pub succeeded_at: Option<DateTime<Utc>>,
    /// How often it has been sent on its way; a timer of an earlier time is void.
    pub round: u32,
}

impl Refund {
    /// Who got the money, as text.
    pub const RECEIVED_BY: &'static str = "支付用户零钱";

    /// The refund as the API answers (section 7.2). Key order is the answer's business.
    pub fn answer(&self) -> Value {
        let discount = self.refund - self.payer_refund;
        let mut body = json!({
            "amount": {
                "currency": "CNY",
                "discount_refund": discount,
                "from": self.asked.from,
                "payer_refund": self.payer_refund,
                "payer_total": self.payer_total,
                "refund": self.refund,
                "refund_fee": 0,
                "settlement_refund": self.payer_refund,
                "settlement_total": self.payer_total,
                "total": self.total,
            },
            "channel": self.channel,
            "create_time": china(self.created_at),
            "funds_account": self.asked.funds_account.as_deref().unwrap_or("AVAILABLE"),
            "out_refund_no": self.out_refund_no,
            "out_trade_no": self.out_trade_no,
            "promotion_detail": [],
            "refund_id": self.refund_id,
            "status": self.status.name(),
            "transaction_id": self.transaction_id,
            "user_received_account": Self::RECEIVED_BY,
        });
        if discount > 0 {
            body["promotion_detail"] = json!([{
                "promotion_id": "10000000001", "scope": "GLOBAL", "type": "NOCASH",
                "amount": self.total - self.payer_total, "refund_amount": discount,
            }]);
        }
        if let Some(at) = self.succeeded_at {
            body["success_time"] = json!(china(at));
        }
        body
    }
}

/// Whether an order with these refunds can give back `refund` fen more.
fn allowed(
    order: &Order,
    paid: &Payment,
    asked: &NewRefund,
    before: &[(Status, i64)],
    now: DateTime<Utc>,
) -> Result<(), Refusal> {
    const GENERAL: u32 = 268_435_464;
    if now > paid.paid_at + WINDOW {
        return Err(Refusal::invalid("订单已超过退款期限，不支持退款", GENERAL));
    }
    if asked.total != order.total {
        return Err(Refusal::invalid("订单金额与原订单不一致，请核实后再试", GENERAL));
    }
    if before.len() >= MOST_PER_ORDER {
        return Err(Refusal::invalid("退款次数超过限制，一笔订单最多支持50次退款", GENERAL));
    }
    // A closed refund gives nothing back, so its share is free again.
    let taken: i64 = before.iter().filter(|(status, _)| *status != Status::Closed).map(|(_, refund)| refund).sum();
    match order.total - taken {
        0 => Err(Refusal::invalid("订单已全额退款", GENERAL)),
        left if asked.refund > left => Err(Refusal::invalid("退款金额大于订单可退金额，请核实后再试", GENERAL)),
        _ => Ok(()),
    }
}

impl World {
    /// Accepts a refund, or repeats one: `true` when it is new.
    pub fn apply_refund(&mut self, asked: NewRefund, now: DateTime<Utc>) -> Result<(Refund, bool), Refusal> {
        if let Some(known) = self.refund(&asked.out_refund_no) {
            if known.asked.digest == asked.digest {
                return Ok((known.clone(), false));
            }
            return Err(Refusal::invalid("请求内容和上次请求不一致，请核实后再试。", 268_498_688));
        }
        let missing = || Refusal::new(404, "RESOURCE_NOT_EXISTS", "订单不存在", 268_512_771);
        let order = self.order_as_left(&asked.out_trade_no).ok_or_else(missing)?;
        let paid = order.payment.clone().ok_or_else(missing)?;
        let before: Vec<_> = self.refunds_of(order).map(|refund| (refund.status, refund.refund)).collect();
        allowed(order, &paid, &asked, &before, now)?;

        let refund = Refund {
            out_refund_no: asked.out_refund_no.clone(),
            out_trade_no: asked.out_trade_no.clone(),
            total: order.total,
            refund: asked.refund,
            payer_refund: share(asked.refund, paid.payer_total, order.total),
            payer_total: paid.payer_total,
            refund_id: self.next_refund_id(now),
            transaction_id: paid.transaction_id,
            status: Status::Processing,
            channel: "ORIGINAL",
            created_at: now,
            succeeded_at: None,
            // Random, so that a timer from before a reset finds another round.
            round: rand::random(),
            asked,
        };
        self.add_refund(refund.clone());
        Ok((refund, true))
    }
}

/// `refund × payer_total / total`, rounded to fen (section 7.4).
fn share(refund: i64, payer_total: i64, total: i64) -> i64 {
    let exact = i128::from(refund) * i128::from(payer_total) * 2 + i128::from(total);
    i64::try_from(exact / (i128::from(total) * 2)).unwrap_or(refund)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::orders::{NewOrder, State};

    fn paid_world(total: i64, payer_total: i64) -> World {
        let mut world = World::default();
        let asked = NewOrder { out_trade_no: "SO0001".into(), total, ..NewOrder::default() };
        world.place(asked, at(0)).unwrap();
        let order = world.order("SO0001", at(0)).unwrap();
        order.state = State::Paid;
        order.payment =
            Some(Payment { transaction_id: "4200".into(), openid: "o".into(), payer_total, paid_at: at(0) });
        world
    }

    fn at(days: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(days)
    }

    fn ask(no: &str, refund: i64, total: i64) -> NewRefund {
        NewRefund {
            out_refund_no: no.into(),
            out_trade_no: "SO0001".into(),
            refund,
            total,
            digest: format!("{no} {refund} {total}"),
            ..NewRefund::default()
        }
    }

    #[test]
    fn refunds_never_exceed_the_order() {
        let mut world = paid_world(100, 100);
        world.apply_refund(ask("r1", 60, 100), at(1)).unwrap();
        assert!(world.apply_refund(ask("r2", 41, 100), at(1)).is_err());
        world.apply_refund(ask("r3", 40, 100), at(1)).unwrap();
        let refusal = world.apply_refund(ask("r4", 1, 100), at(1)).unwrap_err();
        assert_eq!(refusal.message, "订单已全额退款");
        assert_eq!(world.order("SO0001", at(1)).unwrap().trade_state(), "REFUND");
        assert_eq!(world.totals().refunding, 100);
    }

    #[test]
    fn a_closed_refund_frees_its_share() {
        let mut world = paid_world(100, 100);
        world.apply_refund(ask("r1", 100, 100), at(1)).unwrap();
        world.refund_mut("r1").unwrap().status = Status::Closed;
        assert!(world.apply_refund(ask("r2", 100, 100), at(1)).is_ok());
    }

    #[test]
    fn a_repeat_gives_the_same_refund_and_a_change_is_refused() {
        let mut world = paid_world(100, 100);
        let (first, new) = world.apply_refund(ask("r1", 60, 100), at(1)).unwrap();
        assert!(new);
        let (again, new) = world.apply_refund(ask("r1", 60, 100), at(2)).unwrap();
        assert!(!new);
        assert_eq!(first.refund_id, again.refund_id);
        assert_eq!(world.apply_refund(ask("r1", 61, 100), at(2)).unwrap_err().internal, 268_498_688);
    }

    #[test]
    fn fifty_refunds_and_a_year_are_the_limits() {
        let mut world = paid_world(100, 100);
        for n in 0..50 {
            world.apply_refund(ask(&format!("r{n}"), 1, 100), at(365)).unwrap();
        }
        assert!(world.apply_refund(ask("r50", 1, 100), at(1)).is_err());
        let mut world = paid_world(100, 100);
        assert!(world.apply_refund(ask("late", 1, 100), at(366)).is_err());
    }

    #[test]
    fn the_total_must_be_the_order_s_and_the_order_paid() {
        let mut world = paid_world(100, 100);
        assert!(world.apply_refund(ask("r1", 1, 99), at(1)).is_err());
        let unknown = NewRefund { out_trade_no: "SO9999".into(), ..ask("r2", 1, 100) };
        assert_eq!(world.apply_refund(unknown, at(1)).unwrap_err().status, 404);
    }

    #[test]
    fn the_payer_gets_the_paid_share_rounded() {
        assert_eq!(share(100, 100, 100), 100);
        assert_eq!(share(50, 80, 100), 40);
        assert_eq!(share(1, 50, 100), 1);
        assert_eq!(share(1, 49, 100), 0);
        assert_eq!(share(i64::MAX, i64::MAX, i64::MAX), i64::MAX);
    }
}
