//! The packages, as buyers see them.

use crate::{
    app::App,
    auth::User,
    error::ApiError,
    extract::{Json, Nothing, Path, Query},
    openapi::{ForAnyone, ForFields, ForIds, PageParams},
    page::{Page, PageOf, Unfiltered},
};
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::{
    money::Fen,
    packages::{Package, PackageId, sql},
    points::Points,
};
use std::sync::Arc;
use utoipa::ToSchema;

/// A package, as the contract spells it.
#[derive(Debug, Serialize, ToSchema)]
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
#[utoipa::path(get, summary = "Packages on offer", path = "/api/payment/packages", tag = "packages", security((), ("bearer" = [])),params(PageParams),
    responses((status = 200, description = "Active packages in their display order", body = Page<PackageBody>), ForAnyone, ForFields))]
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
#[utoipa::path(get, summary = "One package on offer", path = "/api/payment/packages/{id}", tag = "packages", security((), ("bearer" = [])),params(("id" = i64, Path, description = "The package's id", minimum = 1)),
    responses((status = 200, description = "An active package", body = PackageBody), ForAnyone, ForIds, ForFields))]
pub async fn one(
    State(app): State<Arc<App>>,
    _: Option<User>,
    Path(id): Path<String>,
    Query(Nothing): Query<Nothing>,
) -> Result<Json<PackageBody>, ApiError> {
    let package = sql::find_active(&app.db, package_id(&id)?).await?.ok_or(ApiError::NotFound("package"))?;
    Ok(Json(package.into()))
}

/// The id in a path. One that nobody would write so cannot exist.
pub fn package_id(text: &str) -> Result<PackageId, ApiError> {
    let id = text.parse::<i64>().ok().filter(|id| id.to_string() == text);
    id.map(PackageId::from).ok_or(ApiError::NotFound("package"))
}
