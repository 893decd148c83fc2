//! The API that merchants call: `/v3/…`, in the order of the gateway's own checks.
//!
//! Route, headers, authentication, schema, then the business rules; what the gateway refuses is
//! not signed, what the business refuses is (sections 2.2 and 13 of the protocol reference).

pub mod answer;
pub mod auth;
mod certificates;
mod native;
mod orders;
mod refunds;
pub mod route;
pub mod schema;

use std::{sync::Arc, time::Duration};

use axum::{
    body::Bytes,
    extract::{Request as HttpRequest, State},
    http::{HeaderMap, Method, header},
    response::Response,
};

use crate::{
    app::Simulator,
    faults::{AnswerPlan, Fault},
};
use answer::Answer;
use route::Route;

/// The largest body that is read, bytes.
const LARGEST_BODY: usize = 256 * 1024;

/// A request as it came over the wire.
#[derive(Clone, Debug)]
pub struct Request {
    /// HTTP method.
    pub method: Method,
    /// Path and query exactly as sent: that is what is signed.
    pub target: String,
    /// All headers.
    pub headers: HeaderMap,
    /// The bytes of the body.
    pub body: Bytes,
}

impl Request {
    /// The path, still percent-encoded.
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(self.target.as_str(), |(path, _)| path)
    }

    /// The query's value of `name`, decoded.
    pub fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(key, _)| *key == name).map(|(_, value)| route::decode(value)).next_back()?
    }

    /// A header's value, when it is text.
    pub fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Answers any request below `/v3`.
pub async fn handle(State(simulator): State<Arc<Simulator>>, request: HttpRequest) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, LARGEST_BODY).await else {
        return answer::plain(413);
    };
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let request = Request { method: parts.method, target, headers: parts.headers, body };
    let route = match route::find(&request.method, request.path()) {
        Ok(route) => route,
        Err(status) => return answer::plain(status),
    };
    if let Err(refused) = gateway(&simulator, &request, &route) {
        log(&request, &refused, &AnswerPlan::default());
        return answer::render(&simulator, &request, refused, None);
    }
    let plan = simulator.faults().for_answer(route.endpoint());
    let answer = match answer::instead(&plan) {
        Some(answer) => answer,
        None => execute(&simulator, &request, &route).unwrap_or_else(|refused| refused),
    };
    log(&request, &answer, &plan);
    tokio::time::sleep(Duration::from_millis(plan.slow_ms)).await;
    answer::render(&simulator, &request, answer, plan.fault)
}

/// What is checked before the request is looked at in earnest.
fn gateway(simulator: &Simulator, request: &Request, route: &Route) -> Result<(), Answer> {
    let keys = simulator.keys();
    if route.wants_accept() {
        let filled = |name| request.header(name).is_some_and(|value| !value.trim().is_empty());
        if !filled(header::ACCEPT) || !filled(header::USER_AGENT) {
            let message = "Http头缺少Accept或User-Agent";
            return Err(Answer::refused(400, "INVALID_REQUEST", message, 268_435_461));
        }
    }
    auth::check(&keys.merchant, simulator.now().timestamp(), request, route)?;
    let asked = request.header("wechatpay-serial");
    if keys.for_answer(simulator.settings().key_mode, asked).is_none() {
        return Err(Answer::refused(500, "SYSTEM_ERROR", "未知错误", 268_435_461));
    }
    let json = |value: &str| value.split(';').next().map(str::trim) == Some("application/json");
    if request.method == Method::POST && !request.header(header::CONTENT_TYPE).is_some_and(json) {
        let message = "Http头Content-Type值必须为application/json";
        return Err(Answer::refused(400, "INVALID_REQUEST", message, 268_435_461));
    }
    Ok(())
}

fn execute(simulator: &Simulator, request: &Request, route: &Route) -> Result<Answer, Answer> {
    match route {
        Route::Native => native::create(simulator, request),
        Route::ByOutTradeNo(no) => orders::by_out_trade_no(simulator, request, no),
        Route::ByTransactionId(id) => orders::by_transaction_id(simulator, request, id),
        Route::Close(no) => orders::close(simulator, request, no),
        Route::Refund => refunds::create(simulator, request),
        Route::RefundQuery(no) => refunds::query(simulator, no),
        Route::AbnormalRefund(id) => refunds::abnormal(simulator, request, id),
        Route::Certificates => certificates::list(simulator, request),
    }
}

/// The `mchid` of body or query must be that of `Authorization`.
fn same_mch_id(simulator: &Simulator, mch_id: Option<&str>) -> Result<(), Answer> {
    if mch_id == Some(simulator.keys().merchant.mch_id.as_str()) {
        return Ok(());
    }
    let message = "http header中的mchid与post payload中的mchid不匹配";
    Err(Answer::refused(400, "PARAM_ERROR", message, 268_435_461))
}

fn log(request: &Request, answer: &Answer, plan: &AnswerPlan) {
    let (method, path, status) = (&request.method, request.path(), answer.status());
    let code = answer.code().map(|code| format!(" {code}")).unwrap_or_default();
    let fault = plan.fault.map(|fault: Fault| format!(" ({fault:?})")).unwrap_or_default();
    if answer.status() < 400 && plan.fault.is_none() {
        tracing::debug!("{method} {path}: {status}");
    } else {
        tracing::info!("{method} {path}: {status}{code}{fault}");
    }
}
