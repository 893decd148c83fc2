//! Refunds, for admins: asking for one, and looking at them.

use crate::{
    app::App,
    auth::Admin,
    error::{ApiError, Problem},
    extract::{IdempotencyKey, Json, Nothing, Path, Query},
    fields::{Fields, FromFields},
    openapi::{
        ForAdmins, ForAnyone, ForBodies, ForFields, ForIds, OrderNoParam, PageParams, RefundNoParam, RefundRequestBody,
    },
    page::{Page, PageQuery},
};
use axum::{extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use shared::{
    checkout::idempotency::{Key, Operation},
    crash,
    money::Fen,
    orders::OrderNo,
    queue::Line,
    refunds::{
        Refund, RefundNo, RefundStatus,
        create::{Created, Request, create},
        search::{Filter, Position, page},
        sql,
    },
};
use std::sync::Arc;
use utoipa::ToSchema;

/// A refund, as the contract spells it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RefundBody {
    refund_no: RefundNo,
    /// `null` for money that came for no order of ours.
    order_no: Option<OrderNo>,
    /// Fen.
    amount: Fen,
    currency: String,
    /// What it took from the account, bonus included.
    points: i64,
    reason: Option<String>,
    status: RefundStatus,
    wechat_refund_id: Option<String>,
    /// Why it is not getting on, or how it failed.
    failure_reason: Option<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    completed_at: Option<DateTime<Utc>>,
}

impl From<Refund> for RefundBody {
    fn from(refund: Refund) -> Self {
        Self {
            refund_no: refund.refund_no,
            order_no: refund.order_no,
            amount: refund.amount,
            currency: refund.currency,
            points: refund.points.get() + refund.bonus_points.get(),
            reason: refund.reason,
            status: refund.status,
            wechat_refund_id: refund.wechat_refund_id,
            failure_reason: refund.failure_reason,
            created_at: refund.created_at,
            updated_at: refund.updated_at,
            completed_at: refund.completed_at,
        }
    }
}

/// What is asked for.
#[derive(Debug, Serialize)]
pub struct RefundRequest {
    amount: Option<Fen>,
    reason: Option<String>,
    allow_negative_balance: bool,
}

impl FromFields for RefundRequest {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let amount = fields.or("amount", "an integer number of fen, 1 or more", None, |value| {
            value.as_i64().and_then(|amount| Fen::try_from(amount).ok()).filter(|amount| *amount >= Fen::ONE).map(Some)
        });
        let reason = fields.or("reason", "a text of 1 to 80 bytes, shown to the payer", None, |value| {
            let text = value.as_str()?;
            let sound = (1..=80).contains(&text.len()) && !text.trim().is_empty() && !text.contains(char::is_control);
            sound.then(|| Some(text.to_owned()))
        });
        let allow_negative_balance = fields.or("allowNegativeBalance", "true or false", false, Value::as_bool);
        Some(Self { amount: amount?, reason: reason?, allow_negative_balance: allow_negative_balance? })
    }
}

/// `POST /api/payment/admin/orders/{orderNo}/refunds`
#[utoipa::path(post, summary = "Refund an order", path = "/api/payment/admin/orders/{orderNo}/refunds", tag = "admin", security(("bearer" = [])),
    params(OrderNoParam, ("Idempotency-Key" = Option<String>, Header, description = "The same key and body give the same refund again", pattern = "^[!-~]{1,64}$")),
    request_body = RefundRequestBody,
    responses(
        (status = 202, description = "Accepted: the points are taken back, and WeChat Pay is asked", body = RefundBody),
        (status = 409, description = "`refund_not_allowed`; `insufficient_points`: the user has spent them; `idempotency_conflict`", body = Problem, content_type = "application/problem+json"),
        ForAnyone, ForAdmins, ForBodies, ForIds,
    ))]
pub async fn refund(
    State(app): State<Arc<App>>,
    Admin(caller): Admin,
    Path(order_no): Path<String>,
    IdempotencyKey(key): IdempotencyKey,
    Query(Nothing): Query<Nothing>,
    Json(request): Json<RefundRequest>,
) -> Result<(StatusCode, Json<RefundBody>), ApiError> {
    let order_no: OrderNo = order_no.parse().map_err(|_| ApiError::NotFound("order"))?;
    let key = key.map(|key| {
        let asked = serde_json::to_string(&(&order_no, &request)).expect("texts and numbers are JSON");
        Key::new(caller.id().clone(), Operation::CreateRefund, key, &asked)
    });
    let asked = Request {
        order_no: &order_no,
        amount: request.amount,
        reason: request.reason.as_deref(),
        allow_negative_balance: request.allow_negative_balance,
        requested_by: caller.id(),
    };
    let created = create(&app.db, &asked, key.as_ref()).await?;
    crash::point("refund stored", order_no.as_str());
    if let (Created::New(refund), Some(publisher)) = (&created, &app.publisher) {
        publisher.publish(Line::Refund, &[&refund.refund_no]);
    }
    Ok((StatusCode::ACCEPTED, Json(created.refund().into())))
}

/// Which refunds are asked for.
#[derive(Debug)]
pub struct RefundsQuery {
    filter: Filter,
    page: PageQuery<Position>,
}

impl FromFields for RefundsQuery {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let expects = "pending, processing, success, closed, abnormal or failed";
        let status = fields.or("status", expects, None, |value| value.as_str()?.parse().ok().map(Some));
        let expects = "an order number: 6 to 32 of 0-9, A-Z, a-z, _, -, | and *";
        let order_no = fields.or("orderNo", expects, None, |value| value.as_str()?.parse().ok().map(Some));
        let filter = status.zip(order_no).map(|(status, order_no)| Filter { status, order_no });
        let page = PageQuery::read(fields, "refunds", filter.as_ref());
        Some(Self { filter: filter?, page: page? })
    }
}

/// `GET /api/payment/admin/refunds`
#[utoipa::path(get, summary = "Refunds", path = "/api/payment/admin/refunds", tag = "admin", security(("bearer" = [])),
    params(
        ("status" = Option<String>, Query, description = "Of this state only", pattern = "^(pending|processing|success|closed|abnormal|failed)$"),
        ("orderNo" = Option<String>, Query, description = "Of this order only", pattern = r"^[0-9A-Za-z_|*-]{6,32}$"),
        PageParams,
    ),
    responses((status = 200, description = "Refunds, newest first", body = Page<RefundBody>), ForAnyone, ForAdmins, ForFields))]
pub async fn list(
    State(app): State<Arc<App>>,
    _: Admin,
    Query(RefundsQuery { filter, page: asked }): Query<RefundsQuery>,
) -> Result<Json<Page<RefundBody>>, ApiError> {
    let rows = page(&app.db, &filter, asked.after.as_ref(), asked.rows()).await?;
    Ok(Json(Page::of(&asked, rows, Position::of)))
}

/// `GET /api/payment/admin/refunds/{refundNo}`
#[utoipa::path(get, summary = "One refund", path = "/api/payment/admin/refunds/{refundNo}", tag = "admin", security(("bearer" = [])), params(RefundNoParam),
    responses((status = 200, description = "The refund", body = RefundBody), ForAnyone, ForAdmins, ForFields, ForIds))]
pub async fn one(
    State(app): State<Arc<App>>,
    _: Admin,
    Path(refund_no): Path<String>,
    Query(Nothing): Query<Nothing>,
) -> Result<Json<RefundBody>, ApiError> {
    let refund_no: RefundNo = refund_no.parse().map_err(|_| ApiError::NotFound("refund"))?;
    let refund = sql::find(&app.db, &refund_no).await?.ok_or(ApiError::NotFound("refund"))?;
    Ok(Json(refund.into()))
}
