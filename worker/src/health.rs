//! Whether this process is alive, whether it can work, and what it has counted.

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use shared::{health::Needs, metrics::Metrics};

/// `/healthz`, `/readyz` and `/metrics`.
pub fn router(needs: Needs, metrics: Metrics) -> Router {
    let metrics = metrics.of_worker();
    metrics.watch_pool("worker", &needs.db);
    metrics.watch_link("consuming", &needs.broker);
    let page = async move || ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.page());
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(page))
        .with_state(needs)
}

async fn readyz(State(needs): State<Needs>) -> impl IntoResponse {
    let readiness = needs.check().await;
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::to_string(&readiness).unwrap_or_default();
    (status, [(header::CONTENT_TYPE, "application/json")], body)
}
