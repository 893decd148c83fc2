//! Whether this process is alive, and whether it can serve.

use crate::{app::App, extract::Json};
use axum::{extract::State, http::StatusCode};
use shared::health::Readiness;
use std::sync::Arc;

/// `GET /healthz`
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`
pub async fn readyz(State(app): State<Arc<App>>) -> (StatusCode, Json<Readiness>) {
    let readiness = app.needs.check().await;
    (if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(readiness))
}
