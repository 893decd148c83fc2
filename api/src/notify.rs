//! The door for WeChat Pay's callbacks: it needs only the raw bytes and the keys in memory, and lets in what WeChat Pay
//! has signed just now. What the callback means is the worker's business.

use crate::{
    app::App,
    body::{self, BodyError},
    client_address::ClientAddress,
    openapi::{CallbackHeaders, ForWechatPay},
};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use shared::{
    clock, metrics,
    notify::{Fault, NewNotify, NotifyHeaders, NotifyId, NotifyType},
    wechat::{notification::notify_type, signature::Signed},
};
use std::{num::NonZeroU32, sync::Arc, time::Duration};

/// How many refused callbacks are kept in a second: enough to see an attack or a wrong key, too few to fill the disk.
const KEPT_PER_SECOND: NonZeroU32 = NonZeroU32::new(5).expect("five is not zero");
/// From the request's head to the answer. WeChat Pay waits 5 s (wechatpay-v3.md §4.6).
const ANSWER_DEADLINE: Duration = Duration::from_millis(4_500);
/// Longer than any that WeChat Pay sends. What is kept must be bounded.
const MAX_HEADER_BYTES: usize = 1_024;

/// Decides which refused callbacks are kept.
pub type Sampler = DefaultDirectRateLimiter;

/// A sampler of [`KEPT_PER_SECOND`].
pub fn sampler() -> Sampler {
    RateLimiter::direct(Quota::per_second(KEPT_PER_SECOND))
}

/// The answers that WeChat Pay understands (wechatpay-v3.md §4.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The notification is committed to the log.
    Stored,
    /// It is not; sent again or not, that is WeChat Pay's to decide.
    Refused(StatusCode),
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let json = [(header::CONTENT_TYPE, "application/json")];
        match self {
            Self::Stored => (json, r#"{"code":"SUCCESS","message":"成功"}"#).into_response(),
            Self::Refused(status) => (status, json, r#"{"code":"FAIL","message":"失败"}"#).into_response(),
        }
    }
}

/// `POST /api/payment/notify/wechat`
#[utoipa::path(post, summary = "Payment callback", path = "/api/payment/notify/wechat", tag = "WeChat Pay", params(CallbackHeaders),
    request_body(content = serde_json::Value, description = "The notification, at most 64 KiB"), responses(ForWechatPay))]
pub async fn payment(State(app): State<Arc<App>>, sender: ClientAddress, request: Request) -> Answer {
    in_time(&app, NotifyType::Payment, sender, request).await.unwrap_or_else(Answer::Refused)
}

/// `POST /api/payment/notify/wechat/refund`
#[utoipa::path(post, summary = "Refund callback", path = "/api/payment/notify/wechat/refund", tag = "WeChat Pay", params(CallbackHeaders),
    request_body(content = serde_json::Value, description = "The notification, at most 64 KiB"), responses(ForWechatPay))]
pub async fn refund(State(app): State<Arc<App>>, sender: ClientAddress, request: Request) -> Answer {
    in_time(&app, NotifyType::Refund, sender, request).await.unwrap_or_else(Answer::Refused)
}

/// An answer that comes too late counts as none: it is then said in time that nothing is known.
async fn in_time(
    app: &App,
    by_route: NotifyType,
    sender: ClientAddress,
    request: Request,
) -> Result<Answer, StatusCode> {
    let received = tokio::time::timeout(ANSWER_DEADLINE, receive(app, by_route, sender, request));
    let answer = received.await.unwrap_or(Err(StatusCode::SERVICE_UNAVAILABLE));
    metrics::callback_answered(answer.as_ref().err().copied().unwrap_or(StatusCode::OK).as_u16());
    answer
}

/// Both routes take both families of events; `by_route` only names one whose event is unknown.
async fn receive(
    app: &App,
    by_route: NotifyType,
    sender: ClientAddress,
    request: Request,
) -> Result<Answer, StatusCode> {
    let (parts, body) = request.into_parts();
    let body = body::read(body).await.map_err(|error| match error {
        BodyError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        BodyError::TooSlow => StatusCode::REQUEST_TIMEOUT,
        BodyError::Broken => StatusCode::BAD_REQUEST,
    })?;
    let headers = read_headers(&parts.headers).ok_or(StatusCode::BAD_REQUEST)?;
    let by_event = notify_type(&body).map_err(|_| StatusCode::BAD_REQUEST)?;
    let verdict = verify(app, &headers, &body).await;
    let notify = NewNotify {
        id: NotifyId::generate(),
        notify_type: by_event.unwrap_or(by_route),
        rejected: verdict.as_ref().err().cloned(),
        client_ip: Some(sender.to_string()),
        headers,
        body,
    };
    match verdict {
        Ok(()) => app.intake.store(notify).await.map(|()| Answer::Stored).map_err(|_| StatusCode::SERVICE_UNAVAILABLE),
        Err(fault) => {
            if app.rejected.check().is_ok() {
                tracing::warn!(notify.id = %notify.id, %sender, "callback refused: {fault}");
                app.intake.keep(notify);
            }
            // WeChat Pay comes again; by then the key may be here.
            let come_again = fault == Fault::KeyUnavailable;
            Err(if come_again { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::UNAUTHORIZED })
        }
    }
}

/// `None` when one of the four that WeChat Pay always sends is missing, or no text.
fn read_headers(headers: &HeaderMap) -> Option<NotifyHeaders> {
    let get = |name: &str| {
        let value = headers.get(name)?.to_str().ok()?;
        (value.len() <= MAX_HEADER_BYTES).then(|| value.to_owned())
    };
    Some(NotifyHeaders {
        wechatpay_timestamp: get("wechatpay-timestamp")?,
        wechatpay_nonce: get("wechatpay-nonce")?,
        wechatpay_signature: get("wechatpay-signature")?,
        wechatpay_serial: get("wechatpay-serial")?,
        wechatpay_signature_type: get("wechatpay-signature-type"),
        request_id: get("request-id"),
        content_type: get("content-type"),
        user_agent: get("user-agent"),
    })
}

/// Freshness is judged here and once: a worker that handles the row tomorrow must not judge it again.
async fn verify(app: &App, headers: &NotifyHeaders, body: &[u8]) -> Result<(), Fault> {
    let signed = Signed {
        timestamp: &headers.wechatpay_timestamp,
        nonce: &headers.wechatpay_nonce,
        signature: &headers.wechatpay_signature,
    };
    if !signed.is_fresh(clock::now()) {
        return Err(Fault::TimestampStale);
    }
    let serial = &headers.wechatpay_serial;
    match app.keys.verify(serial, &signed, body) {
        Err(Fault::KeyUnavailable) if app.wechat.fetch_key(serial).await => app.keys.verify(serial, &signed, body),
        verdict => verdict,
    }
}
