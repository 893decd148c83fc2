//! What can be looked at: orders, refunds, notifications and the books.

use serde::Serialize;
use serde_json::{Value, json};

use super::{Answered, App, Failure, Param, Query, Reply};
use crate::{
    clock::china,
    world::{
        Totals, World,
        notifications::Notification,
        orders::{Order, State},
        refunds::{Refund, Status},
    },
};

/// `GET /control/orders?limit=`: the newest first.
pub async fn orders(app: App, query: Query) -> Answered {
    let (limit, now) = (query.limit()?, app.now());
    let mut world = app.world();
    let numbers: Vec<String> = world.newest_orders(limit).map(|order| order.out_trade_no.clone()).collect();
    for no in &numbers {
        // Lets time do its work before it is shown.
        let _ = world.order(no, now);
    }
    let orders: Vec<Value> = world.newest_orders(limit).map(|one| order_view(&world, one, now)).collect();
    Ok(Reply::ok(json!({"orders": orders, "totals": world.totals()})))
}

/// `GET /control/orders/{outTradeNo}`
pub async fn order(app: App, Param(no): Param) -> Answered {
    let now = app.now();
    let mut world = app.world();
    world.order(&no, now).ok_or_else(|| Failure::no_order(&no))?;
    shown(&world, &no, now).map(Reply::ok)
}

/// One order as the control API shows it.
pub fn shown(world: &World, no: &str, now: chrono::DateTime<chrono::Utc>) -> Result<Value, Failure> {
    let order = world.order_as_left(no).ok_or_else(|| Failure::no_order(no))?;
    Ok(order_view(world, order, now))
}

fn order_view(world: &World, order: &Order, now: chrono::DateTime<chrono::Utc>) -> Value {
    let notifications = order.notifications.iter().filter_map(|id| world.notifications.get(id));
    let notifications: Vec<Value> = notifications.map(notification_view).collect();
    let refunds: Vec<Value> = world.refunds_of(order).map(refund_view).collect();
    let payment = order.payment.as_ref();
    json!({
        "outTradeNo": order.out_trade_no,
        "state": order.trade_state(),
        "stateText": order.trade_state_desc(),
        "expired": order.state == State::NotPaid && now >= order.expires_at,
        "amount": order.total,
        "total": order.total,
        "payerTotal": payment.map(|one| one.payer_total),
        "currency": "CNY",
        "codeUrl": order.code_url,
        "transactionId": payment.map(|one| &one.transaction_id),
        "openid": payment.map(|one| &one.openid),
        "description": order.asked.description,
        "attach": order.asked.attach,
        "notifyUrl": order.asked.notify_url,
        "createdAt": china(order.created_at),
        "timeExpire": china(order.expires_at),
        "paidAt": payment.map(|one| china(one.paid_at)),
        "failedAttempts": order.failed_attempts,
        "refunds": refunds,
        "notifications": notifications,
        "faults": order.faults,
    })
}

/// One refund as the control API shows it.
pub fn refund_view(refund: &Refund) -> Value {
    json!({
        "outRefundNo": refund.out_refund_no,
        "outTradeNo": refund.out_trade_no,
        "refundId": refund.refund_id,
        "transactionId": refund.transaction_id,
        "status": refund.status.name(),
        "refund": refund.refund,
        "total": refund.total,
        "payerRefund": refund.payer_refund,
        "reason": refund.asked.reason,
        "notifyUrl": refund.asked.notify_url,
        "channel": refund.channel,
        "createdAt": china(refund.created_at),
        "successTime": refund.succeeded_at.map(china),
    })
}

/// One notification as the control API shows it.
pub fn notification_view(notification: &Notification) -> Value {
    json!({
        "id": notification.id,
        "eventType": notification.event_type,
        "outTradeNo": notification.out_trade_no,
        "outRefundNo": notification.out_refund_no,
        "url": notification.url,
        "delivery": notification.delivery,
        "delivered": notification.delivery == crate::world::notifications::Delivery::Delivered,
        "createdAt": china(notification.created_at),
        "nextAttemptAt": notification.next_at,
        "attemptCount": notification.attempt_count,
        "attempts": notification.attempts,
    })
}

/// `GET /control/refunds?limit=`: the newest first.
pub async fn refunds(app: App, query: Query) -> Answered {
    let limit = query.limit()?;
    let refunds: Vec<Value> = app.world().all_refunds().rev().take(limit).map(refund_view).collect();
    Ok(Reply::ok(json!({"refunds": refunds})))
}

/// `GET /control/refunds/{outRefundNo}`
pub async fn refund(app: App, Param(no): Param) -> Answered {
    let world = app.world();
    world.refund(&no).map(|one| Reply::ok(refund_view(one))).ok_or_else(|| Failure::no_refund(&no))
}

/// `GET /control/notifications?limit=&delivery=`: the newest first.
pub async fn notifications(app: App, query: Query) -> Answered {
    let limit = query.limit()?;
    let wanted = query.get("delivery");
    let all: Vec<Value> = app
        .world()
        .newest_notifications(usize::MAX)
        .filter(|one| wanted.is_none_or(|name| json!(one.delivery) == name))
        .take(limit)
        .map(notification_view)
        .collect();
    Ok(Reply::ok(json!({"notifications": all})))
}

/// Everything that moved money, and what still can, for balancing the merchant's books against.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Books {
    totals: Totals,
    open: Vec<String>,
    payments: Vec<PaymentLine>,
    refunds: Vec<RefundLine>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PaymentLine {
    out_trade_no: String,
    transaction_id: String,
    total: i64,
    payer_total: i64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RefundLine {
    out_refund_no: String,
    out_trade_no: String,
    refund_id: String,
    refund: i64,
    status: Status,
}

/// `GET /control/books`
pub async fn books(app: App) -> Answered<Books> {
    let world = app.world();
    let paid = world.all_orders().filter_map(|order| Some((order, order.payment.as_ref()?)));
    let payments = paid.map(|(order, payment)| PaymentLine {
        out_trade_no: order.out_trade_no.clone(),
        transaction_id: payment.transaction_id.clone(),
        total: order.total,
        payer_total: payment.payer_total,
    });
    let refunds = world.all_refunds().map(|refund| RefundLine {
        out_refund_no: refund.out_refund_no.clone(),
        out_trade_no: refund.out_trade_no.clone(),
        refund_id: refund.refund_id.clone(),
        refund: refund.refund,
        status: refund.status,
    });
    let open = world.all_orders().filter(|order| order.state == State::NotPaid).map(|order| order.out_trade_no.clone());
    Ok(Reply::ok(Books {
        totals: world.totals(),
        open: open.collect(),
        payments: payments.collect(),
        refunds: refunds.collect(),
    }))
}
