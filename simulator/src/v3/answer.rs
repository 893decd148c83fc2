//! Answers as WeChat Pay writes them: compact JSON with sorted keys, its headers, its signature,
//! and all the ways in which an answer can be spoilt on purpose.

use std::io;

use axum::{
    body::{Body, Bytes},
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use serde_json::{Map, Value, json};

use super::Request;
use crate::{
    app::Simulator,
    callbacks::{self, headers, message, probe},
    crypto,
    faults::{AnswerPlan, Fault, Refused},
    keys::NamedKey,
    world::Refusal,
};

/// How old a stale answer's timestamp is; the limit is 5 minutes.
const STALE_SECONDS: i64 = 600;

/// Marks a response that must never reach the client: the server closes the connection.
#[derive(Clone, Copy, Debug)]
pub struct CutOff;

/// What is answered, before it is put into bytes.
#[derive(Clone, Debug)]
pub struct Answer {
    status: u16,
    body: Option<Value>,
    internal: u32,
    signed: bool,
}

impl Answer {
    /// `200` with a body, signed.
    pub const fn ok(body: Value) -> Self {
        Self { status: 200, body: Some(body), internal: 0, signed: true }
    }

    /// `204` without a body, signed.
    pub const fn no_content() -> Self {
        Self { status: 204, body: None, internal: 0, signed: true }
    }

    /// A refusal of the gateway, unsigned.
    pub fn refused(status: u16, code: &str, message: &str, internal: u32) -> Self {
        let body = json!({"code": code, "message": message});
        Self { status, body: Some(body), internal, signed: false }
    }

    /// The same with `detail`.
    #[must_use]
    pub fn with_detail(mut self, detail: Value) -> Self {
        if let Some(body) = &mut self.body {
            body["detail"] = detail;
        }
        self
    }

    #[cfg(test)]
    pub(super) fn detail_for_test(&self) -> Option<&Value> {
        self.body.as_ref()?.get("detail")
    }

    /// HTTP status.
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// `code` of a refusal.
    pub fn code(&self) -> Option<&str> {
        self.body.as_ref()?.get("code")?.as_str()
    }
}

/// A refusal of the business is signed.
impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        let Refusal { status, code, message, internal } = refusal;
        Self { signed: true, ..Self::refused(status, code, &message, internal) }
    }
}

/// What is answered instead of executing the request, when that is the fault.
pub fn instead(plan: &AnswerPlan) -> Option<Answer> {
    if let Some(Refused { status, code, message, signed }) = &plan.refused {
        return Some(Answer { signed: *signed, ..Answer::refused(*status, code, message, 268_435_464) });
    }
    match plan.fault? {
        Fault::ApiError => Some(system_error()),
        Fault::Api429 => Some(Answer::refused(429, "FREQUENCY_LIMITED", "频率限制，请稍后重试", 268_447_840)),
        Fault::ApiNotEnough => {
            Some(Answer::from(Refusal::new(403, "NOT_ENOUGH", "基本账户余额不足，请充值后重新发起", 268_892_709)))
        }
        _ => None,
    }
}

fn system_error() -> Answer {
    Answer::refused(500, "SYSTEM_ERROR", "系统异常，请稍后重试", 268_435_464)
}

/// The answer to what is not ours: a wrong path or method, a body too large. Empty and unsigned.
pub fn plain(status: u16) -> Response {
    response(status, Bytes::new(), 268_435_461)
}

/// Puts an answer into bytes, signed with the key that the request asks for.
pub fn render(simulator: &Simulator, request: &Request, answer: Answer, fault: Option<Fault>) -> Response {
    let answer = if fault == Some(Fault::ApiErrorAfter) { system_error() } else { answer };
    let body = Bytes::from(answer.body.as_ref().map(compact).unwrap_or_default());
    let mut response = response(answer.status, body.clone(), answer.internal);
    if answer.signed && fault != Some(Fault::ApiUnsigned) {
        let keys = simulator.keys();
        let asked = request.header("wechatpay-serial");
        let key = keys.for_answer(simulator.settings().key_mode, asked).unwrap_or(&keys.public_key);
        let timestamp = simulator.now().timestamp();
        match signature(key, &keys.forger, timestamp, &body, fault) {
            Ok(signed) => set(&mut response, signed),
            Err(error) => tracing::error!("an answer is not signed: {error:#}"),
        }
    }
    match fault {
        Some(Fault::ApiReset) => {
            response.extensions_mut().insert(CutOff);
        }
        Some(Fault::ApiTruncated) => truncate(&mut response, &body),
        _ => {}
    }
    response
}

fn signature(
    key: &NamedKey,
    forger: &crypto::Signer,
    timestamp: i64,
    body: &[u8],
    fault: Option<Fault>,
) -> anyhow::Result<Vec<(&'static str, String)>> {
    let nonce = crypto::hex_bytes(16);
    let age = if fault == Some(Fault::ApiStale) { STALE_SECONDS } else { 0 };
    let timestamp = timestamp - age;
    let message = message(timestamp, &nonce, body);
    let signature = match fault {
        Some(Fault::ApiBadSignature) => forger.sign(&message)?,
        Some(Fault::ApiProbe) => probe(),
        _ => key.signer.sign(&message)?,
    };
    Ok(headers(&key.serial, signature, timestamp, nonce))
}

fn response(status: u16, body: Bytes, internal: u32) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let fixed = [
        (header::SERVER, "nginx"),
        (header::CONTENT_TYPE, "application/json; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache, must-revalidate"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_LANGUAGE, "zh-CN"),
        (HeaderName::from_static("keep-alive"), "timeout=8"),
    ];
    for (name, value) in fixed {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    set(&mut response, vec![("Request-ID", callbacks::request_id(internal))]);
    response
}

fn set(response: &mut Response, pairs: Vec<(&'static str, String)>) {
    for (name, value) in pairs {
        // The values are made of visible ASCII here, so both always parse.
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
}

/// Promises the whole body, sends half of it and lets the connection break.
fn truncate(response: &mut Response, body: &Bytes) {
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    if body.is_empty() {
        response.extensions_mut().insert(CutOff);
        return;
    }
    *response.body_mut() = crate::server::broken_off(body.slice(..body.len() / 2));
}

/// The error of a body that ends too early.
pub fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "broken off on purpose")
}

/// JSON without blanks, keys sorted.
pub fn compact(value: &Value) -> String {
    sorted(value).to_string()
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let mut members: Vec<_> = object.iter().collect();
            members.sort_by_key(|(key, _)| key.as_str());
            let members = members.into_iter().map(|(key, value)| (key.clone(), sorted(value)));
            Value::Object(members.collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_at_every_depth_and_there_are_no_blanks() {
        let value = json!({"b": [{"d": 1, "c": "x y"}], "a": {"z": null, "y": true}});
        assert_eq!(compact(&value), r#"{"a":{"y":true,"z":null},"b":[{"c":"x y","d":1}]}"#);
    }
}
