//! Which path leads where, and what surrounds every answer.

use crate::{
    app::App, error::ApiError, events, health, limits, notify, notify_logs, notify_retry, notify_statistics,
    openapi::Description, order_search, orders, package_admin, packages, points, refunds, request_id, settle,
    statistics,
};
use axum::{
    Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use std::{panic::AssertUnwindSafe, sync::Arc};
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};
use utoipa_swagger_ui::SwaggerUi;

/// All routes. Each is served by being described, but for the description itself and its page.
pub fn router(app: Arc<App>) -> Router {
    let (routes, description) = described().split_for_parts();
    routes
        .merge(SwaggerUi::new("/docs").url("/openapi.json", description))
        .fallback(async || ApiError::NotFound("page"))
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .layer(middleware::from_fn_with_state(Arc::clone(&app), surround))
        .with_state(app)
}

/// What surrounds every answer, from the outside in: it is timed, it has its id, a panic costs nothing else, and its caller is
/// within the limits. One layer, because each would cost every callback an allocation and a clone of its route.
async fn surround(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let answer = |request| unpanicked(limits::limited(&app, request, next));
    health::measured(request, |request| request_id::identified(request, answer)).await
}

/// A bug of ours must cost one answer, not the process.
async fn unpanicked(answer: impl Future<Output = Response>) -> Response {
    AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        tracing::error!("a handler panicked: {}", text.unwrap_or("no message"));
        ApiError::Panic.into_response()
    })
}

fn described() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(packages::list))
        .routes(routes!(packages::one))
        .routes(routes!(order_search::own, orders::create))
        .routes(routes!(orders::one))
        .routes(routes!(settle::cancel))
        .routes(routes!(orders::qrcode))
        .routes(routes!(events::order))
        .routes(routes!(points::balance))
        .routes(routes!(points::entries))
        .routes(routes!(package_admin::list, package_admin::create))
        .routes(routes!(package_admin::patch))
        .routes(routes!(order_search::all))
        .routes(routes!(settle::sync))
        .routes(routes!(refunds::refund))
        .routes(routes!(refunds::list))
        .routes(routes!(refunds::one))
        .routes(routes!(statistics::figures))
        .routes(routes!(notify_logs::list))
        .routes(routes!(notify_logs::one))
        .routes(routes!(notify_retry::one))
        .routes(routes!(notify_retry::many))
        .routes(routes!(notify_statistics::figures))
        .routes(routes!(notify::payment))
        .routes(routes!(notify::refund))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
}

#[cfg(test)]
mod tests {
    use super::{described, unpanicked};
    use axum::{http::StatusCode, response::Response};
    use serde_json::Value;

    #[tokio::test]
    async fn a_panic_is_an_answer() {
        let answer = unpanicked(async { panic!("a bug") }).await;
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        assert_eq!(unpanicked(async { Response::default() }).await.status(), StatusCode::OK);
    }

    /// The whole surface, a line for each route: what it needs, and every status that it may answer.
    #[test]
    fn the_surface_is_described() {
        let (_, description) = described().split_for_parts();
        let description: Value = serde_json::to_value(description).expect("JSON");
        assert!(description["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")), "{description}");
        let mut lines = Vec::new();
        for (path, methods) in description["paths"].as_object().expect("paths") {
            for (method, operation) in methods.as_object().expect("methods") {
                let statuses: Vec<_> = operation["responses"].as_object().expect("responses").keys().cloned().collect();
                let who = match operation["security"].as_array().map(Vec::len) {
                    None => "anyone",
                    Some(1) => "user",
                    Some(_) => "optional user",
                };
                lines.push(format!("{method} {path}: {who}: {}", statuses.join(" ")));
                for (status, response) in operation["responses"].as_object().expect("responses") {
                    assert!(!response["description"].as_str().unwrap_or("").is_empty(), "{method} {path} {status}");
                }
            }
        }
        insta::assert_snapshot!(lines.join("\n"));
    }
}
