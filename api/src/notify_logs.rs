//! The notify log, as operators read it: getNotifyLogs.

use crate::{
    app::App,
    auth::Admin,
    error::ApiError,
    extract::{Json, Nothing, Path, Query},
    fields::{Fields, FromFields},
    instant::{self, Range},
    openapi::{ForAdmins, ForAnyone, ForFields, ForIds, PageParams},
    page::{Page, PageQuery},
};
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::notify::{
    NotifyHeaders, NotifyId, NotifyType, ProcessStatus,
    search::{self, Attempt, DeadLetter, Detail, Entry, Filter},
};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// What a parameter that takes a status expects.
pub const STATUS: &str = "received, processed, duplicate, retrying, dead or rejected";
/// What a parameter that takes a family of events expects.
pub const TYPE: &str = "payment or refund";

/// An operator's question.
#[derive(Debug)]
pub struct LogQuery {
    filter: Filter,
    page: PageQuery<NotifyId>,
}

impl FromFields for LogQuery {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let filter = filter(fields);
        let page = PageQuery::read(fields, "admin/notify-logs", filter.as_ref());
        Some(Self { filter: filter?, page: page? })
    }
}

fn filter(fields: &mut Fields) -> Option<Filter> {
    let status = fields.or("status", STATUS, None, |value| value.as_str()?.parse().ok().map(Some));
    let notify_type = fields.or("type", TYPE, None, |value| value.as_str()?.parse().ok().map(Some));
    let expects = "an order number, 6 to 32 of 0-9, A-Z, a-z, _, -, | and *";
    let order_no = fields.or("orderNo", expects, None, |value| value.as_str()?.parse().ok().map(Some));
    let Range { from, to } = instant::range(fields)?;
    Some(Filter { status: status?, notify_type: notify_type?, order_no: order_no?, from, to })
}

/// The same, as it is described.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by the derive alone")]
pub struct LogParams {
    /// Only those in this state.
    status: Option<ProcessStatus>,
    /// Only those of this family of events.
    r#type: Option<NotifyType>,
    /// Only those that name this order.
    #[param(rename = "orderNo", pattern = r"^[0-9A-Za-z_|*-]{6,32}$")]
    order_no: Option<String>,
    /// Arrived at this time or later.
    from: Option<DateTime<Utc>>,
    /// Arrived before this time.
    to: Option<DateTime<Utc>>,
}

/// A notification, by its id.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read by the derive alone")]
pub struct NotifyIdParam {
    /// The notification's id.
    #[param(format = "uuid", example = "019aab38-f6f0-7b1c-9d1d-2f3a4b5c6d7e")]
    id: String,
}

/// The id in a path. What is no id cannot exist.
pub fn notify_id(text: &str) -> Result<NotifyId, ApiError> {
    text.parse().map_err(|_| ApiError::NotFound("notify log"))
}

/// A notification, as the contract spells it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NotifyLogBody {
    #[schema(value_type = String, format = "uuid")]
    id: NotifyId,
    payment_method: String,
    notify_type: NotifyType,
    /// Once it could be read.
    order_no: Option<String>,
    process_status: ProcessStatus,
    /// Why the last attempt failed; stable.
    error_code: Option<String>,
    /// The same in words.
    error_message: Option<String>,
    /// How often it was tried again, by itself and by hand.
    retry_count: i32,
    next_attempt_at: Option<DateTime<Utc>>,
    /// From arrival to end; null until then.
    process_time_ms: Option<i64>,
    client_ip: Option<String>,
    created_at: DateTime<Utc>,
    processed_at: Option<DateTime<Utc>>,
}

impl From<Entry> for NotifyLogBody {
    fn from(entry: Entry) -> Self {
        Self {
            id: entry.id,
            process_time_ms: entry.process_time_ms(),
            payment_method: entry.payment_method,
            notify_type: entry.notify_type,
            order_no: entry.order_no,
            process_status: entry.status,
            error_code: entry.error_code,
            error_message: entry.error_message,
            retry_count: entry.retry_count,
            next_attempt_at: entry.next_attempt_at,
            client_ip: entry.client_ip,
            created_at: entry.created_at,
            processed_at: entry.processed_at,
        }
    }
}

/// A notification with all that is known of it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NotifyDetailBody {
    #[serde(flatten)]
    log: NotifyLogBody,
    /// Those that were signed, and those that help support; as received.
    #[schema(value_type = BTreeMap<String, String>)]
    headers: NotifyHeaders,
    /// The bytes that were signed, as text.
    body: String,
    /// What failed, and what was done by hand; oldest first.
    attempts: Vec<AttemptBody>,
    /// For a dead one.
    dead_letter: Option<DeadLetterBody>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct AttemptBody {
    at: DateTime<Utc>,
    /// The process that tried, or who let it be tried again.
    worker: String,
    /// What the notification became.
    outcome: ProcessStatus,
    error_code: Option<String>,
    error_message: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct DeadLetterBody {
    /// When it was given up.
    since: DateTime<Utc>,
    /// How many are dead for the same reason, this one included; counted up to 100,000.
    alike: i64,
    /// What the reason means, and what to do.
    remedy: &'static str,
}

impl From<Detail> for NotifyDetailBody {
    fn from(Detail { entry, headers, body, attempts, dead_letter }: Detail) -> Self {
        let attempt = |Attempt { at, worker, outcome, error_code, error_message }| AttemptBody {
            at,
            worker,
            outcome,
            error_code,
            error_message,
        };
        let dead_letter =
            dead_letter.map(|DeadLetter { since, alike, remedy }| DeadLetterBody { since, alike, remedy });
        Self { log: entry.into(), headers, body, attempts: attempts.into_iter().map(attempt).collect(), dead_letter }
    }
}

/// `GET /api/payment/admin/notify-logs`
#[utoipa::path(get, summary = "Search the notify log", path = "/api/payment/admin/notify-logs", tag = "admin", security(("bearer" = [])), params(PageParams, LogParams),
    responses((status = 200, description = "Notifications, newest first", body = Page<NotifyLogBody>), ForAnyone, ForAdmins, ForFields))]
pub async fn list(
    State(app): State<Arc<App>>,
    _: Admin,
    Query(LogQuery { filter, page }): Query<LogQuery>,
) -> Result<Json<Page<NotifyLogBody>>, ApiError> {
    let entries = search::list(&app.db, &filter, page.after, page.rows()).await?;
    Ok(Json(Page::of(&page, entries, |entry| entry.id)))
}

/// `GET /api/payment/admin/notify-logs/{id}`
#[utoipa::path(get, summary = "One notification", path = "/api/payment/admin/notify-logs/{id}", tag = "admin", security(("bearer" = [])), params(NotifyIdParam),
    responses((status = 200, description = "The notification with its headers, body and attempts; and, when it is dead, what to do", body = NotifyDetailBody), ForAnyone, ForAdmins, ForFields, ForIds))]
pub async fn one(
    State(app): State<Arc<App>>,
    _: Admin,
    Path(id): Path<String>,
    Query(Nothing): Query<Nothing>,
) -> Result<Json<NotifyDetailBody>, ApiError> {
    let detail = search::find(&app.db, notify_id(&id)?).await?.ok_or(ApiError::NotFound("notify log"))?;
    Ok(Json(detail.into()))
}
