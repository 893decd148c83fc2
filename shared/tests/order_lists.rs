//! Lists of orders against the real database: complete, stable while orders are made, and as cheap at their end as at
//! their beginning.

use chrono::{DateTime, Utc};
use shared::orders::{
    OrderNo, PaymentStatus,
    search::{Filter, Place, list},
};
use sqlx::{PgPool, postgres::PgPoolOptions};
use std::cell::Cell;

/// Orders of all states and of many users, one of whom buys a lot; thirty to the minute, three of each instant.
async fn make_orders(db: &PgPool, count: i32) {
    sqlx::query("insert into payment_packages (name, amount, points) values ('p', 100, 100)")
        .execute(db)
        .await
        .expect("a package");
    sqlx::query(
        "insert into payment_orders (order_no, user_id, package_id, package_name, amount, points, bonus_points,
             payment_method, payment_status, transaction_id, refunded_amount, paid_at, expired_at, created_at)
         select 'ORDER' || md5(n::text)::char(20), case when n % 37 = 0 then 'whale' else 'user' || n % 1000 end, 1, 'p', 100,
             100, 5, 'wechat_native', status, case when is_paid then 'T' || n end,
             case status when 'refunded' then 100 when 'partially_refunded' then 1 else 0 end,
             case when is_paid then at end, date_trunc('second', at), at
         from (
             select n, at, status, status in ('paid', 'partially_refunded', 'refunded') as is_paid
             from (
                 select n, timestamptz '2026-01-01T00:00:00Z' + (n / 3) * interval '6 s' as at,
                     -- Most are paid, some kinds are rare; whose order it is tells nothing about it.
                     case when n % 7 < 4 then 'paid' when n % 7 = 4 then 'expired' when n % 70 < 63 then 'cancelled'
                          else (array['pending', 'failed', 'partially_refunded', 'refunded'])[1 + n / 70 % 4] end as status
                 from generate_series(1, $1) as n
             ) as made
         ) as known",
    )
    .bind(count)
    .execute(db)
    .await
    .expect("orders");
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("an instant")
}

/// Every kind of list, with the same said in SQL.
fn filters() -> Vec<(Filter, &'static str)> {
    let whale = || Some("whale".parse().expect("a user id"));
    let paid = Some(PaymentStatus::Paid);
    let (expired, rare) = (Some(PaymentStatus::Expired), Some(PaymentStatus::Refunded));
    let (from, to) = (Some(at("2026-01-01T00:05:00Z")), Some(at("2026-01-01T08:45:00+08:00")));
    let all = Filter::default;
    vec![
        (all(), "true"),
        (Filter { status: paid, ..all() }, "payment_status = 'paid'"),
        (Filter { status: rare, ..all() }, "payment_status = 'refunded'"),
        (Filter { user_id: whale(), ..all() }, "user_id = 'whale'"),
        (Filter { user_id: whale(), status: paid, ..all() }, "user_id = 'whale' and payment_status = 'paid'"),
        (Filter { user_id: whale(), status: expired, ..all() }, "user_id = 'whale' and payment_status = 'expired'"),
        (Filter { from, ..all() }, "created_at >= '2026-01-01T00:05:00Z'"),
        (Filter { to, ..all() }, "created_at < '2026-01-01T00:45:00Z'"),
        (
            Filter { from, to, status: paid, ..all() },
            "created_at >= '2026-01-01T00:05:00Z' and created_at < '2026-01-01T00:45:00Z' and payment_status = 'paid'",
        ),
        (
            Filter { from, to, user_id: whale(), ..all() },
            "created_at >= '2026-01-01T00:05:00Z' and created_at < '2026-01-01T00:45:00Z' and user_id = 'whale'",
        ),
    ]
}

async fn numbers(db: &PgPool, condition: &str) -> Vec<String> {
    let sql = format!(
        "select order_no from payment_orders where {condition} order by created_at desc, order_no collate \"C\" desc"
    );
    sqlx::query_scalar(&sql).fetch_all(db).await.expect("the database")
}

/// All that a walk meets, page by page; `between` is done after each page.
async fn walk(db: &PgPool, filter: &Filter, limit: i64, mut between: impl AsyncFnMut()) -> Vec<String> {
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = list(db, filter, after.as_ref(), limit).await.expect("a page");
        seen.extend(page.iter().map(|order| order.order_no.to_string()));
        let Some(last) = page.last() else { break };
        after = Some(Place::of(last));
        between().await;
    }
    seen
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn a_list_is_all_that_passes_its_filter_newest_first(db: PgPool) {
    make_orders(&db, 1_500).await;
    for (filter, condition) in filters() {
        let expected = numbers(&db, condition).await;
        assert!(!expected.is_empty(), "{condition}");
        assert_eq!(walk(&db, &filter, 7, async || {}).await, expected, "{condition}");
    }
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn a_number_finds_the_one_order_that_passes_the_rest_too(db: PgPool) {
    make_orders(&db, 1_500).await;
    let (order_no, transaction_id): (String, String) = sqlx::query_as(
        "select order_no, transaction_id from payment_orders where user_id = 'whale' and payment_status = 'paid' limit 1",
    )
    .fetch_one(&db)
    .await
    .expect("a paid order");
    let found = async |filter: &Filter| walk(&db, filter, 20, async || {}).await;
    let by_number = Filter { order_no: Some(order_no.parse().expect("a number")), ..Filter::default() };
    let by_payment = Filter { transaction_id: Some(transaction_id.parse().expect("an id")), ..Filter::default() };
    let by_both = Filter { transaction_id: by_payment.transaction_id.clone(), ..by_number.clone() };
    for filter in [&by_number, &by_payment, &by_both] {
        assert_eq!(found(filter).await, [order_no.as_str()], "{filter:?}");
        for other in [
            Filter { status: Some(PaymentStatus::Pending), ..filter.clone() },
            Filter { user_id: Some("nobody".parse().expect("a user id")), ..filter.clone() },
            Filter { from: Some(at("2027-01-01T00:00:00Z")), ..filter.clone() },
            Filter { to: Some(at("2026-01-01T00:00:00Z")), ..filter.clone() },
        ] {
            assert!(found(&other).await.is_empty(), "{other:?}");
        }
    }
    let another = OrderNo::generate();
    assert!(found(&Filter { order_no: Some(another), ..by_both }).await.is_empty(), "both must fit");
}

/// While a walk is under way orders are made (later, at once with one that was seen, and before all others) and paid.
#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn a_walk_meets_each_order_that_was_there_once(db: PgPool) {
    make_orders(&db, 300).await;
    let before = numbers(&db, "true").await;
    let times = Cell::new(0);
    let disturb = async || {
        times.set(times.get() + 1);
        sqlx::query(
            "insert into payment_orders (order_no, user_id, package_id, package_name, amount, points, bonus_points,
                 payment_method, expired_at, created_at)
             select prefix || $1::text, 'whale', 1, 'p', 100, 100, 5, 'wechat_native', date_trunc('second', now()), at
             from (values ('zzzzz', now()), ('00000', timestamptz '2026-01-01T00:05:00Z'),
                 ('zzzzz0', timestamptz '2026-01-01T00:05:00Z'), ('00000-', timestamptz '2025-01-01T00:00:00Z'))
                 as new (prefix, at)",
        )
        .bind(times.get().to_string())
        .execute(&db)
        .await
        .expect("orders");
        sqlx::query(
            "update payment_orders set payment_status = 'paid', paid_at = now(), transaction_id = 'X' || order_no::char(31)
             where order_no in (select order_no from payment_orders where payment_status = 'pending' limit 1)",
        )
        .execute(&db)
        .await
        .expect("a payment");
    };
    for user_id in [None, Some("whale".parse().expect("a user id"))] {
        let mine: Vec<_> = match &user_id {
            None => before.clone(),
            Some(_) => numbers(&db, "user_id = 'whale'").await,
        };
        let seen = walk(&db, &Filter { user_id, ..Filter::default() }, 10, &disturb).await;
        let met: Vec<_> = seen.iter().filter(|number| mine.contains(number)).cloned().collect();
        assert_eq!(met, mine, "each of them once, in their order");
        let mut once = seen.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), seen.len(), "nothing twice");
    }
}

/// Pages of the table and its indexes that PostgreSQL has looked at so far, by its own count.
async fn blocks(db: &PgPool) -> i64 {
    sqlx::query("select pg_stat_force_next_flush()").execute(db).await.expect("the database");
    sqlx::query_scalar(
        "select (heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read)::bigint
         from pg_statio_user_tables where relname = 'payment_orders'",
    )
    .fetch_one(db)
    .await
    .expect("the database")
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn the_last_page_costs_what_the_first_costs(db: PgPool) {
    sqlx::query("alter table payment_orders set (autovacuum_enabled = false)").execute(&db).await.expect("a setting");
    make_orders(&db, 200_000).await;
    sqlx::query("vacuum analyze payment_orders").execute(&db).await.expect("statistics");
    // One connection: its counts are this test's, and its plans become generic after five times. What others have looked
    // at is counted when they go, at the latest.
    let options = (*db.connect_options()).clone();
    let one = PgPoolOptions::new().max_connections(1).connect_with(options).await.expect("the database");
    db.close().await;
    let others = "select count(*) from pg_stat_activity
                  where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'";
    while sqlx::query_scalar::<_, i64>(others).fetch_one(&one).await.expect("a count") > 0 {
        tokio::task::yield_now().await;
    }
    let cost = async |filter: &Filter, after: Option<&Place>| {
        let mut most = 0;
        for _ in 0..8 {
            let before = blocks(&one).await;
            let page = list(&one, filter, after, 21).await.expect("a page");
            assert!(!page.is_empty());
            most = most.max(blocks(&one).await - before);
        }
        most
    };
    for (filter, condition) in filters() {
        let sql = format!(
            "select created_at, order_no from payment_orders where {condition} order by created_at, order_no offset 20 limit 1"
        );
        let (created_at, order_no) = sqlx::query_as(&sql).fetch_one(&one).await.expect("more than twenty");
        let last = Place { created_at, order_no };
        let (first, last) = (cost(&filter, None).await, cost(&filter, Some(&last)).await);
        println!("{first:4} blocks for the first page, {last:4} for the last: {condition}");
        assert!(first < 300, "{condition}: {first} blocks for the first page");
        assert!(last <= first + 50, "{condition}: {first} blocks for the first page, {last} for the last");
    }
}
