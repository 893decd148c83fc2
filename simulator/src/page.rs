//! The page for people: three files that are part of the binary.

use std::sync::Arc;

use axum::{Router, http::header, response::IntoResponse, routing::get};

use crate::app::Simulator;

/// `/` and what it needs.
pub fn router() -> Router<Arc<Simulator>> {
    let html = include_str!("../assets/page.html");
    let css = include_str!("../assets/page.css");
    let js = include_str!("../assets/page.js");
    Router::new()
        .route("/", get(async move || file("text/html; charset=utf-8", html)))
        .route("/assets/page.css", get(async move || file("text/css; charset=utf-8", css)))
        .route("/assets/page.js", get(async move || file("text/javascript; charset=utf-8", js)))
}

fn file(content_type: &'static str, text: &'static str) -> impl IntoResponse {
    const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; \
                          connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'";
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
    ];
    (headers, text)
}
