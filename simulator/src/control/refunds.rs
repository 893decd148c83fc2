//! What becomes of a refund, and refunds begun in the merchant console.

use axum::http::StatusCode;
use serde::Deserialize;

use super::{Answered, App, Failure, Input, Param, Reply, orders::deliver, views};
use crate::{
    crypto, delivery,
    world::{
        notifications::Notification,
        refunds::{NewRefund, Status},
    },
};

/// What becomes of a refund.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Outcome {
    status: Status,
    notify: Option<bool>,
}

/// `POST /control/refunds/{outRefundNo}/outcome`
pub async fn outcome(app: App, Param(no): Param, Input(outcome): Input<Outcome>) -> Answered {
    let known = app.world().refund(&no).map(|refund| refund.status);
    let before = known.ok_or_else(|| Failure::no_refund(&no))?;
    let (status, notify) = (outcome.status, outcome.notify.unwrap_or(true));
    let settled = delivery::settle(&app, &no, status, None, notify)?.ok_or_else(|| {
        let (before, after) = (before.name(), status.name());
        Failure::conflict(format!("a refund that is {before} cannot become {after}"))
    })?;
    Ok(Reply::ok(views::refund_view(&settled)))
}

/// A refund begun in the merchant console.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Make {
    out_trade_no: String,
    /// Fen; all that is left unless given.
    refund: Option<i64>,
    out_refund_no: Option<String>,
    reason: Option<String>,
    /// Where to notify; nowhere unless given, as with real console refunds.
    notify_url: Option<String>,
}

/// `POST /control/refunds`
pub async fn create(app: App, Input(make): Input<Make>) -> Answered {
    let now = app.now();
    let digest = crypto::digest(format!("{make:?}").as_bytes());
    let mut world = app.world();
    let no = &make.out_trade_no;
    let order = world.order_as_left(no).ok_or_else(|| Failure::no_order(no))?;
    let counts = |status| status != Status::Closed;
    let taken = world.refunds_of(order).filter(|one| counts(one.status)).map(|one| one.refund);
    let left = order.total - taken.sum::<i64>();
    let refund = make.refund.unwrap_or(left);
    if refund < 1 {
        return Err(Failure::conflict(format!("{left} fen are left to refund")));
    }
    let asked = NewRefund {
        out_refund_no: make.out_refund_no.unwrap_or_else(|| format!("MCH{}", crypto::digits(20))),
        out_trade_no: make.out_trade_no,
        refund,
        total: order.total,
        reason: make.reason,
        notify_url: make.notify_url,
        funds_account: None,
        from: Vec::new(),
        digest,
    };
    let accepted = world.apply_refund(asked, now);
    drop(world);
    let (refund, new) = accepted.map_err(|refusal| Failure::conflict(refusal.message))?;
    if new {
        let (no, order) = (&refund.out_refund_no, &refund.out_trade_no);
        tracing::info!(refund.no = %no, order.no = %order, "console refund {no} from {order}");
        delivery::start_refund_timer(&app, &refund);
    }
    Ok(Reply(StatusCode::CREATED, views::refund_view(&refund)))
}

/// `POST /control/refunds/{outRefundNo}/notify`: sends the latest notification again, now.
pub async fn notify(app: App, Param(no): Param) -> Answered {
    let id = {
        let world = app.world();
        let refund = world.refund(&no).ok_or_else(|| Failure::no_refund(&no))?;
        let order = world.order_as_left(&refund.out_trade_no);
        let ids = order.map(|order| order.notifications.clone()).unwrap_or_default();
        let of_refund = |one: &&Notification| one.out_refund_no.as_ref() == Some(&no);
        let mut known = ids.iter().filter_map(|id| world.notifications.get(id));
        known.rfind(of_refund).map(|one| one.id)
    };
    deliver(&app, id.ok_or_else(|| Failure::conflict("nothing has been notified yet"))?, false).await
}
