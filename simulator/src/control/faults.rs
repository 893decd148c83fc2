//! Faults by rate, by order, and one by one.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answered, App, Failure, Input, Param, Reply};
use crate::{
    app::Simulator,
    faults::{Endpoint, Fault, OneShot, Refused, Rule, Rules},
};

/// `GET /control/faults`
pub async fn show(app: App) -> Answered {
    Ok(Reply::ok(view(&app)))
}

fn view(simulator: &Simulator) -> Value {
    let faults = simulator.faults();
    let mut view = json!(faults.rules);
    let next: Vec<Value> = faults
        .upcoming()
        .into_iter()
        .map(|(endpoint, faults)| json!({"endpoint": endpoint, "faults": faults}))
        .collect();
    view["next"] = json!(next);
    view
}

/// `PUT /control/faults`: replaces all rates. `next`, as `GET` shows it, is left alone.
pub async fn set(app: App, Input(mut body): Input<Value>) -> Answered {
    if let Some(object) = body.as_object_mut() {
        object.remove("next");
    }
    let rules = Rules::parse(&body).map_err(Failure::bad)?;
    app.faults().rules = rules;
    tracing::info!("faults: {body}");
    Ok(Reply::ok(view(&app)))
}

/// The next answers of an endpoint.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Next {
    endpoint: Endpoint,
    fault: Fault,
    count: Option<usize>,
    /// How long `apiSlow` takes, milliseconds.
    ms: Option<u64>,
    /// The HTTP status of `error`.
    status: Option<u16>,
    /// The code of `error`.
    code: Option<String>,
    /// The text of `error`.
    message: Option<String>,
    /// Whether `error` is signed; it is unless told.
    signed: Option<bool>,
}

impl Next {
    /// What `error` answers; nothing for the other faults, which are refused such words.
    fn refused(&self) -> Result<Option<Refused>, Failure> {
        let words = self.status.is_some() || self.code.is_some() || self.message.is_some() || self.signed.is_some();
        if self.fault != Fault::Error {
            let misplaced = "status, code, message and signed are for the fault `error`";
            return if words { Err(Failure::bad(misplaced)) } else { Ok(None) };
        }
        let status = self.status.filter(|status| (400..=599).contains(status));
        let status = status.ok_or_else(|| Failure::bad("status: `error` needs one, 400 to 599"))?;
        let code = self.code.clone().ok_or_else(|| Failure::bad("code: `error` needs one"))?;
        let message = self.message.clone().unwrap_or_else(|| "为了测试".to_owned());
        Ok(Some(Refused { status, code, message, signed: self.signed.unwrap_or(true) }))
    }
}

/// `POST /control/faults/next`
pub async fn next(app: App, Input(next): Input<Next>) -> Answered {
    const MOST: usize = 10_000;
    let count = next.count.unwrap_or(1);
    if !next.fault.is_of_api() {
        return Err(Failure::bad("fault: only faults of the API, `error` and those named api…, strike an answer"));
    }
    if count > MOST {
        return Err(Failure::bad(format!("count: at most {MOST}")));
    }
    if next.ms.is_some_and(|ms| ms > Rule::MAX_MS) {
        return Err(Failure::bad(format!("ms: at most {}", Rule::MAX_MS)));
    }
    let one = OneShot { fault: next.fault, ms: next.ms, refused: next.refused()? };
    app.faults().add_next(next.endpoint, one, count);
    Ok(Reply::ok(view(&app)))
}

/// `GET /control/orders/{outTradeNo}/faults`: `null` when the global ones hold.
pub async fn of_order(app: App, Param(no): Param) -> Answered {
    let world = app.world();
    let order = world.order_as_left(&no).ok_or_else(|| Failure::no_order(&no))?;
    Ok(Reply::ok(json!(order.faults)))
}

/// `PUT /control/orders/{outTradeNo}/faults`: these instead of the global ones, for its callbacks.
pub async fn set_of_order(app: App, Param(no): Param, Input(body): Input<Value>) -> Answered {
    let rules = Rules::parse(&body).map_err(Failure::bad)?;
    if rules.names().any(Fault::is_of_api) {
        return Err(Failure::bad("an order's own faults are about callbacks, not about the API"));
    }
    change(&app, &no, Some(rules))
}

/// `DELETE /control/orders/{outTradeNo}/faults`: the global ones hold again.
pub async fn clear_of_order(app: App, Param(no): Param) -> Answered {
    change(&app, &no, None)
}

fn change(simulator: &Simulator, no: &str, rules: Option<Rules>) -> Answered {
    let now = simulator.now();
    let mut world = simulator.world();
    let order = world.order(no, now).ok_or_else(|| Failure::no_order(no))?;
    order.faults = rules;
    Ok(Reply::ok(json!(order.faults)))
}
