//! Revenue, orders, conversion and refunds, as admins see them.

use crate::{
    app::App,
    auth::Admin,
    error::ApiError,
    extract::{Json, Query},
    fields::{Fields, FromFields},
    instant,
    openapi::{ForAdmins, ForAnyone, ForFields},
};
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::{
    clock,
    statistics::{BadSpan, Bucket, Cell, Figures, Span, Statistics, sql},
};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// Which figures are asked for. Without `to`, those up to the end of the bucket that has begun; without `from`, those of
/// the seven days before `to`.
#[derive(Debug)]
pub struct StatisticsQuery(pub Span);

impl FromFields for StatisticsQuery {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let mut time = |name| fields.or(name, instant::EXPECTS, None, |value| instant::read(value).map(Some));
        let (from, to) = (time("from"), time("to"));
        let bucket = fields.or("bucket", "hour or day", Bucket::Day, |value| value.as_str()?.parse().ok());
        let (from, to) = (from?, to?);
        match Span::new(from, to, bucket?, clock::now()) {
            Ok(span) => Some(Self(span)),
            Err(error) => {
                let field = if to.is_some() { "to" } else { "from" };
                let message = match error {
                    BadSpan::Empty if to.is_some() => "must be later than from",
                    BadSpan::Empty => "must not be in the future",
                    BadSpan::TooLong => "must leave at most 400 buckets between from and to",
                };
                fields.fault(field.into(), message.into());
                None
            }
        }
    }
}

/// The same, as it is described.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by the derive alone")]
pub struct SpanParams {
    /// From this time on; the seven days before `to` unless told.
    from: Option<DateTime<Utc>>,
    /// Up to this time, which is not in it; the end of the running bucket unless told.
    to: Option<DateTime<Utc>>,
    /// `hour` or `day`, of Asia/Shanghai; `day` unless told. At most 400.
    #[param(pattern = "^(hour|day)$")]
    bucket: Option<String>,
}

/// The figures, as the contract spells them.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatisticsBody {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    bucket: &'static str,
    totals: TotalsBody,
    by_package: Vec<PackageFiguresBody>,
    series: Vec<BucketBody>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TotalsBody {
    orders: i64,
    paid_orders: i64,
    paid_amount: i64,
    refunded_amount: i64,
    net_amount: i64,
    points: i64,
    conversion_rate: Option<f64>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct PackageFiguresBody {
    package_id: i64,
    package_name: String,
    #[serde(flatten)]
    figures: FiguresBody,
}

#[derive(Debug, Serialize, ToSchema)]
struct BucketBody {
    start: DateTime<Utc>,
    #[serde(flatten)]
    figures: FiguresBody,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct FiguresBody {
    orders: i64,
    paid_orders: i64,
    paid_amount: i64,
    refunded_amount: i64,
}

impl From<Figures> for FiguresBody {
    fn from(figures: Figures) -> Self {
        let Figures { orders, paid_orders, paid_fen, refunded_fen, .. } = figures;
        Self { orders, paid_orders, paid_amount: paid_fen, refunded_amount: refunded_fen }
    }
}

impl From<Figures> for TotalsBody {
    fn from(figures: Figures) -> Self {
        Self {
            orders: figures.orders,
            paid_orders: figures.paid_orders,
            paid_amount: figures.paid_fen,
            refunded_amount: figures.refunded_fen,
            net_amount: figures.net_fen(),
            points: figures.points,
            conversion_rate: figures.conversion_rate(),
        }
    }
}

impl StatisticsBody {
    fn of(span: &Span, statistics: Statistics) -> Self {
        let Statistics { totals, by_package, series } = statistics;
        let package = |Cell { package_id, package_name, figures, .. }| {
            let package_id = shared::packages::PackageId::get(package_id);
            PackageFiguresBody { package_id, package_name, figures: figures.into() }
        };
        let bucket = |(start, figures): (DateTime<Utc>, Figures)| BucketBody { start, figures: figures.into() };
        Self {
            from: span.from(),
            to: span.to(),
            bucket: span.bucket().as_str(),
            totals: totals.into(),
            by_package: by_package.into_iter().map(package).collect(),
            series: series.into_iter().map(bucket).collect(),
        }
    }
}

/// `GET /api/payment/admin/statistics`
#[utoipa::path(get, summary = "Revenue and orders", path = "/api/payment/admin/statistics", tag = "admin", security(("bearer" = [])),
    params(SpanParams),
    responses((status = 200, description = "Revenue, orders, conversion and refunds", body = StatisticsBody), ForAnyone, ForAdmins, ForFields))]
pub async fn figures(
    State(app): State<Arc<App>>,
    _: Admin,
    Query(StatisticsQuery(span)): Query<StatisticsQuery>,
) -> Result<Json<StatisticsBody>, ApiError> {
    let statistics = Statistics::of(&span, sql::figures(&app.db, &span).await?);
    Ok(Json(StatisticsBody::of(&span, statistics)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn faults(query: &Value) -> Vec<String> {
        match Fields::read::<StatisticsQuery>(query.as_object().expect("an object").clone()) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.into_iter().map(|error| error.field).collect(),
        }
    }

    #[test]
    fn what_cannot_be_asked_for_is_named() {
        assert_eq!(faults(&json!({})), [""; 0]);
        assert_eq!(faults(&json!({"from": "x", "to": "y", "bucket": "week", "x": "1"})), ["from", "to", "bucket", "x"]);
        assert_eq!(faults(&json!({"from": "2026-01-01T00:00:00Z", "to": "2025-01-01T00:00:00Z"})), ["to"]);
        assert_eq!(faults(&json!({"from": "2025-01-01T00:00:00Z", "to": "2027-01-01T00:00:00Z"})), ["to"]);
        assert_eq!(faults(&json!({"from": "1999-01-01T00:00:00Z"})), ["from"]);
        assert_eq!(faults(&json!({"from": "9999-01-01T00:00:00Z"})), ["from"]);
    }
}
