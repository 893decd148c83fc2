//! Refunds: applying, querying, and what to do when the payer's account cannot take one
//! (section 7 of the protocol reference).

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value};

use super::{
    Request,
    answer::{Answer, compact},
    schema,
    schema::tables::{ABNORMAL_REFUND, OUT_REFUND_NO_IN_PATH, REFUND},
};
use crate::{
    app::Simulator,
    crypto, delivery,
    world::{
        Refusal, World,
        refunds::{NewRefund, Status},
    },
};

/// Internal code of a parameter that is wrong.
const INVALID: u32 = 268_435_461;

pub(super) fn create(simulator: &Simulator, request: &Request) -> Result<Answer, Answer> {
    let body = schema::read(&request.body, REFUND)?;
    schema::check_currency(body.get("amount"))?;
    let asked = read(&simulator.world(), &body)?;
    let (refund, new) = simulator.world().apply_refund(asked, simulator.now())?;
    if new {
        let (no, order, fen) = (&refund.out_refund_no, &refund.out_trade_no, refund.refund);
        tracing::info!(refund.no = %no, order.no = %order, "refund {no} of {fen} fen from {order}");
        delivery::start_refund_timer(simulator, &refund);
    }
    Ok(Answer::ok(refund.answer()))
}

fn read(world: &World, body: &Map<String, Value>) -> Result<NewRefund, Answer> {
    let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
    let amount = |name: &str| body.get("amount").and_then(|amount| amount.get(name));
    let fen = |name: &str| amount(name).and_then(Value::as_i64).unwrap_or(0);
    let from = amount("from").and_then(Value::as_array).cloned().unwrap_or_default();
    let sum: i128 = from.iter().filter_map(|one| one.get("amount")?.as_i64()).map(i128::from).sum();
    if !from.is_empty() && sum != i128::from(fen("refund")) {
        let message = "退款出资金额之和与退款金额不一致，请核实后再试";
        return Err(Refusal::invalid(message, INVALID).into());
    }
    Ok(NewRefund {
        out_refund_no: text("out_refund_no").unwrap_or_default(),
        out_trade_no: order_of(world, text("transaction_id"), text("out_trade_no"))?,
        refund: fen("refund"),
        total: fen("total"),
        reason: text("reason"),
        notify_url: text("notify_url"),
        funds_account: text("funds_account"),
        from,
        digest: crypto::digest(compact(&Value::Object(body.clone())).as_bytes()),
    })
}

/// The order that is meant, by either number or by both.
fn order_of(world: &World, transaction_id: Option<String>, out_trade_no: Option<String>) -> Result<String, Answer> {
    let Some(transaction_id) = transaction_id else {
        let message = "transaction_id和out_trade_no必须二选一";
        return out_trade_no.ok_or_else(|| Answer::refused(400, "PARAM_ERROR", message, INVALID));
    };
    let unknown = || Refusal::new(404, "RESOURCE_NOT_EXISTS", "订单不存在", 268_512_771);
    let no = world.by_transaction(&transaction_id).ok_or_else(unknown)?;
    if out_trade_no.is_some_and(|other| other != no) {
        return Err(Refusal::invalid("微信支付订单号与商户订单号不匹配", INVALID).into());
    }
    Ok(no.to_owned())
}

pub(super) fn query(simulator: &Simulator, out_refund_no: &str) -> Result<Answer, Answer> {
    schema::check_path(out_refund_no, &OUT_REFUND_NO_IN_PATH)?;
    let world = simulator.world();
    let refund = world.refund(out_refund_no).ok_or_else(not_found)?;
    Ok(Answer::ok(refund.answer()))
}

fn not_found() -> Refusal {
    Refusal::new(404, "RESOURCE_NOT_EXISTS", "退款单不存在", 268_512_771)
}

pub(super) fn abnormal(simulator: &Simulator, request: &Request, refund_id: &str) -> Result<Answer, Answer> {
    let body = schema::read(&request.body, ABNORMAL_REFUND)?;
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    if text("type") == Some("USER_BANK_CARD") {
        check_card(simulator, request, &body)?;
    }
    let mut world = simulator.world();
    let known = world.refund_by_id(refund_id).map(|refund| refund.out_refund_no.clone());
    let no = known.filter(|no| text("out_refund_no") == Some(no)).ok_or_else(not_found)?;
    let refund = world.refund_mut(&no).ok_or_else(not_found)?;
    if refund.status != Status::Abnormal {
        return Err(Refusal::invalid("退款单状态不是退款异常，不能发起异常退款", INVALID).into());
    }
    refund.status = Status::Processing;
    refund.channel = "OTHER_BANKCARD";
    refund.round = refund.round.wrapping_add(1);
    let refund = refund.clone();
    drop(world);
    tracing::info!(refund.no = %no, "refund {no} goes to a bank card");
    delivery::start_refund_timer(simulator, &refund);
    Ok(Answer::ok(refund.answer()))
}

/// The payer's card: its fields must be there and look encrypted, under a key we have (section 10).
fn check_card(simulator: &Simulator, request: &Request, body: &Map<String, Value>) -> Result<(), Answer> {
    let refuse = |message: &str| Err(Answer::refused(400, "PARAM_ERROR", message, INVALID));
    let labels = [("bank_type", "开户银行"), ("bank_account", "收款银行卡号"), ("real_name", "收款用户姓名")];
    for (name, label) in labels {
        if !body.contains_key(name) {
            return Err(schema::missing("body", &format!("/{name}"), label));
        }
    }
    let Some(serial) = request.header("wechatpay-serial") else {
        return refuse("HTTP header缺少微信支付平台证书序列号(Wechatpay-Serial)");
    };
    if !simulator.keys().knows(simulator.settings().key_mode, serial) {
        return refuse("平台证书序列号Wechatpay-Serial错误");
    }
    for (name, label) in &labels[1..] {
        let text = body.get(*name).and_then(Value::as_str).unwrap_or_default();
        // RSA-2048 gives 256 bytes.
        if BASE64_STANDARD.decode(text).map_or(0, |bytes| bytes.len()) != 256 {
            let rule = "加密字段解密失败";
            return Err(schema::meaningless(&format!("/{name}"), label, text, rule));
        }
    }
    Ok(())
}
