//! The packages, as buyers see them.

use crate::{
    app::App,
    auth::User,
    error::ApiError,
    extract::{Json, Path, Query},
    page::{Page, PageOf, Unfiltered},
};
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::{
    money::Fen,
    packages::{Package, sql},
    points::Points,
};
use std::sync::Arc;

/// A package, as the contract spells it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PackageBody {
    id: i64,
    name: String,
    description: String,
    amount: Fen,
    currency: String,
    points: Points,
    bonus_points: Points,
    is_active: bool,
    sort_order: i32,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<Package> for PackageBody {
    fn from(package: Package) -> Self {
        let Package { id, name, description, amount, currency, points, bonus_points, .. } = package;
        let Package { is_active, sort_order, created_at, updated_at, .. } = package;
        let id = id.get();
        Self {
            id,
            name,
            description,
            amount,
            currency,
            points,
            bonus_points,
            is_active,
            sort_order,
            created_at,
            updated_at,
        }
    }
}

/// The packages that can be bought.
#[derive(Debug)]
pub struct ActivePackages;

impl Unfiltered for ActivePackages {
    const LIST: &'static str = "packages";
    type Key = (i32, i64);
}

/// `GET /api/payment/packages`
pub async fn list(
    State(app): State<Arc<App>>,
    _: Option<User>,
    Query(PageOf(query)): Query<PageOf<ActivePackages>>,
) -> Result<Json<Page<PackageBody>>, ApiError> {
    let after = query.after.map(|(sort_order, id)| (sort_order, id.into()));
    let packages = sql::list_active(&app.db, after, query.rows()).await?;
    Ok(Json(Page::of(&query, packages, |package| (package.sort_order, package.id.get()))))
}

/// `GET /api/payment/packages/{id}`
pub async fn one(
    State(app): State<Arc<App>>,
    _: Option<User>,
    Path(id): Path<i64>,
) -> Result<Json<PackageBody>, ApiError> {
    let package = sql::find_active(&app.db, id.into()).await?.ok_or(ApiError::NotFound("package"))?;
    Ok(Json(package.into()))
}
