//! Figures of the notify log, as operators see them: getNotifyStatistics.

use crate::{
    app::App,
    auth::Admin,
    error::ApiError,
    extract::{Json, Query},
    openapi::{ForAdmins, ForAnyone, ForFields},
    statistics::{SpanParams, StatisticsQuery},
};
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::{
    notify::statistics::{Counts, ProcessTimes, Statistics, sql, sum},
    statistics::Span,
};
use std::sync::Arc;
use utoipa::ToSchema;

/// The figures, as the contract spells them.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NotifyStatisticsBody {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    bucket: &'static str,
    totals: CountsBody,
    by_type: ByTypeBody,
    /// The share of processed and duplicate ones, of all but the rejected; null when there are none.
    success_rate: Option<f64>,
    /// How often those of the span were tried again, by themselves and by hand.
    retries: i64,
    process_time_ms: ProcessTimesBody,
    /// When the first of those arrived that are received or retrying.
    oldest_unfinished_at: Option<DateTime<Utc>>,
    series: Vec<NotifyBucketBody>,
}

#[derive(Debug, Serialize, ToSchema)]
struct CountsBody {
    received: i64,
    processed: i64,
    duplicate: i64,
    retrying: i64,
    dead: i64,
    rejected: i64,
}

#[derive(Debug, Serialize, ToSchema)]
struct ByTypeBody {
    payment: CountsBody,
    refund: CountsBody,
}

/// From arrival to end, of processed and duplicate ones; to some 2 %. Null when there are none.
#[derive(Debug, Serialize, ToSchema)]
struct ProcessTimesBody {
    p50: Option<i64>,
    p95: Option<i64>,
    p99: Option<i64>,
}

#[derive(Debug, Serialize, ToSchema)]
struct NotifyBucketBody {
    start: DateTime<Utc>,
    /// All of that family.
    payment: i64,
    /// All of that family.
    refund: i64,
    processed: i64,
    duplicate: i64,
    retrying: i64,
    dead: i64,
    rejected: i64,
}

impl From<Counts> for CountsBody {
    fn from(Counts { received, processed, duplicate, retrying, dead, rejected }: Counts) -> Self {
        Self { received, processed, duplicate, retrying, dead, rejected }
    }
}

impl From<Option<ProcessTimes>> for ProcessTimesBody {
    fn from(times: Option<ProcessTimes>) -> Self {
        Self {
            p50: times.map(|times| times.p50_ms),
            p95: times.map(|times| times.p95_ms),
            p99: times.map(|times| times.p99_ms),
        }
    }
}

impl From<(DateTime<Utc>, [Counts; 2])> for NotifyBucketBody {
    fn from((start, by_type): (DateTime<Utc>, [Counts; 2])) -> Self {
        let Counts { processed, duplicate, retrying, dead, rejected, .. } = sum(&by_type);
        let [payment, refund] = by_type.map(|counts| counts.all());
        Self { start, payment, refund, processed, duplicate, retrying, dead, rejected }
    }
}

impl NotifyStatisticsBody {
    fn of(span: &Span, statistics: Statistics) -> Self {
        let Statistics { totals, by_type, retries, process_times, oldest_unfinished_at, series } = statistics;
        let [payment, refund] = by_type.map(|(_, counts)| counts.into());
        Self {
            from: span.from(),
            to: span.to(),
            bucket: span.bucket().as_str(),
            totals: totals.into(),
            by_type: ByTypeBody { payment, refund },
            success_rate: totals.success_rate(),
            retries,
            process_time_ms: process_times.into(),
            oldest_unfinished_at,
            series: series.into_iter().map(Into::into).collect(),
        }
    }
}

/// `GET /api/payment/admin/notify-logs/statistics`
#[utoipa::path(get, summary = "Figures of the notify log", path = "/api/payment/admin/notify-logs/statistics", tag = "admin", security(("bearer" = [])), params(SpanParams),
    responses((status = 200, description = "How many notifications arrived, what became of them, and how long it took; each counts once, under its status now", body = NotifyStatisticsBody), ForAnyone, ForAdmins, ForFields))]
pub async fn figures(
    State(app): State<Arc<App>>,
    _: Admin,
    Query(StatisticsQuery(span)): Query<StatisticsQuery>,
) -> Result<Json<NotifyStatisticsBody>, ApiError> {
    let (cells, classes) = sql::figures(&app.db, &span).await?;
    Ok(Json(NotifyStatisticsBody::of(&span, Statistics::of(&span, &cells, classes))))
}
