//! Which path leads where, and what surrounds every answer.

use crate::{
    app::App, error::ApiError, events, health, limits, notify, order_search, orders, package_admin, packages, points,
    request_id, settle, statistics,
};
use axum::{
    Router, middleware,
    response::{IntoResponse, Response},
    routing::{get, patch, post},
};
use std::{any::Any, sync::Arc};
use tower_http::catch_panic::CatchPanicLayer;

/// All routes.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/api/payment/packages", get(packages::list))
        .route("/api/payment/packages/{id}", get(packages::one))
        .route("/api/payment/orders", get(order_search::own).post(orders::create))
        .route("/api/payment/orders/{orderNo}", get(orders::one))
        .route("/api/payment/orders/{orderNo}/cancel", post(settle::cancel))
        .route("/api/payment/admin/orders/{orderNo}/sync", post(settle::sync))
        .route("/api/payment/admin/orders", get(order_search::all))
        .route("/api/payment/admin/packages", get(package_admin::list).post(package_admin::create))
        .route("/api/payment/admin/packages/{id}", patch(package_admin::patch))
        .route("/api/payment/admin/statistics", get(statistics::figures))
        .route("/api/payment/orders/{orderNo}/qrcode.svg", get(orders::qrcode))
        .route("/api/payment/orders/{orderNo}/events", get(events::order))
        .route("/api/payment/notify/wechat", post(notify::payment))
        .route("/api/payment/notify/wechat/refund", post(notify::refund))
        .route("/api/points/balance", get(points::balance))
        .route("/api/points/entries", get(points::entries))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .fallback(async || ApiError::NotFound("page"))
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .layer(middleware::from_fn_with_state(Arc::clone(&app), limits::layer))
        .layer(CatchPanicLayer::custom(|panic| panicked(&panic)))
        .layer(middleware::from_fn(request_id::layer))
        .with_state(app)
}

/// A bug of ours must cost one answer, not the process.
fn panicked(panic: &Box<dyn Any + Send>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!("a handler panicked: {}", text.unwrap_or("no message"));
    ApiError::Panic.into_response()
}
