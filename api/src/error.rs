//! Failures as callers see them: `application/problem+json` (RFC 9457), with a code that never changes.

use crate::{fields::FieldError, limits, request_id};
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use shared::{
    checkout::{AskError, PlaceError},
    notify::Fault,
    refunds::create::{CreateError, NotAllowed},
    wechat,
};
use std::{error::Error, num::NonZeroU32, time::Duration};
use utoipa::ToSchema;

/// Why a request failed. `Display` is for the client; the source is for the log.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error("a valid bearer token is needed: HS256, with sub and exp")]
    Unauthorized,
    #[error("this needs the role admin")]
    Forbidden,
    #[error("there is no such {0}")]
    NotFound(&'static str),
    #[error("this path does not take this method")]
    MethodNotAllowed,
    #[error("the request is malformed: {0}")]
    Malformed(&'static str),
    #[error("the body is larger than 64 KiB")]
    TooLarge,
    #[error("one or more fields break a rule")]
    Validation(Vec<FieldError>),
    #[error("too many requests; try again when Retry-After has passed")]
    RateLimited(Duration),
    #[error("too many orders are waiting for payment, {0} at most: pay or cancel one first")]
    TooManyPending(NonZeroU32),
    #[error("this package cannot be bought")]
    PackageUnavailable,
    #[error("the order is already paid")]
    AlreadyPaid,
    #[error("an order that has ended cannot be cancelled")]
    NotCancellable,
    #[error("this Idempotency-Key was used with another request")]
    IdempotencyConflict,
    #[error("an equal request is still under way; try again in a moment")]
    UnderWay,
    #[error("this refund is not allowed: {0}")]
    RefundNotAllowed(NotAllowed),
    #[error("the user has spent some of the points: {0} are missing; allowNegativeBalance takes them all the same")]
    InsufficientPoints(i64),
    #[error("WeChat Pay's payment does not fit the order: {0}")]
    Misfit(Fault),
    #[error("WeChat Pay refused the order")]
    WechatRejected(#[source] wechat::Error),
    #[error("WeChat Pay cannot be reached; try again in a moment")]
    WechatUnavailable(#[source] wechat::Error),
    #[error("something went wrong on our side")]
    Internal(#[from] sqlx::Error),
    #[error("something went wrong on our side")]
    Panic,
}

impl ApiError {
    /// The status, and the `code` that clients branch on: once released it never changes.
    const fn kind(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden"),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::Malformed(_) => (StatusCode::BAD_REQUEST, "malformed_request"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large"),
            Self::Validation(_) => (StatusCode::UNPROCESSABLE_ENTITY, "validation_failed"),
            Self::RateLimited(_) => (StatusCode::TOO_MANY_REQUESTS, "rate_limited"),
            Self::TooManyPending(_) => (StatusCode::TOO_MANY_REQUESTS, "too_many_pending_orders"),
            Self::PackageUnavailable => (StatusCode::CONFLICT, "package_unavailable"),
            Self::AlreadyPaid => (StatusCode::CONFLICT, "order_already_paid"),
            Self::NotCancellable => (StatusCode::CONFLICT, "order_not_cancellable"),
            Self::IdempotencyConflict => (StatusCode::CONFLICT, "idempotency_conflict"),
            Self::RefundNotAllowed(_) => (StatusCode::CONFLICT, "refund_not_allowed"),
            Self::InsufficientPoints(_) => (StatusCode::CONFLICT, "insufficient_points"),
            Self::Misfit(_) | Self::WechatRejected(_) => (StatusCode::BAD_GATEWAY, "wechat_rejected"),
            Self::UnderWay | Self::WechatUnavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "wechat_unavailable"),
            Self::Internal(_) | Self::Panic => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        }
    }
}

impl From<PlaceError> for ApiError {
    fn from(error: PlaceError) -> Self {
        match error {
            PlaceError::KeyConflict => Self::IdempotencyConflict,
            PlaceError::UnderWay => Self::UnderWay,
            PlaceError::TooManyOpen(most) => Self::TooManyPending(most),
            PlaceError::Rejected(error) => Self::WechatRejected(error),
            PlaceError::Unavailable(error) => Self::WechatUnavailable(error),
            PlaceError::Database(error) => Self::Internal(error),
        }
    }
}

impl From<CreateError> for ApiError {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::NoOrder => Self::NotFound("order"),
            CreateError::NotAllowed(why) => Self::RefundNotAllowed(why),
            CreateError::InsufficientPoints(missing) => Self::InsufficientPoints(missing),
            CreateError::KeyConflict => Self::IdempotencyConflict,
            CreateError::Database(error) => Self::Internal(error),
        }
    }
}

impl From<AskError> for ApiError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Wechat(error @ wechat::Error::Unknown(_)) => Self::WechatUnavailable(error),
            AskError::Wechat(error) => Self::WechatRejected(error),
            AskError::Misfit(fault) => Self::Misfit(fault),
            AskError::Database(error) => Self::Internal(error),
        }
    }
}

/// The one body of every failure.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// Always `about:blank`: `code` says it all (RFC 9457 §4.2.1).
    r#type: &'static str,
    /// The status in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What was wrong, for people.
    detail: String,
    /// What was wrong, for programs. Once released it never changes.
    #[schema(example = "not_found")]
    code: &'static str,
    /// To quote when asking for help; also in the header `X-Request-Id`.
    request_id: String,
    /// With `validation_failed`: every field that breaks a rule.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<FieldError>,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, code) = self.kind();
        let request_id = request_id::current();
        if status.is_server_error() {
            tracing::error!(request_id, error = &self as &dyn Error, "request failed: {code}");
        }
        let problem = Problem {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: self.to_string(),
            code,
            request_id,
            errors: if let Self::Validation(errors) = &self { errors.clone() } else { Vec::new() },
        };
        let body = serde_json::to_string(&problem).expect("texts and numbers are JSON");
        let content_type = [(header::CONTENT_TYPE, "application/problem+json")];
        let mut response = (status, content_type, body).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Self::RateLimited(wait) = self {
            let seconds = limits::whole_seconds(wait).max(1);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
