//! Whether this process is alive, and whether it can work.

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use shared::health::Needs;

/// `/healthz` and `/readyz`.
pub fn router(needs: Needs) -> Router {
    Router::new().route("/healthz", get(async || "ok\n")).route("/readyz", get(readyz)).with_state(needs)
}

async fn readyz(State(needs): State<Needs>) -> impl IntoResponse {
    let readiness = needs.check().await;
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::to_string(&readiness).unwrap_or_default();
    (status, [(header::CONTENT_TYPE, "application/json")], body)
}
