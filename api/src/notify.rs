//! The door for WeChat Pay's callbacks: it needs only the raw bytes and the keys in memory, and lets in what WeChat Pay
//! has signed just now. What the callback means is the worker's business.

use crate::{
    app::App,
    body::{self, BodyError},
    client_address::ClientAddress,
    intake::NotStored,
    openapi::{CallbackHeaders, ForWechatPay},
};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use shared::{
    clock,
    metrics::{CallbackAnswer as Answer, callback_answered},
    notify::{Fault, NewNotify, NotifyHeaders, NotifyId, NotifyType},
    wechat::{notification::notify_type, signature::Signed},
};
use std::{num::NonZeroU32, sync::Arc, time::Duration};
use tokio::time::{Instant, timeout};

/// How many refused callbacks are kept in a second: enough to see an attack or a wrong key, too few to fill the disk.
const KEPT_PER_SECOND: NonZeroU32 = NonZeroU32::new(5).expect("five is not zero");
/// From the request's head to the answer. WeChat Pay waits 5 s (wechatpay-v3.md §4.6).
const ANSWER_DEADLINE: Duration = Duration::from_millis(4_500);
/// For the body, so that a slow sender is told from a slow service.
const BODY_DEADLINE: Duration = Duration::from_secs(3);
/// Longer than any that WeChat Pay sends. What is kept must be bounded.
const MAX_HEADER_BYTES: usize = 1_024;

/// Decides which refused callbacks are kept.
pub type Sampler = DefaultDirectRateLimiter;

/// A sampler of [`KEPT_PER_SECOND`].
pub fn sampler() -> Sampler {
    RateLimiter::direct(Quota::per_second(KEPT_PER_SECOND))
}

/// An answer that WeChat Pay understands (wechatpay-v3.md §4.6). Whatever is refused comes again or not, as WeChat Pay
/// decides.
#[derive(Clone, Copy, Debug)]
pub struct Answered(Answer);

impl Answered {
    /// Too many callbacks have come from one address.
    pub fn rate_limited() -> Self {
        callback_answered(Answer::RateLimited, Duration::ZERO);
        Self(Answer::RateLimited)
    }
}

impl IntoResponse for Answered {
    fn into_response(self) -> Response {
        let json = [(header::CONTENT_TYPE, "application/json")];
        match status(self.0) {
            StatusCode::OK => (json, r#"{"code":"SUCCESS","message":"成功"}"#).into_response(),
            status => (status, json, r#"{"code":"FAIL","message":"失败"}"#).into_response(),
        }
    }
}

const fn status(answer: Answer) -> StatusCode {
    match answer {
        Answer::Stored => StatusCode::OK,
        Answer::Malformed => StatusCode::BAD_REQUEST,
        Answer::SignatureInvalid | Answer::Probe | Answer::Stale => StatusCode::UNAUTHORIZED,
        Answer::TooSlow => StatusCode::REQUEST_TIMEOUT,
        Answer::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Answer::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        // WeChat Pay comes again; by then the key may be here, or the database.
        Answer::KeyUnavailable | Answer::QueueFull | Answer::NotStored | Answer::TooLate => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

/// `POST /api/payment/notify/wechat`
#[utoipa::path(post, summary = "Payment callback", path = "/api/payment/notify/wechat", tag = "WeChat Pay", params(CallbackHeaders),
    request_body(content = serde_json::Value, description = "The notification, at most 64 KiB"), responses(ForWechatPay))]
pub async fn payment(State(app): State<Arc<App>>, sender: ClientAddress, request: Request) -> Answered {
    in_time(&app, NotifyType::Payment, sender, request).await
}

/// `POST /api/payment/notify/wechat/refund`
#[utoipa::path(post, summary = "Refund callback", path = "/api/payment/notify/wechat/refund", tag = "WeChat Pay", params(CallbackHeaders),
    request_body(content = serde_json::Value, description = "The notification, at most 64 KiB"), responses(ForWechatPay))]
pub async fn refund(State(app): State<Arc<App>>, sender: ClientAddress, request: Request) -> Answered {
    in_time(&app, NotifyType::Refund, sender, request).await
}

/// An answer that comes too late counts as none: it is then said in time that nothing is known.
async fn in_time(app: &App, by_route: NotifyType, sender: ClientAddress, request: Request) -> Answered {
    let begun = Instant::now();
    let received = timeout(ANSWER_DEADLINE, receive(app, by_route, sender, request)).await;
    let answer = match received {
        Ok(Ok(())) => Answer::Stored,
        Ok(Err(refusal)) => refusal,
        Err(_) => Answer::TooLate,
    };
    callback_answered(answer, begun.elapsed());
    Answered(answer)
}

/// Both routes take both families of events; `by_route` only names one whose event is unknown.
async fn receive(app: &App, by_route: NotifyType, sender: ClientAddress, request: Request) -> Result<(), Answer> {
    let (parts, body) = request.into_parts();
    let body = timeout(BODY_DEADLINE, body::read(body)).await.unwrap_or(Err(BodyError::TooSlow));
    let body = body.map_err(|error| match error {
        BodyError::TooLarge => Answer::TooLarge,
        BodyError::TooSlow => Answer::TooSlow,
        BodyError::Broken => Answer::Malformed,
    })?;
    let headers = read_headers(&parts.headers).ok_or(Answer::Malformed)?;
    let by_event = notify_type(&body).map_err(|_| Answer::Malformed)?;
    let verdict = verify(app, &headers, &body).await;
    let notify = NewNotify {
        id: NotifyId::generate(),
        notify_type: by_event.unwrap_or(by_route),
        rejected: verdict.as_ref().err().cloned(),
        client_ip: Some(sender.to_string()),
        headers,
        body,
    };
    let Err(fault) = verdict else {
        return app.intake.store(notify).await.map_err(|error| match error {
            NotStored::QueueFull => Answer::QueueFull,
            NotStored::InTime => Answer::NotStored,
        });
    };
    if app.rejected.check().is_ok() {
        tracing::warn!(notify.id = %notify.id, %sender, "callback refused: {fault}");
        app.intake.keep(notify);
    }
    Err(match fault {
        Fault::KeyUnavailable => Answer::KeyUnavailable,
        Fault::TimestampStale => Answer::Stale,
        Fault::SignatureProbe => Answer::Probe,
        _ => Answer::SignatureInvalid,
    })
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
