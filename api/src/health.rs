//! Whether this process is alive, and whether it can serve.

use crate::{app::App, extract::Json, openapi::ReadinessBody};
use axum::{extract::State, http::StatusCode};
use shared::health::Readiness;
use std::sync::Arc;

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
