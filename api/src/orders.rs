//! Orders, as their buyers see them.

use crate::{
    app::App,
    auth::User,
    error::{ApiError, Problem},
    extract::{IdempotencyKey, Json, Nothing, Path, Query},
    fields::{Fields, FromFields},
    openapi::{CreateOrderBody, ForAnyone, ForBodies, ForFields, ForIds, ForWechat, OrderNoParam},
    settle::refreshed,
};
use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use fast_qr::{QRBuilder, convert::svg::SvgBuilder};
use serde::Serialize;
use shared::{
    checkout::{
        self, Placed,
        idempotency::{Key, Operation},
    },
    clock,
    money::Fen,
    orders::{NewOrder, Order, OrderNo, PAYMENT_METHOD, PaymentStatus, TransactionId, sql},
    packages::{self, PackageId},
    points::Points,
    users::UserId,
};
use std::sync::Arc;
use utoipa::ToSchema;

/// What to buy, and how to pay.
#[derive(Debug)]
pub struct CreateOrder {
    package_id: PackageId,
}

impl FromFields for CreateOrder {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let package_id = fields.required("packageId", "a package's id, an integer from 1", |value| {
            value.as_i64().filter(|id| *id >= 1).map(PackageId::from)
        });
        let payment_method = fields.required("paymentMethod", "\"wechat_native\"", |value| {
            value.as_str().filter(|method| *method == PAYMENT_METHOD).map(drop)
        });
        payment_method?;
        Some(Self { package_id: package_id? })
    }
}

/// An order, as the contract spells it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrderBody {
    order_no: OrderNo,
    out_trade_no: OrderNo,
    transaction_id: Option<TransactionId>,
    user_id: UserId,
    package_id: i64,
    package_name: String,
    amount: Fen,
    currency: String,
    points: Points,
    bonus_points: Points,
    payment_method: String,
    payment_status: PaymentStatus,
    code_url: Option<String>,
    refunded_amount: Fen,
    paid_at: Option<DateTime<Utc>>,
    expired_at: DateTime<Utc>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<Order> for OrderBody {
    fn from(order: Order) -> Self {
        // A code that is of no use any more is not shown: it would look payable.
        let code_url = order.payable_code(clock::now()).map(str::to_owned);
        let Order { order_no, transaction_id, user_id, package_id, package_name, amount, currency, .. } = order;
        let Order { points, bonus_points, payment_method, status, refunded_amount, .. } = order;
        let Order { paid_at, expired_at, created_at, updated_at, .. } = order;
        Self {
            out_trade_no: order_no.clone(),
            order_no,
            transaction_id,
            user_id,
            package_id: package_id.get(),
            package_name,
            amount,
            currency,
            points,
            bonus_points,
            payment_method,
            payment_status: status,
            code_url,
            refunded_amount,
            paid_at,
            expired_at,
            created_at,
            updated_at,
        }
    }
}

/// `POST /api/payment/orders`
#[utoipa::path(post, summary = "Buy a package", path = "/api/payment/orders", tag = "orders", security(("bearer" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key and body give the same order again, for 24 hours", min_length = 1, max_length = 64, pattern = "^[!-~]+$")),
    request_body = CreateOrderBody,
    responses(
        (status = 201, description = "The order, with what its QR code must say", body = OrderBody),
        (status = 200, description = "The order that an equal request with the same key made", body = OrderBody),
        (status = 409, description = "`package_unavailable`, or `idempotency_conflict`: the key was used with another body", body = Problem, content_type = "application/problem+json"),
        ForAnyone, ForBodies, ForWechat,
    ))]
pub async fn create(
    State(app): State<Arc<App>>,
    caller: User,
    key: IdempotencyKey,
    Query(Nothing): Query<Nothing>,
    Json(request): Json<CreateOrder>,
) -> Result<(StatusCode, Json<OrderBody>), ApiError> {
    let same = format!("{} {PAYMENT_METHOD}", request.package_id.get());
    let key = key.0.map(|key| Key::new(caller.id().clone(), Operation::CreateOrder, key, &same));
    if let Some(key) = &key
        && let Some(order) = checkout::find_repeated(&app.db, key).await?
    {
        return Ok((StatusCode::OK, Json(order.into())));
    }
    let package = packages::sql::find_active(&app.db, request.package_id).await?.ok_or(ApiError::PackageUnavailable)?;
    let order = NewOrder::of(package, caller.id().clone(), clock::now(), app.order_ttl);
    Ok(match checkout::place(&app.db, &app.wechat, order, key, app.limits.max_pending_orders()).await? {
        Placed::New(order) => (StatusCode::CREATED, Json(order.into())),
        Placed::Repeated(order) => (StatusCode::OK, Json(order.into())),
    })
}

/// Whether WeChat Pay should be asked first.
#[derive(Debug)]
pub struct OneQuery {
    sync: bool,
}

impl FromFields for OneQuery {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let sync = fields.or("sync", "true or false", false, |value| value.as_str()?.parse().ok());
        Some(Self { sync: sync? })
    }
}

/// `GET /api/payment/orders/{orderNo}`
#[utoipa::path(get, summary = "One order", path = "/api/payment/orders/{orderNo}", tag = "orders", security(("bearer" = [])),
    params(OrderNoParam, ("sync" = Option<bool>, Query, description = "Ask WeChat Pay first, when the order is still pending")),
    responses((status = 200, description = "The order", body = OrderBody), ForAnyone, ForFields, ForIds))]
pub async fn one(
    State(app): State<Arc<App>>,
    caller: User,
    Path(order_no): Path<String>,
    Query(query): Query<OneQuery>,
) -> Result<Json<OrderBody>, ApiError> {
    let mut order = find(&app, &caller, &order_no).await?;
    if query.sync {
        order = refreshed(&app, &caller, order).await?;
    }
    Ok(Json(order.into()))
}

/// `GET /api/payment/orders/{orderNo}/qrcode.svg`
#[utoipa::path(get, summary = "What to scan", path = "/api/payment/orders/{orderNo}/qrcode.svg", tag = "orders", security(("bearer" = [])),params(OrderNoParam),
    responses(
        (status = 200, description = "The QR code of `codeUrl`", body = String, content_type = "image/svg+xml"),
        (status = 409, description = "`order_already_paid`", body = Problem, content_type = "application/problem+json"),
        ForAnyone, ForFields, ForIds,
    ))]
pub async fn qrcode(
    State(app): State<Arc<App>>,
    caller: User,
    Path(order_no): Path<String>,
    Query(Nothing): Query<Nothing>,
) -> Result<Response, ApiError> {
    let order = find(&app, &caller, &order_no).await?;
    let Some(code_url) = order.payable_code(clock::now()) else {
        return Err(if order.paid_at.is_some() {
            ApiError::AlreadyPaid
        } else {
            ApiError::NotFound("QR code any more")
        });
    };
    let qrcode = QRBuilder::new(code_url).build().map_err(|_| ApiError::NotFound("QR code"))?;
    let svg = SvgBuilder::default().to_str(&qrcode);
    // Not to be kept: the next answer may be that it is paid.
    Ok(([(header::CONTENT_TYPE, "image/svg+xml"), (header::CACHE_CONTROL, "no-store")], svg).into_response())
}

/// The order, when the caller may see it.
pub async fn find(app: &App, caller: &User, order_no: &str) -> Result<Order, ApiError> {
    let order_no: OrderNo = order_no.parse().map_err(|_| ApiError::NotFound("order"))?;
    sql::find(&app.db, &order_no, caller.scope()).await?.ok_or(ApiError::NotFound("order"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn faults(body: &Value) -> Vec<String> {
        match Fields::read::<CreateOrder>(body.as_object().expect("an object").clone()) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.into_iter().map(|error| error.field).collect(),
        }
    }

    #[test]
    fn each_field_of_a_new_order_has_its_type_and_range() {
        assert_eq!(faults(&json!({"packageId": 1, "paymentMethod": "wechat_native"})), [""; 0]);
        for id in [json!(0), json!(-1), json!("1"), json!(1.5), json!(null), json!(9_223_372_036_854_775_808_u64)] {
            assert_eq!(faults(&json!({"packageId": id, "paymentMethod": "wechat_native"})), ["packageId"]);
        }
        for method in [json!("alipay"), json!(""), json!(1), json!(null)] {
            assert_eq!(faults(&json!({"packageId": 1, "paymentMethod": method})), ["paymentMethod"]);
        }
        assert_eq!(faults(&json!({"amount": 1})), ["packageId", "paymentMethod", "amount"]);
    }
}
