//! Lists of orders: one's own, and an admin's search.

#![expect(
    clippy::option_option,
    reason = "the outer one says whether a filter is sound, the inner one whether there is one"
)]

use crate::{
    app::App,
    auth::{Admin, User},
    error::ApiError,
    extract::{Json, Query},
    fields::{Fields, FromFields},
    instant::{self, Range},
    openapi::{ForAdmins, ForAnyone, ForFields, PageParams},
    orders::OrderBody,
    page::{Page, PageQuery},
};
use axum::extract::State;
use serde_json::Value;
use shared::orders::{
    PaymentStatus,
    search::{self, Filter, Place},
};
use std::{str::FromStr, sync::Arc};

const STATUS: &str = "pending, paid, cancelled, expired, failed, partially_refunded or refunded";

/// A user's question.
#[derive(Debug)]
pub struct OwnQuery {
    filter: Filter,
    page: PageQuery<Place>,
}

impl FromFields for OwnQuery {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let filter = status(fields).map(|status| Filter { status, ..Filter::default() });
        let page = PageQuery::read(fields, "orders", filter.as_ref());
        Some(Self { filter: filter?, page: page? })
    }
}

/// An admin's question.
#[derive(Debug)]
pub struct SearchQuery {
    filter: Filter,
    page: PageQuery<Place>,
}

impl FromFields for SearchQuery {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let filter = filter(fields);
        let page = PageQuery::read(fields, "admin/orders", filter.as_ref());
        Some(Self { filter: filter?, page: page? })
    }
}

fn filter(fields: &mut Fields) -> Option<Filter> {
    let status = status(fields);
    let user_id = fields.or("userId", "a user id, 1 to 64 of A-Z, a-z, 0-9, _ and -", None, parsed);
    let order_no = fields.or("orderNo", "an order number, 6 to 32 of 0-9, A-Z, a-z, _, -, | and *", None, parsed);
    let transaction_id = fields.or("transactionId", "a transaction id, 1 to 32 visible ASCII characters", None, parsed);
    let Range { from, to } = instant::range(fields)?;
    Some(Filter { user_id: user_id?, status: status?, order_no: order_no?, transaction_id: transaction_id?, from, to })
}

fn status(fields: &mut Fields) -> Option<Option<PaymentStatus>> {
    fields.or("status", STATUS, None, parsed)
}

fn parsed<T: FromStr>(value: &Value) -> Option<Option<T>> {
    value.as_str()?.parse().ok().map(Some)
}

/// `GET /api/payment/orders`
#[utoipa::path(get, summary = "Orders of the caller", path = "/api/payment/orders", tag = "orders", security(("bearer" = [])),params(PageParams, ("status" = Option<PaymentStatus>, Query, description = "Only those in this state")),
    responses((status = 200, description = "The caller's orders, newest first", body = Page<OrderBody>), ForAnyone, ForFields))]
pub async fn own(
    State(app): State<Arc<App>>,
    caller: User,
    Query(OwnQuery { filter, page }): Query<OwnQuery>,
) -> Result<Json<Page<OrderBody>>, ApiError> {
    let filter = Filter { user_id: Some(caller.id().clone()), ..filter };
    answer(&app, &filter, &page).await
}

/// `GET /api/payment/admin/orders`
#[utoipa::path(get, summary = "Search all orders", path = "/api/payment/admin/orders", tag = "admin", security(("bearer" = [])),
    params(
        PageParams, ("status" = Option<PaymentStatus>, Query, description = "Only those in this state"),
        ("userId" = Option<String>, Query, description = "Only this user's", pattern = "^[A-Za-z0-9_-]{1,64}$"),
        ("orderNo" = Option<String>, Query, description = "Only this one", pattern = "^[0-9A-Za-z_|*-]{6,32}$"),
        ("transactionId" = Option<String>, Query, description = "Only the one that this payment settled", pattern = "^[!-~]{1,32}$"),
        ("from" = Option<DateTime<Utc>>, Query, description = "Made at this time or later"),
        ("to" = Option<DateTime<Utc>>, Query, description = "Made before this time"),
    ),
    responses((status = 200, description = "Orders, newest first", body = Page<OrderBody>), ForAnyone, ForAdmins, ForFields))]
pub async fn all(
    State(app): State<Arc<App>>,
    _: Admin,
    Query(SearchQuery { filter, page }): Query<SearchQuery>,
) -> Result<Json<Page<OrderBody>>, ApiError> {
    answer(&app, &filter, &page).await
}

async fn answer(app: &App, filter: &Filter, page: &PageQuery<Place>) -> Result<Json<Page<OrderBody>>, ApiError> {
    let orders = search::list(&app.db, filter, page.after.as_ref(), page.rows()).await?;
    Ok(Json(Page::of(page, orders, Place::of)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn faults<T: FromFields>(query: &Value) -> Vec<String> {
        match Fields::read::<T>(query.as_object().expect("an object").clone()) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.into_iter().map(|error| error.field).collect(),
        }
    }

    #[test]
    fn what_cannot_exist_is_named() {
        let sound = json!({"status": "paid", "userId": "alice", "orderNo": "abcdef", "transactionId": "42",
            "from": "2026-01-01T00:00:00+08:00", "to": "2026-01-01T00:00:00Z", "limit": "5"});
        assert_eq!(faults::<SearchQuery>(&sound), [""; 0]);
        let broken = json!({"status": "Paid", "userId": "a b", "orderNo": "abc", "transactionId": "", "from": "today",
            "to": "2026-01-01", "limit": "0", "x": "y"});
        let all = ["status", "userId", "orderNo", "transactionId", "from", "to", "limit", "x"];
        assert_eq!(faults::<SearchQuery>(&broken), all);
        let backwards = json!({"from": "2026-01-01T00:00:00Z", "to": "2026-01-01T08:00:00+08:00"});
        assert_eq!(faults::<SearchQuery>(&backwards), ["to"], "the same instant");
        assert_eq!(faults::<OwnQuery>(&json!({"status": "paid", "userId": "alice"})), ["userId"]);
    }
}
