//! Letting notifications be tried again: retryFailedNotify, for one and in bulk.

use crate::{
    app::App,
    auth::Admin,
    error::ApiError,
    extract::{Json, OptionalJson, Path},
    fields::{Fields, FromFields},
    instant::{self, Range},
    notify_logs::{NotifyIdParam, STATUS, TYPE, notify_id},
    openapi::{ForAdmins, ForAnyone, ForBodies, ForIds},
};
use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::notify::{
    NotifyType, ProcessStatus,
    retry::{self, By, Filter, Retried},
};
use std::sync::Arc;
use utoipa::ToSchema;

const ERROR_CODE: &str = "an error code, 1 to 64 of a-z, 0-9 and _";
const LIMIT: &str = "an integer from 1 to 100000";
const REASON: &str = "a text of 1 to 200 characters, on one line and not blank";

/// Why one is tried again.
#[derive(Debug)]
pub struct RetryOne {
    reason: Option<String>,
}

impl FromFields for RetryOne {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let reason = fields.or("reason", REASON, None, |value| text(value, is_reason).map(Some));
        Some(Self { reason: reason? })
    }
}

/// Which are tried again, and why.
#[derive(Debug)]
pub struct RetryMany {
    filter: Filter,
    reason: Option<String>,
    dry_run: bool,
}

impl FromFields for RetryMany {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let status = fields.required("status", STATUS, |value| value.as_str()?.parse().ok());
        let notify_type = fields.or("type", TYPE, None, |value| value.as_str()?.parse().ok().map(Some));
        let error_code = fields.or("errorCode", ERROR_CODE, None, |value| text(value, is_error_code).map(Some));
        let limit = fields.or("limit", LIMIT, Filter::DEFAULT_LIMIT, |value| {
            value.as_i64().filter(|limit| Filter::LIMITS.contains(limit))
        });
        let reason = fields.or("reason", REASON, None, |value| text(value, is_reason).map(Some));
        let dry_run = fields.or("dryRun", "true or false", false, Value::as_bool);
        let Range { from, to } = instant::range(fields)?;
        let filter = Filter {
            notify_type: notify_type?,
            error_code: error_code?,
            from,
            to,
            limit: limit?,
            ..Filter::of(status?)
        };
        Some(Self { filter, reason: reason?, dry_run: dry_run? })
    }
}

fn text(value: &Value, is_sound: impl FnOnce(&str) -> bool) -> Option<String> {
    value.as_str().filter(|text| is_sound(text)).map(str::to_owned)
}

fn is_error_code(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

fn is_reason(text: &str) -> bool {
    text.chars().count() <= 200 && !text.trim().is_empty() && !text.chars().any(char::is_control)
}

/// Why one is tried again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "read by the derive alone")]
pub struct RetryOneBody {
    /// For the audit log.
    #[schema(min_length = 1, max_length = 200, required = false)]
    reason: String,
}

/// Which are tried again, and why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "read by the derive alone")]
pub struct RetryManyBody {
    /// Those in this state. Only `dead`, `retrying` and `rejected` ones can be tried again.
    #[schema(inline)]
    status: ProcessStatus,
    /// Those of this family of events.
    #[schema(inline, required = false)]
    r#type: NotifyType,
    /// Those that failed for this reason.
    #[schema(pattern = "^[a-z0-9_]{1,64}$", required = false)]
    error_code: String,
    /// Arrived at this time or later.
    #[schema(required = false)]
    from: DateTime<Utc>,
    /// Arrived before this time.
    #[schema(required = false)]
    to: DateTime<Utc>,
    /// The oldest so many; 10000 unless told.
    #[schema(minimum = 1, maximum = 100_000, required = false)]
    limit: i64,
    /// Only count them.
    #[schema(required = false)]
    dry_run: bool,
    /// For the audit log.
    #[schema(min_length = 1, max_length = 200, required = false)]
    reason: String,
}

/// How many are tried again.
#[derive(Debug, Serialize, ToSchema)]
pub struct AcceptedBody {
    accepted: usize,
}

/// How many would be tried again.
#[derive(Debug, Serialize, ToSchema)]
pub struct MatchedBody {
    matched: i64,
}

/// `POST /api/payment/admin/notify-logs/{id}/retry`
#[utoipa::path(post, summary = "Try a notification again", path = "/api/payment/admin/notify-logs/{id}/retry", tag = "admin", security(("bearer" = [])), params(NotifyIdParam),
    request_body(content = Option<RetryOneBody>, description = "May be left out"),
    responses((status = 202, description = "1 when it is tried again, at once; 0 when it is in a state that leaves nothing to try, or being tried right now", body = AcceptedBody), ForAnyone, ForAdmins, ForBodies, ForIds))]
pub async fn one(
    State(app): State<Arc<App>>,
    Admin(caller): Admin,
    Path(id): Path<String>,
    OptionalJson(RetryOne { reason }): OptionalJson<RetryOne>,
) -> Result<(StatusCode, Json<AcceptedBody>), ApiError> {
    let id = notify_id(&id)?;
    let by = By { actor: caller.id(), reason: reason.as_deref() };
    let retried = retry::retry_one(&app.db, by, id).await?.ok_or(ApiError::NotFound("notify log"))?;
    let accepted = match retried {
        Retried::Accepted => {
            app.publish(id);
            tracing::info!(notify.id = %id, "notification {id} is tried again, by {}", caller.id());
            1
        }
        Retried::Unchanged => 0,
    };
    Ok((StatusCode::ACCEPTED, Json(AcceptedBody { accepted })))
}

/// `POST /api/payment/admin/notify-logs/retry`
#[utoipa::path(post, summary = "Try many notifications again", path = "/api/payment/admin/notify-logs/retry", tag = "admin", security(("bearer" = [])), request_body = RetryManyBody,
    responses(
        (status = 202, description = "How many are tried again, the oldest first, `NOTIFY_RETRY_PER_SECOND` of them in a second", body = AcceptedBody),
        (status = 200, description = "With `dryRun`: how many the same request would accept now. Nothing is changed", body = MatchedBody),
        ForAnyone, ForAdmins, ForBodies,
    ))]
pub async fn many(
    State(app): State<Arc<App>>,
    Admin(caller): Admin,
    Json(RetryMany { filter, reason, dry_run }): Json<RetryMany>,
) -> Result<Response, ApiError> {
    if dry_run {
        let matched = retry::count(&app.db, &filter).await?;
        return Ok(Json(MatchedBody { matched }).into_response());
    }
    let by = By { actor: caller.id(), reason: reason.as_deref() };
    let accepted = retry::retry_all(&app.db, by, &filter, app.retries_per_second).await?.len();
    if accepted > 0 {
        tracing::info!(accepted, "{accepted} notifications are tried again, by {}", caller.id());
    }
    Ok((StatusCode::ACCEPTED, Json(AcceptedBody { accepted })).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn faults<T: FromFields>(body: &Value) -> Vec<String> {
        match Fields::read::<T>(body.as_object().expect("an object").clone()) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.into_iter().map(|error| error.field).collect(),
        }
    }

    #[test]
    fn each_field_has_its_rule() {
        assert_eq!(faults::<RetryMany>(&json!({"status": "dead"})), [""; 0]);
        assert_eq!(faults::<RetryOne>(&json!({})), [""; 0]);
        let all = json!({"status": "processed", "type": "refund", "errorCode": "amount_mismatch", "limit": 100_000,
            "from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z", "dryRun": true, "reason": "密".repeat(200)});
        assert_eq!(faults::<RetryMany>(&all), [""; 0]);
        let wrong = json!({"status": "Dead", "type": "coupon", "errorCode": "A", "limit": 0, "reason": " ", "dryRun": 1,
            "from": 1, "to": null, "orderNo": "ORDER1"});
        let fields = ["status", "type", "errorCode", "limit", "reason", "dryRun", "from", "to", "orderNo"];
        assert_eq!(faults::<RetryMany>(&wrong), fields);
        assert_eq!(faults::<RetryMany>(&json!({"limit": 100_001})), ["status", "limit"]);
        let backwards = json!({"status": "dead", "from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"});
        assert_eq!(faults::<RetryMany>(&backwards), ["to"]);
        for reason in [json!(""), json!("a\nb"), json!("\0"), json!("x".repeat(201)), json!(null), json!(1)] {
            assert_eq!(faults::<RetryOne>(&json!({"reason": reason})), ["reason"], "{reason}");
        }
    }
}
