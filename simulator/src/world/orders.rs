//! An order and its states (sections 5.4, 5.5 and 6 of the protocol reference).

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Refusal, World};
use crate::{clock::china, crypto, faults::Rules};

/// An unpaid order closes by itself after this.
const LIFETIME: TimeDelta = TimeDelta::days(7);
/// The least time that a payer gets.
const SHORTEST: TimeDelta = TimeDelta::minutes(1);
/// How long a code can be scanned.
const CODE_LIFETIME: TimeDelta = TimeDelta::hours(2);

/// What has become of an order. That it was refunded follows from its refunds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// `NOTPAY`
    NotPaid,
    /// `SUCCESS`, or `REFUND` once there is a refund.
    Paid,
    /// `CLOSED`
    Closed,
}

/// What a merchant asks for when it makes an order.
#[derive(Clone, Debug, Default)]
pub struct NewOrder {
    /// Merchant's number.
    pub out_trade_no: String,
    /// `appid`
    pub app_id: String,
    /// `mchid`
    pub mch_id: String,
    /// Shown to the payer.
    pub description: String,
    /// Given back as it came.
    pub attach: Option<String>,
    /// Where the payment is notified.
    pub notify_url: String,
    /// Fen.
    pub total: i64,
    /// `time_expire` as it was asked for.
    pub time_expire: Option<DateTime<Utc>>,
    /// `scene_info.device_id`
    pub device_id: Option<String>,
    /// Of all parameters, to recognise the same request.
    pub digest: String,
}

/// How an order was paid.
#[derive(Clone, Debug)]
pub struct Payment {
    /// WeChat Pay's number.
    pub transaction_id: String,
    /// The payer under the merchant's `appid`.
    pub openid: String,
    /// What the payer paid, fen; less than the total with a coupon.
    pub payer_total: i64,
    /// When.
    pub paid_at: DateTime<Utc>,
}

/// One order.
#[derive(Clone, Debug)]
pub struct Order {
    /// Merchant's number.
    pub out_trade_no: String,
    /// What was asked for at first.
    pub asked: NewOrder,
    /// Fen.
    pub total: i64,
    /// The code that can be scanned now.
    pub code_url: String,
    /// When that code was made.
    pub code_at: DateTime<Utc>,
    /// When the order was made.
    pub created_at: DateTime<Utc>,
    /// After this nobody can pay.
    pub expires_at: DateTime<Utc>,
    /// What has become of it.
    pub state: State,
    /// How it was paid.
    pub payment: Option<Payment>,
    /// Payments that failed at the payer's side.
    pub failed_attempts: u32,
    /// Numbers of its refunds, oldest first.
    pub refunds: Vec<String>,
    /// Ids of its notifications, those of its refunds too.
    pub notifications: Vec<Uuid>,
    /// Its own fault rates.
    pub faults: Option<Rules>,
}

/// Why an order cannot be paid, for the person who tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotPayable {
    /// Paid before.
    Paid,
    /// Closed, by the merchant or by time.
    Closed,
    /// `time_expire` has passed.
    Expired,
    /// The code is older than two hours.
    CodeExpired,
}

impl NotPayable {
    /// One sentence.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Paid => "the order is already paid",
            Self::Closed => "the order is closed",
            Self::Expired => "the order has expired: its time_expire has passed",
            Self::CodeExpired => "the code has expired: codes are valid for two hours",
        }
    }
}

impl Order {
    /// A new unpaid order; `time_expire` is brought into what WeChat Pay allows (section 5.4).
    pub fn new(asked: NewOrder, now: DateTime<Utc>) -> Self {
        let latest = now + LIFETIME;
        let expires_at = asked.time_expire.unwrap_or(latest).clamp(now + SHORTEST, latest);
        Self {
            out_trade_no: asked.out_trade_no.clone(),
            total: asked.total,
            code_url: new_code(),
            code_at: now,
            created_at: now,
            expires_at,
            state: State::NotPaid,
            payment: None,
            failed_attempts: 0,
            refunds: Vec::new(),
            notifications: Vec::new(),
            faults: None,
            asked,
        }
    }

    /// Lets time do its work: seven days unpaid close an order.
    pub fn age(&mut self, now: DateTime<Utc>) {
        if self.state == State::NotPaid && now >= self.created_at + LIFETIME {
            self.state = State::Closed;
        }
    }

    /// `trade_state`
    pub fn trade_state(&self) -> &'static str {
        match self.state {
            State::NotPaid => "NOTPAY",
            State::Closed => "CLOSED",
            State::Paid if self.refunds.is_empty() => "SUCCESS",
            State::Paid => "REFUND",
        }
    }

    /// `trade_state_desc`
    pub fn trade_state_desc(&self) -> &'static str {
        match self.state {
            State::NotPaid => "订单未支付",
            State::Closed => "订单已关闭",
            State::Paid if self.refunds.is_empty() => "支付成功",
            State::Paid => "订单发生过退款，退款详情请查询退款单",
        }
    }

    /// Whether the order can be paid at the moment `at`, by a code scanned or otherwise.
    ///
    /// # Errors
    /// Why not.
    pub fn payable(&self, at: DateTime<Utc>, scanned: bool) -> Result<(), NotPayable> {
        match self.state {
            State::Paid => Err(NotPayable::Paid),
            State::Closed => Err(NotPayable::Closed),
            State::NotPaid if at >= self.expires_at => Err(NotPayable::Expired),
            State::NotPaid if scanned && at >= self.code_at + CODE_LIFETIME => Err(NotPayable::CodeExpired),
            State::NotPaid => Ok(()),
        }
    }

    pub(super) fn renew_code(&mut self, now: DateTime<Utc>) {
        self.code_url = new_code();
        self.code_at = now;
    }

    /// The order as the query answers (section 6.1). Key order is the answer's business.
    pub fn transaction(&self) -> Value {
        let asked = &self.asked;
        let mut body = json!({
            "amount": {"payer_currency": "CNY", "total": self.total},
            "appid": asked.app_id,
            "mchid": asked.mch_id,
            "out_trade_no": self.out_trade_no,
            "promotion_detail": [],
            "scene_info": {"device_id": asked.device_id.as_deref().unwrap_or_default()},
            "trade_state": self.trade_state(),
            "trade_state_desc": self.trade_state_desc(),
        });
        if let Some(attach) = &asked.attach {
            body["attach"] = json!(attach);
        }
        if let Some(payment) = &self.payment {
            body["amount"] = json!({
                "currency": "CNY",
                "payer_currency": "CNY",
                "payer_total": payment.payer_total,
                "total": self.total,
            });
            body["attach"] = json!(asked.attach.as_deref().unwrap_or_default());
            body["bank_type"] = json!("OTHERS");
            body["payer"] = json!({"openid": payment.openid});
            body["promotion_detail"] = json!(promotion(self.total - payment.payer_total));
            body["success_time"] = json!(china(payment.paid_at));
            body["trade_type"] = json!("NATIVE");
            body["transaction_id"] = json!(payment.transaction_id);
        }
        body
    }
}

/// The coupon that paid `amount` fen of an order; none for 0.
pub fn promotion(amount: i64) -> Vec<Value> {
    if amount == 0 {
        return Vec::new();
    }
    vec![json!({
        "coupon_id": "10000000001", "name": "代金券", "scope": "GLOBAL", "type": "NOCASH",
        "amount": amount, "stock_id": "10000001", "wechatpay_contribute": 0,
        "merchant_contribute": amount, "other_contribute": 0, "currency": "CNY",
    })]
}

fn new_code() -> String {
    format!("weixin://wxpay/bizpayurl?pr={}", crypto::alphanumeric(9))
}

impl World {
    /// Makes an order, or repeats it with a new code (section 5.5).
    pub fn place(&mut self, asked: NewOrder, now: DateTime<Utc>) -> Result<String, Refusal> {
        let no = asked.out_trade_no.clone();
        let Some(order) = self.order(&no, now) else {
            let order = Order::new(asked, now);
            let code_url = order.code_url.clone();
            self.add_order(order);
            return Ok(code_url);
        };
        match order.state {
            State::Paid => Err(Refusal::new(400, "ORDERPAID", "该订单已支付", 268_498_689)),
            State::Closed => Err(Refusal::new(400, "ORDER_CLOSED", "该订单已关闭", 268_447_914)),
            State::NotPaid if order.asked.digest != asked.digest => {
                Err(Refusal::invalid("请求重入时，参数与首次请求时不一致", 268_498_688))
            }
            State::NotPaid if now >= order.expires_at => {
                Err(Refusal::invalid("订单已过期，请关闭订单后更换商户订单号重新下单", 268_447_914))
            }
            State::NotPaid => self.renew_code(&no, now).ok_or_else(not_found),
        }
    }

    /// Records that an order is paid; whether it may be is [`Order::payable`]'s to say.
    pub fn pay(&mut self, out_trade_no: &str, payment: Payment) {
        if let Some(order) = self.orders.get_mut(out_trade_no) {
            self.transactions.insert(payment.transaction_id.clone(), out_trade_no.to_owned());
            order.state = State::Paid;
            order.payment = Some(payment);
        }
    }

    /// Closes an order (section 6.3); closing a closed one again is no error.
    pub fn close(&mut self, out_trade_no: &str, now: DateTime<Utc>) -> Result<(), Refusal> {
        let order = self.order(out_trade_no, now).ok_or_else(not_found)?;
        if order.state == State::Paid {
            return Err(Refusal::new(400, "ORDERPAID", "该订单已支付", 268_449_538));
        }
        order.state = State::Closed;
        let code = order.code_url.clone();
        self.codes.remove(&code);
        Ok(())
    }
}

/// `404 ORDER_NOT_EXIST`
pub fn not_found() -> Refusal {
    Refusal::new(404, "ORDER_NOT_EXIST", "订单不存在", 268_512_771)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::minutes(minutes)
    }

    fn asked(digest: &str) -> NewOrder {
        NewOrder { out_trade_no: "SO0001".into(), total: 100, digest: digest.into(), ..NewOrder::default() }
    }

    #[test]
    fn the_same_request_gets_a_new_code_and_the_older_one_dies() {
        let mut world = World::default();
        let first = world.place(asked("a"), at(0)).unwrap();
        let second = world.place(asked("a"), at(1)).unwrap();
        assert_ne!(first, second);
        assert_eq!(world.by_code(&first), None);
        assert_eq!(world.by_code(&second), Some("SO0001"));
    }

    #[test]
    fn another_request_under_the_number_is_refused() {
        let mut world = World::default();
        world.place(asked("a"), at(0)).unwrap();
        let refusal = world.place(asked("b"), at(1)).unwrap_err();
        assert_eq!((refusal.status, refusal.code), (400, "INVALID_REQUEST"));
        assert_eq!(refusal.internal, 268_498_688);
    }

    #[test]
    fn a_closed_or_paid_number_cannot_be_ordered_again() {
        let mut world = World::default();
        world.place(asked("a"), at(0)).unwrap();
        world.close("SO0001", at(1)).unwrap();
        world.close("SO0001", at(2)).unwrap();
        assert_eq!(world.place(asked("a"), at(3)).unwrap_err().code, "ORDER_CLOSED");
        world.order("SO0001", at(3)).unwrap().state = State::Paid;
        assert_eq!(world.place(asked("a"), at(3)).unwrap_err().code, "ORDERPAID");
        assert_eq!(world.close("SO0001", at(3)).unwrap_err().code, "ORDERPAID");
    }

    #[test]
    fn the_expiry_is_clamped_to_a_minute_and_to_seven_days() {
        let expiry = |minutes| {
            let asked = NewOrder { time_expire: Some(at(minutes)), ..asked("a") };
            Order::new(asked, at(0)).expires_at
        };
        assert_eq!(expiry(-5), at(1));
        assert_eq!(expiry(30), at(30));
        assert_eq!(expiry(60 * 24 * 30), at(60 * 24 * 7));
        assert_eq!(Order::new(asked("a"), at(0)).expires_at, at(60 * 24 * 7));
    }

    #[test]
    fn an_expired_order_stays_notpay_and_seven_days_close_it() {
        let mut order = Order::new(NewOrder { time_expire: Some(at(30)), ..asked("a") }, at(0));
        assert_eq!(order.payable(at(29), true), Ok(()));
        assert_eq!(order.payable(at(30), false), Err(NotPayable::Expired));
        order.age(at(31));
        assert_eq!(order.trade_state(), "NOTPAY");
        order.age(at(60 * 24 * 7));
        assert_eq!(order.trade_state(), "CLOSED");
    }

    #[test]
    fn a_code_is_good_for_two_hours() {
        let order = Order::new(asked("a"), at(0));
        assert_eq!(order.payable(at(119), true), Ok(()));
        assert_eq!(order.payable(at(120), true), Err(NotPayable::CodeExpired));
        assert_eq!(order.payable(at(120), false), Ok(()));
    }
}
