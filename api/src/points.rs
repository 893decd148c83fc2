//! The caller's points: balance and ledger.

use crate::{
    app::App,
    auth::User,
    error::ApiError,
    extract::{Json, Nothing, Query},
    openapi::{ForAnyone, ForFields, PageParams},
    page::{Page, PageOf, Unfiltered},
};
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::{
    orders::OrderNo,
    points::{Entry, EntryKind, sql},
    users::UserId,
};
use std::sync::Arc;
use utoipa::ToSchema;

/// The caller's balance.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BalanceBody {
    user_id: UserId,
    balance: i64,
}

/// One line of the ledger, as the contract spells it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EntryBody {
    id: i64,
    kind: EntryKind,
    delta: i64,
    balance_after: i64,
    order_no: OrderNo,
    refund_no: Option<String>,
    created_at: DateTime<Utc>,
}

impl From<Entry> for EntryBody {
    fn from(entry: Entry) -> Self {
        let Entry { id, kind, delta, balance_after, order_no, refund_no, created_at } = entry;
        Self { id, kind, delta, balance_after, order_no, refund_no, created_at }
    }
}

/// `GET /api/points/balance`
#[utoipa::path(get, summary = "Points of the caller", path = "/api/points/balance", tag = "points", security(("bearer" = [])),
    responses((status = 200, description = "The caller's balance", body = BalanceBody), ForAnyone, ForFields))]
pub async fn balance(
    State(app): State<Arc<App>>,
    caller: User,
    Query(Nothing): Query<Nothing>,
) -> Result<Json<BalanceBody>, ApiError> {
    let balance = sql::balance(&app.db, caller.id()).await?;
    Ok(Json(BalanceBody { user_id: caller.id().clone(), balance }))
}

/// The caller's ledger.
#[derive(Debug)]
pub struct Entries;

impl Unfiltered for Entries {
    const LIST: &'static str = "points/entries";
    type Key = i64;
}

/// `GET /api/points/entries`
#[utoipa::path(get, summary = "Ledger of the caller", path = "/api/points/entries", tag = "points", security(("bearer" = [])),params(PageParams),
    responses((status = 200, description = "The caller's ledger, newest first", body = Page<EntryBody>), ForAnyone, ForFields))]
pub async fn entries(
    State(app): State<Arc<App>>,
    caller: User,
    Query(PageOf(query)): Query<PageOf<Entries>>,
) -> Result<Json<Page<EntryBody>>, ApiError> {
    let entries = sql::entries(&app.db, caller.id(), query.after, query.rows()).await?;
    Ok(Json(Page::of(&query, entries, |entry| entry.id)))
}
