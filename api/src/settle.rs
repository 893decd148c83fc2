//! Asking WeChat Pay on a caller's behalf: cancel, and look again.

use crate::{
    app::App,
    auth::{Admin, User},
    error::{ApiError, Problem},
    extract::{Json, Nothing, Path, Query},
    openapi::{ForAdmins, ForAnyone, ForFields, ForIds, ForWechat, OrderNoParam},
    orders::{OrderBody, find},
};
use axum::extract::State;
use shared::{
    checkout::{AskError, End, Ended, ask, end},
    orders::{Order, PaymentStatus},
};
use std::{error::Error, sync::Arc};

/// `POST /api/payment/orders/{orderNo}/cancel`
#[utoipa::path(post, summary = "Give an order up", path = "/api/payment/orders/{orderNo}/cancel", tag = "orders", security(("bearer" = [])),params(OrderNoParam),
    responses(
        (status = 200, description = "The cancelled order; WeChat Pay has closed it", body = OrderBody),
        (status = 409, description = "`order_already_paid`: it was paid, and is credited; `order_not_cancellable`: it has ended otherwise", body = Problem, content_type = "application/problem+json"),
        ForAnyone, ForFields, ForIds, ForWechat,
    ))]
pub async fn cancel(
    State(app): State<Arc<App>>,
    caller: User,
    Path(order_no): Path<String>,
    Query(Nothing): Query<Nothing>,
) -> Result<Json<OrderBody>, ApiError> {
    let order = find(&app, &caller, &order_no).await?;
    if order.status == PaymentStatus::Pending {
        end_uninterrupted(&app, order).await?;
    }
    let order = find(&app, &caller, &order_no).await?;
    match order.status {
        PaymentStatus::Cancelled => Ok(Json(order.into())),
        PaymentStatus::Paid | PaymentStatus::PartiallyRefunded | PaymentStatus::Refunded => Err(ApiError::AlreadyPaid),
        PaymentStatus::Pending | PaymentStatus::Expired | PaymentStatus::Failed => Err(ApiError::NotCancellable),
    }
}

/// A caller that hangs up must not leave an order closed there and pending here.
async fn end_uninterrupted(app: &Arc<App>, order: Order) -> Result<Ended, AskError> {
    let app = Arc::clone(app);
    let ending = async move {
        let ended = end(&app.db, &app.wechat, &order, End::Cancelled).await;
        app.announce(vec![order.order_no]);
        ended
    };
    tokio::spawn(ending).await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

/// `POST /api/payment/admin/orders/{orderNo}/sync`
#[utoipa::path(post, summary = "Ask WeChat Pay about an order", path = "/api/payment/admin/orders/{orderNo}/sync", tag = "admin", security(("bearer" = [])),params(OrderNoParam),
    responses((status = 200, description = "The order, after what WeChat Pay says was applied", body = OrderBody), ForAnyone, ForAdmins, ForFields, ForIds, ForWechat))]
pub async fn sync(
    State(app): State<Arc<App>>,
    Admin(caller): Admin,
    Path(order_no): Path<String>,
    Query(Nothing): Query<Nothing>,
) -> Result<Json<OrderBody>, ApiError> {
    let order = find(&app, &caller, &order_no).await?;
    ask(&app.db, &app.wechat, &order.order_no).await?;
    app.announce(vec![order.order_no.clone()]);
    Ok(Json(find(&app, &caller, &order_no).await?.into()))
}

/// What a look at a pending order finds when WeChat Pay is asked first. When it cannot be asked now, the order is as it
/// stands here: a look must not fail for that.
pub async fn refreshed(app: &App, caller: &User, order: Order) -> Result<Order, ApiError> {
    if order.status != PaymentStatus::Pending || app.budget.take(&app.db, 1).await? == 0 {
        return Ok(order);
    }
    match ask(&app.db, &app.wechat, &order.order_no).await {
        Ok(_) => {
            app.announce(vec![order.order_no.clone()]);
            find(app, caller, order.order_no.as_str()).await
        }
        Err(AskError::Database(error)) => Err(error.into()),
        Err(error) => {
            if error.is_too_fast() {
                app.budget.slow_down(&app.db).await?;
            }
            tracing::warn!(order.no = %order.order_no, error = &error as &dyn Error, "an order could not be refreshed");
            Ok(order)
        }
    }
}
