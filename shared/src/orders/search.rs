//! Lists of orders, newest first, a page at a time.
//!
//! A page begins right behind the last order of the page before, at a place in an index; so the last page costs what the
//! first one costs. The place is made of what never changes in an order, so a walk meets every order that was there when
//! it began once, whatever is made or paid meanwhile.

use super::{Order, OrderNo, PaymentStatus, TransactionId};
use crate::{money::Fen, packages::PackageId, points::Points, users::UserId};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{PgExecutor, PgPool};

/// What a list is narrowed to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Filter {
    /// This user's.
    pub user_id: Option<UserId>,
    /// Those in this state.
    pub status: Option<PaymentStatus>,
    /// The one with this number.
    pub order_no: Option<OrderNo>,
    /// The one paid by this payment.
    pub transaction_id: Option<TransactionId>,
    /// Made at this instant or later.
    pub from: Option<DateTime<Utc>>,
    /// Made before this instant.
    pub to: Option<DateTime<Utc>>,
}

/// An order's place in the lists. The time comes first: numbers sort by the clock of the process that made them, and need
/// not be of our making.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Its number.
    pub order_no: String,
}

impl Place {
    /// The order's.
    pub fn of(order: &Order) -> Self {
        Self { created_at: order.created_at, order_no: order.order_no.to_string() }
    }
}

/// The newest orders that pass `filter` and come after `after`.
pub async fn list(db: &PgPool, filter: &Filter, after: Option<&Place>, limit: i64) -> sqlx::Result<Vec<Order>> {
    let window = Window::of(filter, after, limit);
    if filter.order_no.is_some() || filter.transaction_id.is_some() {
        return exactly(db, filter, &window).await;
    }
    match &filter.user_id {
        Some(user_id) => of_user(db, user_id, &window).await,
        None => of_everybody(db, &window).await,
    }
}

/// The part of an index that a page is read from.
struct Window<'a> {
    /// One stretch of the index each: a list of all states merges seven.
    statuses: Vec<&'static str>,
    from: Option<DateTime<Utc>>,
    /// Where it ends, exclusive: at the page before, or else at the filter's `to`. One bound and not two, because
    /// PostgreSQL would begin to read at one of them, whichever it likes, and filter by the other.
    before: Option<DateTime<Utc>>,
    /// No number is smaller than none: `(to, '')` excludes all that was made at `to`.
    before_no: &'a str,
    limit: i64,
}

impl<'a> Window<'a> {
    fn of(filter: &Filter, after: Option<&'a Place>, limit: i64) -> Self {
        let statuses = match filter.status {
            Some(status) => vec![status.as_str()],
            None => PaymentStatus::ALL.map(PaymentStatus::as_str).into(),
        };
        let (before, before_no) = match after {
            Some(place) => (Some(place.created_at), place.order_no.as_str()),
            None => (filter.to, ""),
        };
        Self { statuses, from: filter.from, before, before_no, limit }
    }
}

async fn of_user(db: impl PgExecutor<'_>, user_id: &UserId, window: &Window<'_>) -> sqlx::Result<Vec<Order>> {
    sqlx::query_as!(
        Order,
        r#"
        select o.order_no as "order_no: OrderNo", o.user_id as "user_id: UserId", o.package_id as "package_id: PackageId",
               o.package_name, o.amount as "amount: Fen", o.currency, o.points as "points: Points",
               o.bonus_points as "bonus_points: Points", o.payment_method, o.payment_status as "status: PaymentStatus",
               o.code_url, o.transaction_id as "transaction_id: TransactionId",
               o.refunded_amount as "refunded_amount: Fen", o.paid_at, o.expired_at, o.created_at, o.updated_at
        from unnest($1::text[]) as wanted (status)
        cross join lateral (
            select * from payment_orders
            where user_id = $2 and payment_status = wanted.status and created_at >= coalesce($3, '-infinity'::timestamptz)
              and (created_at, order_no) < (coalesce($4, 'infinity'::timestamptz), $5)
            order by created_at desc, order_no desc
            limit $6
        ) as o
        order by o.created_at desc, o.order_no desc
        limit $6
        "#,
        &window.statuses as &[&str],
        user_id as _,
        window.from,
        window.before,
        window.before_no,
        window.limit,
    )
    .fetch_all(db)
    .await
}

async fn of_everybody(db: impl PgExecutor<'_>, window: &Window<'_>) -> sqlx::Result<Vec<Order>> {
    sqlx::query_as!(
        Order,
        r#"
        select o.order_no as "order_no: OrderNo", o.user_id as "user_id: UserId", o.package_id as "package_id: PackageId",
               o.package_name, o.amount as "amount: Fen", o.currency, o.points as "points: Points",
               o.bonus_points as "bonus_points: Points", o.payment_method, o.payment_status as "status: PaymentStatus",
               o.code_url, o.transaction_id as "transaction_id: TransactionId",
               o.refunded_amount as "refunded_amount: Fen", o.paid_at, o.expired_at, o.created_at, o.updated_at
        from unnest($1::text[]) as wanted (status)
        cross join lateral (
            select * from payment_orders
            where payment_status = wanted.status and created_at >= coalesce($2, '-infinity'::timestamptz)
              and (created_at, order_no) < (coalesce($3, 'infinity'::timestamptz), $4)
            order by created_at desc, order_no desc
            limit $5
        ) as o
        order by o.created_at desc, o.order_no desc
        limit $5
        "#,
        &window.statuses as &[&str],
        window.from,
        window.before,
        window.before_no,
        window.limit,
    )
    .fetch_all(db)
    .await
}

/// At most one: both numbers are unique. It must pass the rest of the filter too.
async fn exactly(db: impl PgExecutor<'_>, filter: &Filter, window: &Window<'_>) -> sqlx::Result<Vec<Order>> {
    sqlx::query_as!(
        Order,
        r#"
        select order_no as "order_no: OrderNo", user_id as "user_id: UserId", package_id as "package_id: PackageId",
               package_name, amount as "amount: Fen", currency, points as "points: Points",
               bonus_points as "bonus_points: Points", payment_method, payment_status as "status: PaymentStatus",
               code_url, transaction_id as "transaction_id: TransactionId", refunded_amount as "refunded_amount: Fen",
               paid_at, expired_at, created_at, updated_at
        from payment_orders
        where order_no = coalesce($1, (select order_no from payment_orders where transaction_id = $2))
          and ($2::text is null or transaction_id = $2)
          and ($3::text is null or user_id = $3)
          and payment_status = any($4)
          and created_at >= coalesce($5, '-infinity'::timestamptz)
          and (created_at, order_no) < (coalesce($6, 'infinity'::timestamptz), $7)
        "#,
        &filter.order_no as &Option<OrderNo>,
        &filter.transaction_id as &Option<TransactionId>,
        &filter.user_id as &Option<UserId>,
        &window.statuses as &[&str],
        window.from,
        window.before,
        window.before_no,
    )
    .fetch_all(db)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_before_is_a_nearer_end_than_the_filters() {
        let at = |second| DateTime::from_timestamp(second, 0);
        let filter = Filter { from: at(1), to: at(9), ..Filter::default() };
        let first = Window::of(&filter, None, 20);
        assert_eq!((first.from, first.before, first.before_no), (at(1), at(9), ""));
        let place = Place { created_at: at(5).expect("an instant"), order_no: "ORDER5".into() };
        let next = Window::of(&filter, Some(&place), 20);
        assert_eq!((next.from, next.before, next.before_no), (at(1), at(5), "ORDER5"));
    }

    #[test]
    fn every_status_can_be_named() {
        for status in PaymentStatus::ALL {
            assert_eq!(status.as_str().parse::<PaymentStatus>().ok(), Some(status));
            assert_eq!(serde_json::to_value(status).expect("JSON"), status.as_str());
        }
        for bad in ["", "Paid", "unpaid", "paid "] {
            assert!(bad.parse::<PaymentStatus>().is_err(), "{bad}");
        }
    }
}
