//! Querying and closing orders (section 6 of the protocol reference).

use serde_json::Value;

use super::{
    Request,
    answer::Answer,
    same_mch_id, schema,
    schema::tables::{CLOSE, OUT_TRADE_NO_IN_PATH},
};
use crate::{app::Simulator, world::orders::not_found};

const MCH_ID: &str = "直连商户号";

pub(super) fn by_out_trade_no(simulator: &Simulator, request: &Request, out_trade_no: &str) -> Result<Answer, Answer> {
    schema::check_path(out_trade_no, &OUT_TRADE_NO_IN_PATH)?;
    check_query(simulator, request)?;
    answer(simulator, out_trade_no)
}

pub(super) fn by_transaction_id(
    simulator: &Simulator,
    request: &Request,
    transaction_id: &str,
) -> Result<Answer, Answer> {
    check_query(simulator, request)?;
    let no = simulator.world().by_transaction(transaction_id).map(str::to_owned);
    answer(simulator, &no.ok_or_else(not_found)?)
}

pub(super) fn close(simulator: &Simulator, request: &Request, out_trade_no: &str) -> Result<Answer, Answer> {
    schema::check_path(out_trade_no, &OUT_TRADE_NO_IN_PATH)?;
    let body = schema::read(&request.body, CLOSE)?;
    let mch_id = body.get("mchid").and_then(Value::as_str);
    let mch_id = mch_id.filter(|id| !id.is_empty());
    let mch_id = mch_id.ok_or_else(|| schema::missing("uri_template", "/mchid", MCH_ID))?;
    same_mch_id(simulator, Some(mch_id))?;
    simulator.world().close(out_trade_no, simulator.now())?;
    tracing::info!(order.no = %out_trade_no, "order {out_trade_no} closed");
    Ok(Answer::no_content())
}

fn check_query(simulator: &Simulator, request: &Request) -> Result<(), Answer> {
    let mch_id = request.query("mchid").filter(|id| !id.is_empty());
    let mch_id = mch_id.ok_or_else(|| schema::missing("query", "/mchid", MCH_ID))?;
    same_mch_id(simulator, Some(&mch_id))
}

fn answer(simulator: &Simulator, out_trade_no: &str) -> Result<Answer, Answer> {
    let mut world = simulator.world();
    let order = world.order(out_trade_no, simulator.now()).ok_or_else(not_found)?;
    Ok(Answer::ok(order.transaction()))
}
