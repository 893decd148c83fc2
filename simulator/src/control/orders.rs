//! What a payer does with an order, and orders made without the API.

use axum::http::StatusCode;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Answered, App, Failure, Input, Param, Reply, views};
use crate::{
    app::Simulator,
    clock::Clock,
    crypto, delivery,
    v3::schema::{self, tables},
    world::{
        World,
        orders::{NewOrder, Payment, State},
    },
};

/// How an order is paid.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Pay {
    /// The payer; made up unless given.
    openid: Option<String>,
    /// What the payer pays, fen; the rest is a coupon.
    payer_total: Option<i64>,
    /// Whether the merchant is told; yes unless `false`.
    notify: Option<bool>,
    /// The code that was scanned; it must still be valid.
    code_url: Option<String>,
    /// The moment of payment; now unless given.
    at: Option<DateTime<Utc>>,
}

/// `POST /control/orders/{outTradeNo}/pay`
pub async fn pay(app: App, Param(no): Param, Input(pay): Input<Pay>) -> Answered {
    pay_order(&app, &no, &pay)
}

/// `POST /control/pay`: by the code that was scanned.
pub async fn pay_by_code(app: App, Input(pay): Input<Pay>) -> Answered {
    let code = pay.code_url.as_deref().ok_or_else(|| Failure::bad("codeUrl is missing"))?;
    let no = app.world().by_code(code).map(str::to_owned);
    let no = no.ok_or_else(|| Failure::not_found("no order has this code now; a repeated order gets a new one"))?;
    pay_order(&app, &no, &pay)
}

fn pay_order(simulator: &Simulator, no: &str, pay: &Pay) -> Answered {
    let now = simulator.now();
    let mut world = simulator.world();
    let payment = take_payment(&mut world, no, pay, now)?;
    let notification_id = if pay.notify.unwrap_or(true) {
        let after = delivery::first_after(simulator);
        delivery::notify_payment(simulator, &mut world, no, Some(after))?
    } else {
        None
    };
    let mut view = views::shown(&world, no, now)?;
    view["notificationId"] = json!(notification_id);
    view["successTime"] = view["paidAt"].clone();
    view["transaction"] = world.order_as_left(no).map_or(Value::Null, crate::world::orders::Order::transaction);
    drop(world);
    let fen = payment.payer_total;
    tracing::info!(order.no = %no, "order {no} paid with {fen} fen as {}", payment.transaction_id);
    Ok(Reply::ok(view))
}

fn take_payment(world: &mut World, no: &str, pay: &Pay, now: DateTime<Utc>) -> Result<Payment, Failure> {
    let at = pay.at.unwrap_or(now);
    // Farther away, sums of dates leave the calendar.
    if (at - now).abs() > TimeDelta::seconds(Clock::MAX_OFFSET_SECONDS) {
        return Err(Failure::bad("at: expected a moment within a hundred years"));
    }
    let order = world.order(no, now).ok_or_else(|| Failure::no_order(no))?;
    if pay.code_url.as_ref().is_some_and(|code| *code != order.code_url) {
        return Err(Failure::conflict("the code is not valid any more: the order has a newer one"));
    }
    let payable = order.payable(at, pay.code_url.is_some());
    payable.map_err(|reason| Failure::conflict(reason.text()))?;
    let payer_total = pay.payer_total.unwrap_or(order.total);
    if !(0..=order.total).contains(&payer_total) {
        return Err(Failure::bad(format!("payerTotal: expected 0 to {}", order.total)));
    }
    let transaction_id = world.next_transaction_id(at);
    let payment = Payment {
        transaction_id: transaction_id.clone(),
        openid: pay.openid.clone().unwrap_or_else(|| format!("o{}", crypto::alphanumeric(27))),
        payer_total,
        paid_at: at,
    };
    world.pay(no, payment.clone());
    Ok(payment)
}

/// `POST /control/orders/{outTradeNo}/fail`: a wrong password, an empty card.
pub async fn fail(app: App, Param(no): Param) -> Answered {
    let now = app.now();
    let mut world = app.world();
    let order = world.order(&no, now).ok_or_else(|| Failure::no_order(&no))?;
    order.payable(now, false).map_err(|reason| Failure::conflict(reason.text()))?;
    order.failed_attempts += 1;
    let view = views::shown(&world, &no, now)?;
    drop(world);
    tracing::info!(order.no = %no, "order {no}: a payment failed at the payer's side");
    Ok(Reply::ok(view))
}

/// `POST /control/orders/{outTradeNo}/notify`: sends the payment's notification now, truly, and
/// waits for the answer.
pub async fn notify(app: App, Param(no): Param) -> Answered {
    let (id, new) = {
        let mut world = app.world();
        let order = world.order_as_left(&no).ok_or_else(|| Failure::no_order(&no))?;
        if order.state != State::Paid {
            return Err(Failure::conflict("the order is not paid: there is nothing to notify"));
        }
        let of_payment = |id: &&Uuid| world.notifications.get(*id).is_some_and(|one| one.out_refund_no.is_none());
        match order.notifications.iter().find(of_payment).copied() {
            Some(id) => (Some(id), false),
            None => (delivery::notify_payment(&app, &mut world, &no, None)?, true),
        }
    };
    deliver(&app, id.ok_or_else(|| Failure::no_order(&no))?, new).await
}

/// Sends a notification now and shows what came of it.
pub async fn deliver(app: &App, id: Uuid, new: bool) -> Answered {
    let attempt = delivery::deliver_now(app, id, new).await;
    let world = app.world();
    let notification = world.notifications.get(&id).map(views::notification_view);
    Ok(Reply::ok(json!({"notificationId": id, "attempt": attempt, "notification": notification})))
}

/// An order made without the API.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Make {
    out_trade_no: String,
    total: i64,
    notify_url: String,
    #[serde(default)]
    description: String,
    attach: Option<String>,
    time_expire: Option<DateTime<Utc>>,
    app_id: Option<String>,
    mch_id: Option<String>,
}

/// `POST /control/orders`
pub async fn create(app: App, Input(make): Input<Make>) -> Answered {
    let (now, keys) = (app.now(), app.keys());
    check(&make)?;
    let digest = format!("{make:?}");
    let asked = NewOrder {
        out_trade_no: make.out_trade_no.clone(),
        app_id: make.app_id.unwrap_or_else(|| keys.merchant.app_id.clone()),
        mch_id: make.mch_id.unwrap_or_else(|| keys.merchant.mch_id.clone()),
        description: make.description,
        attach: make.attach,
        notify_url: make.notify_url,
        total: make.total,
        time_expire: make.time_expire,
        device_id: None,
        digest: crypto::digest(digest.as_bytes()),
    };
    let mut world = app.world();
    let placed = world.place(asked, now);
    placed.map_err(|refusal| Failure::conflict(format!("{}: {}", refusal.code, refusal.message)))?;
    let view = views::shown(&world, &make.out_trade_no, now)?;
    Ok(Reply(StatusCode::CREATED, view))
}

fn check(make: &Make) -> Result<(), Failure> {
    if make.total < 1 {
        return Err(Failure::bad("total: expected at least 1 fen"));
    }
    schema::check_path(&make.out_trade_no, &tables::OUT_TRADE_NO_IN_PATH)
        .map_err(|_| Failure::bad("outTradeNo: expected 6 to 32 of [0-9a-zA-Z_-|*]"))?;
    if !tables::is_url(&make.notify_url) {
        return Err(Failure::bad("notifyUrl: expected http(s)://… without query and blanks"));
    }
    Ok(())
}
