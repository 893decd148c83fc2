//! `POST /v3/pay/transactions/native` (section 5 of the protocol reference).

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use super::{Request, answer::Answer, answer::compact, same_mch_id, schema, schema::tables::NATIVE};
use crate::{
    app::Simulator,
    crypto,
    world::{Refusal, orders::NewOrder},
};

/// Most bytes of `detail` as compact JSON.
const LARGEST_DETAIL: usize = 6144;

pub(super) fn create(simulator: &Simulator, request: &Request) -> Result<Answer, Answer> {
    let body = schema::read(&request.body, NATIVE)?;
    schema::check_currency(body.get("amount"))?;
    let detail_bytes = body.get("detail").map_or(0, |detail| compact(detail).len());
    if detail_bytes > LARGEST_DETAIL {
        let rule = format!("字节数 {detail_bytes}，大于最大值 {LARGEST_DETAIL}");
        return Err(schema::meaningless("/detail", "优惠功能", "", &rule));
    }
    let asked = read(&body)?;
    same_mch_id(simulator, Some(&asked.mch_id))?;
    if asked.app_id != simulator.keys().merchant.app_id {
        let message = "商户号与appid不匹配，请检查后再试";
        return Err(Refusal::new(400, "APPID_MCHID_NOT_MATCH", message, 268_445_527).into());
    }
    let (no, total) = (asked.out_trade_no.clone(), asked.total);
    let code_url = simulator.world().place(asked, simulator.now())?;
    tracing::info!(order.no = %no, total_fen = total, "order {no} over {total} fen: {code_url}");
    Ok(Answer::ok(json!({"code_url": code_url})))
}

fn read(body: &Map<String, Value>) -> Result<NewOrder, Answer> {
    let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
    let time_expire = text("time_expire").map(|text| time(&text)).transpose()?;
    let device_id = body.get("scene_info").and_then(|scene| scene.get("device_id"));
    Ok(NewOrder {
        out_trade_no: text("out_trade_no").unwrap_or_default(),
        app_id: text("appid").unwrap_or_default(),
        mch_id: text("mchid").unwrap_or_default(),
        description: text("description").unwrap_or_default(),
        attach: text("attach"),
        notify_url: text("notify_url").unwrap_or_default(),
        total: body.get("amount").and_then(|amount| amount.get("total")?.as_i64()).unwrap_or(0),
        time_expire,
        device_id: device_id.and_then(Value::as_str).map(str::to_owned),
        digest: crypto::digest(compact(&Value::Object(body.clone())).as_bytes()),
    })
}

fn time(text: &str) -> Result<DateTime<Utc>, Answer> {
    let wanted = "时间格式必须符合RFC3339，例如2018-06-08T10:34:56+08:00";
    DateTime::parse_from_rfc3339(text)
        .ok()
        .filter(|_| text.contains('T'))
        .map(|time| time.to_utc())
        .ok_or_else(|| schema::meaningless("/time_expire", "交易结束时间", text, wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_needs_its_t_and_its_offset() {
        assert!(time("2018-06-08T10:34:56+08:00").is_ok());
        assert!(time("2018-06-08T02:34:56.123Z").is_ok());
        for bad in ["2018-06-08T10:34:56", "2018-06-08 10:34:56+08:00", "tomorrow", ""] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
