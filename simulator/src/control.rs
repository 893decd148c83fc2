//! The control API, `/control/…`: what payers, banks and the merchant console would do, and what
//! goes wrong. JSON, camelCase.
//!
//! It has no authentication: the simulator is a development tool that listens on loopback.

mod faults;
mod orders;
mod refunds;
mod settings;
mod sign;
mod views;

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts, RawPathParams, Request, State},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::app::Simulator;

/// What every handler is given.
pub type App = State<Arc<Simulator>>;

/// All routes, to be nested under `/control`.
pub fn router() -> Router<Arc<Simulator>> {
    Router::new()
        .route("/health", get(settings::health))
        .route("/settings", get(settings::show).put(settings::change))
        .route("/certificates/rotate", post(settings::rotate))
        .route("/reset", post(settings::reset))
        .route("/books", get(views::books))
        .route("/notifications", get(views::notifications))
        .route("/orders", get(views::orders).post(orders::create))
        .route("/orders/{out_trade_no}", get(views::order))
        .route("/orders/{out_trade_no}/pay", post(orders::pay))
        .route("/orders/{out_trade_no}/fail", post(orders::fail))
        .route("/orders/{out_trade_no}/notify", post(orders::notify))
        .route(
            "/orders/{out_trade_no}/faults",
            get(faults::of_order).put(faults::set_of_order).delete(faults::clear_of_order),
        )
        .route("/pay", post(orders::pay_by_code))
        .route("/refunds", get(views::refunds).post(refunds::create))
        .route("/refunds/{out_refund_no}", get(views::refund))
        .route("/refunds/{out_refund_no}/outcome", post(refunds::outcome))
        .route("/refunds/{out_refund_no}/notify", post(refunds::notify))
        .route("/faults", get(faults::show).put(faults::set))
        .route("/faults/next", post(faults::next))
        .route("/sign", post(sign::sign))
        .fallback(|| async { Failure::not_found("there is no such control call; see the README") })
        .method_not_allowed_fallback(|| async {
            Failure::new(StatusCode::METHOD_NOT_ALLOWED, "this call takes another method")
        })
}

/// Why a control call failed, in words for whoever made it.
#[derive(Clone, Debug)]
pub struct Failure {
    status: StatusCode,
    message: String,
}

impl Failure {
    /// A failure with the given status and text.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// 400
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 404
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// 409
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    /// 404 for an order.
    pub fn no_order(out_trade_no: &str) -> Self {
        Self::not_found(format!("there is no order {out_trade_no}"))
    }

    /// 404 for a refund.
    pub fn no_refund(out_refund_no: &str) -> Self {
        Self::not_found(format!("there is no refund {out_refund_no}"))
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        tracing::error!("a control call failed: {error:#}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}"))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        Reply(self.status, json!({"error": self.message})).into_response()
    }
}

/// A JSON answer.
#[derive(Clone, Debug)]
pub struct Reply<T>(pub StatusCode, pub T);

impl<T> Reply<T> {
    /// 200
    pub const fn ok(body: T) -> Self {
        Self(StatusCode::OK, body)
    }
}

impl<T: Serialize> IntoResponse for Reply<T> {
    fn into_response(self) -> Response {
        let (status, bytes) = match serde_json::to_vec(&self.1) {
            Ok(bytes) => (self.0, bytes),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string().into_bytes()),
        };
        let mut response = Response::new(Body::from(bytes));
        *response.status_mut() = status;
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }
}

/// What a handler gives back.
pub type Answered<T = Value> = Result<Reply<T>, Failure>;

/// The first part of the path that is a parameter.
#[derive(Clone, Debug)]
pub struct Param(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Param {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let params = RawPathParams::from_request_parts(parts, state).await;
        let params = params.map_err(|error| Failure::bad(error.to_string()))?;
        let first = params.iter().next().map(|(_, value)| value.to_owned());
        first.map(Self).ok_or_else(|| Failure::bad("a part of the path is missing"))
    }
}

/// A JSON body; an empty one stands for `{}`.
#[derive(Clone, Debug)]
pub struct Input<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Input<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let bytes = Bytes::from_request(request, state).await;
        let bytes = bytes.map_err(|error| Failure::bad(error.to_string()))?;
        let text: &[u8] = if bytes.trim_ascii().is_empty() { b"{}" } else { &bytes };
        let input = serde_json::from_slice(text);
        input.map(Self).map_err(|error| Failure::bad(format!("the body: {error}")))
    }
}

/// The query's value of a name.
#[derive(Clone, Debug)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// The value, when there is one.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// `limit`, 100 unless given.
    ///
    /// # Errors
    /// When it is not a number from 1 on.
    pub fn limit(&self) -> Result<usize, Failure> {
        let Some(text) = self.get("limit") else { return Ok(100) };
        let limit = text.parse().ok().filter(|limit| *limit > 0);
        limit.ok_or_else(|| Failure::bad(format!("limit: expected a number from 1 on, not {text}")))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let pairs = parts.uri.query().unwrap_or_default().split('&');
        let pairs = pairs.filter_map(|pair| pair.split_once('='));
        let decoded = pairs
            .filter_map(|(key, value)| Some((key.to_owned(), crate::v3::route::decode(&value.replace('+', " "))?)));
        Ok(Self(decoded.collect()))
    }
}
