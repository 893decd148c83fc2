//! Whether this process is alive, whether it can serve, and what it has counted and measured.

use crate::{app::App, extract::Json, openapi::ReadinessBody};
use axum::{
    extract::{MatchedPath, Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use shared::{health::Readiness, metrics::http_answered};
use std::sync::Arc;
use tokio::time::Instant;

/// `GET /healthz`
#[utoipa::path(get, summary = "Is it alive?", path = "/healthz", tag = "operation", responses((status = 200, description = "The process is alive", body = String, content_type = "text/plain")))]
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`
#[utoipa::path(get, summary = "Can it serve?", path = "/readyz", tag = "operation",
    responses(
        (status = 200, description = "The process can serve", body = ReadinessBody),
        (status = 503, description = "It cannot; `database` or `keys` is `down`", body = ReadinessBody),
    ))]
pub async fn readyz(State(app): State<Arc<App>>) -> (StatusCode, Json<Readiness>) {
    let readiness = app.needs.check().await;
    (if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(readiness))
}

/// `GET /metrics`
#[utoipa::path(get, summary = "What was counted", path = "/metrics", tag = "operation",
    responses((status = 200, description = "Prometheus' text format", body = String, content_type = "text/plain")))]
pub async fn metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], app.metrics.page())
}

/// Measures every request. A stream is answered when it begins.
pub async fn measured<F: Future<Output = Response>>(request: Request, answer: impl FnOnce(Request) -> F) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let (method, begun) = (request.method().clone(), Instant::now());
    let response = answer(request).await;
    let route = route.as_ref().map(MatchedPath::as_str);
    http_answered(route, method.as_str(), response.status().as_u16(), begun.elapsed());
    response
}
