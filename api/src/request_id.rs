//! `X-Request-Id`: the caller's when it is sane, else a new one; in every answer, and in every problem.

use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue},
    response::Response,
};
use uuid::Uuid;

const HEADER: HeaderName = HeaderName::from_static("x-request-id");

tokio::task_local! {
    static CURRENT: String;
}

/// The id of the request that this task is answering.
pub fn current() -> String {
    CURRENT.try_with(Clone::clone).unwrap_or_default()
}

/// Gives every request its id.
pub async fn identified<F: Future<Output = Response>>(request: Request, answer: impl FnOnce(Request) -> F) -> Response {
    let id = request.headers().get(HEADER).and_then(sane).unwrap_or_else(|| Uuid::now_v7().to_string());
    let value = HeaderValue::from_str(&id).expect("a sane id is a header value");
    let mut response = CURRENT.scope(id, answer(request)).await;
    response.headers_mut().insert(HEADER, value);
    response
}

/// 1 to 128 of `[A-Za-z0-9._-]`: nothing that could forge a log line.
fn sane(value: &HeaderValue) -> Option<String> {
    let id = value.to_str().ok()?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    ((1..=128).contains(&id.len()) && id.bytes().all(allowed)).then(|| id.to_owned())
}
