//! Faults by rate, by order, and one by one.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answered, App, Failure, Input, Param, Reply};
use crate::{
    app::Simulator,
    faults::{Endpoint, Fault, Rule, Rules},
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
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Next {
    endpoint: Endpoint,
    fault: Fault,
    count: Option<usize>,
    /// How long `apiSlow` takes, milliseconds.
    ms: Option<u64>,
}

/// `POST /control/faults/next`
pub async fn next(app: App, Input(next): Input<Next>) -> Answered {
    const MOST: usize = 10_000;
    let count = next.count.unwrap_or(1);
    if !next.fault.is_of_api() {
        return Err(Failure::bad("fault: only faults of the API, named api…, strike an answer"));
    }
    if count > MOST {
        return Err(Failure::bad(format!("count: at most {MOST}")));
    }
    if next.ms.is_some_and(|ms| ms > Rule::MAX_MS) {
        return Err(Failure::bad(format!("ms: at most {}", Rule::MAX_MS)));
    }
    app.faults().add_next(next.endpoint, next.fault, next.ms, count);
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
