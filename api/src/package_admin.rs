//! The packages, as admins see and change them.

use crate::{
    app::App,
    auth::Admin,
    error::ApiError,
    extract::{Json, Path, Query},
    fields::{Fields, FromFields},
    openapi::{ForAdmins, ForAnyone, ForBodies, ForFields, ForIds, NewPackageBody, PackageChangeBody, PageParams},
    packages::{PackageBody, package_id},
    page::{Page, PageOf, Unfiltered},
};
use axum::{extract::State, http::StatusCode};
use serde_json::Value;
use shared::packages::{
    AMOUNTS, BONUS_POINTS, Description, POINTS,
    change::{self, Change, Terms},
    sql,
};
use std::{ops::RangeInclusive, str::FromStr, sync::Arc};

const NAME: &str = "a name of 1 to 64 characters, on one line and not blank";
const DESCRIPTION: &str = "a text of at most 500 characters";
const AMOUNT: &str = "an integer of fen from 1 to 100000000";
const SOME_POINTS: &str = "an integer from 1 to 1000000000";
const SOME_BONUS: &str = "an integer from 0 to 1000000000";
const BOOLEAN: &str = "true or false";
const SORT_ORDER: &str = "an integer from -2147483648 to 2147483647";

fn text<T: FromStr>(value: &Value) -> Option<T> {
    value.as_str()?.parse().ok()
}

/// An integer out of `range`, as what it stands for.
fn number<T: TryFrom<i64>>(value: &Value, range: &RangeInclusive<i64>) -> Option<T> {
    value.as_i64().filter(|number| range.contains(number))?.try_into().ok()
}

fn sort_order(value: &Value) -> Option<i32> {
    value.as_i64()?.try_into().ok()
}

/// A package to be made.
#[derive(Debug)]
pub struct NewPackage(Terms);

impl FromFields for NewPackage {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let name = fields.required("name", NAME, text);
        let description = fields.or("description", DESCRIPTION, Description::default(), text);
        let amount = fields.required("amount", AMOUNT, |value| number(value, &AMOUNTS));
        let points = fields.required("points", SOME_POINTS, |value| number(value, &POINTS));
        let none = 0.try_into().ok()?;
        let bonus_points = fields.or("bonusPoints", SOME_BONUS, none, |value| number(value, &BONUS_POINTS));
        let is_active = fields.or("isActive", BOOLEAN, true, Value::as_bool);
        let sort_order = fields.or("sortOrder", SORT_ORDER, 0, sort_order);
        Some(Self(Terms {
            name: name?,
            description: description?,
            amount: amount?,
            points: points?,
            bonus_points: bonus_points?,
            is_active: is_active?,
            sort_order: sort_order?,
        }))
    }
}

/// What is to become another.
#[derive(Debug)]
pub struct PackagePatch(Change);

impl FromFields for PackagePatch {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let name = fields.or("name", NAME, None, |value| text(value).map(Some));
        let description = fields.or("description", DESCRIPTION, None, |value| text(value).map(Some));
        let amount = fields.or("amount", AMOUNT, None, |value| number(value, &AMOUNTS).map(Some));
        let points = fields.or("points", SOME_POINTS, None, |value| number(value, &POINTS).map(Some));
        let bonus_points = fields.or("bonusPoints", SOME_BONUS, None, |value| number(value, &BONUS_POINTS).map(Some));
        let is_active = fields.or("isActive", BOOLEAN, None, |value| value.as_bool().map(Some));
        let sort_order = fields.or("sortOrder", SORT_ORDER, None, |value| sort_order(value).map(Some));
        Some(Self(Change {
            name: name?,
            description: description?,
            amount: amount?,
            points: points?,
            bonus_points: bonus_points?,
            is_active: is_active?,
            sort_order: sort_order?,
        }))
    }
}

/// All packages, active or not.
#[derive(Debug)]
pub struct AllPackages;

impl Unfiltered for AllPackages {
    const LIST: &'static str = "admin/packages";
    type Key = (i32, i64);
}

/// `GET /api/payment/admin/packages`
#[utoipa::path(get, summary = "All packages", path = "/api/payment/admin/packages", tag = "admin", security(("bearer" = [])),params(PageParams),
    responses((status = 200, description = "All packages, inactive ones too, in their display order", body = Page<PackageBody>), ForAnyone, ForAdmins, ForFields))]
pub async fn list(
    State(app): State<Arc<App>>,
    _: Admin,
    Query(PageOf(query)): Query<PageOf<AllPackages>>,
) -> Result<Json<Page<PackageBody>>, ApiError> {
    let after = query.after.map(|(sort_order, id)| (sort_order, id.into()));
    let packages = sql::list_all(&app.db, after, query.rows()).await?;
    Ok(Json(Page::of(&query, packages, |package| (package.sort_order, package.id.get()))))
}

/// `POST /api/payment/admin/packages`
#[utoipa::path(post, summary = "Make a package", path = "/api/payment/admin/packages", tag = "admin", security(("bearer" = [])),request_body = NewPackageBody,
    responses((status = 201, description = "The new package", body = PackageBody), ForAnyone, ForAdmins, ForBodies))]
pub async fn create(
    State(app): State<Arc<App>>,
    Admin(caller): Admin,
    Json(NewPackage(terms)): Json<NewPackage>,
) -> Result<(StatusCode, Json<PackageBody>), ApiError> {
    let package = change::create(&app.db, caller.id(), &terms).await?;
    Ok((StatusCode::CREATED, Json(package.into())))
}

/// `PATCH /api/payment/admin/packages/{id}`
#[utoipa::path(patch, summary = "Change a package", path = "/api/payment/admin/packages/{id}", tag = "admin", security(("bearer" = [])),
    params(("id" = i64, Path, description = "The package's id", minimum = 1)), request_body = PackageChangeBody,
    responses((status = 200, description = "The package as it is now; orders keep what they were made with", body = PackageBody), ForAnyone, ForAdmins, ForBodies, ForIds))]
pub async fn patch(
    State(app): State<Arc<App>>,
    Admin(caller): Admin,
    Path(id): Path<String>,
    Json(PackagePatch(change)): Json<PackagePatch>,
) -> Result<Json<PackageBody>, ApiError> {
    let package = change::change(&app.db, caller.id(), package_id(&id)?, change).await?;
    Ok(Json(package.ok_or(ApiError::NotFound("package"))?.into()))
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
    fn each_field_has_its_type_and_range() {
        let least = json!({"name": "p", "amount": 1, "points": 1});
        assert_eq!(faults::<NewPackage>(&least), [""; 0]);
        assert_eq!(faults::<PackagePatch>(&json!({})), [""; 0]);
        let most = json!({"name": "包".repeat(64), "description": "述".repeat(500), "amount": 100_000_000,
            "points": 1_000_000_000, "bonusPoints": 1_000_000_000, "isActive": false, "sortOrder": i32::MIN});
        assert_eq!((faults::<NewPackage>(&most), faults::<PackagePatch>(&most)), (vec![], vec![]));
        assert_eq!(faults::<NewPackage>(&json!({})), ["name", "amount", "points"]);

        let too_little = json!({"name": "", "amount": 0, "points": 0, "bonusPoints": -1});
        let too_much = json!({"name": "包".repeat(65), "description": "述".repeat(501), "amount": 100_000_001,
            "points": 1_000_000_001, "bonusPoints": 1_000_000_001, "sortOrder": 2_147_483_648_i64});
        let nulls = json!({"name": null, "description": null, "amount": null, "points": null, "bonusPoints": null,
            "isActive": null, "sortOrder": null});
        let wrong = json!({"name": 1, "description": 1, "amount": "1", "points": 1.0, "bonusPoints": true, "isActive": 1,
            "sortOrder": "0"});
        let all = ["name", "description", "amount", "points", "bonusPoints", "isActive", "sortOrder"];
        for (body, fields) in [
            (too_little, vec!["name", "amount", "points", "bonusPoints"]),
            (too_much, vec!["name", "description", "amount", "points", "bonusPoints", "sortOrder"]),
            (nulls, all.into()),
            (wrong, all.into()),
        ] {
            assert_eq!(faults::<NewPackage>(&body), fields, "{body}");
            assert_eq!(faults::<PackagePatch>(&body), fields, "{body}");
        }
        assert_eq!(faults::<PackagePatch>(&json!({"id": 1, "currency": "CNY"})), ["currency", "id"]);
    }
}
