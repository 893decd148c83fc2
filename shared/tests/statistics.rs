//! The statistics against the real database: as exact as the orders they are made of, whatever was merged when.

use chrono::{DateTime, TimeDelta, Utc};
use shared::statistics::{Bucket, Figures, Span, Statistics, sql};
use sqlx::PgPool;

/// A small world of three packages over three days, with orders right at the edges of hours and days; all of it made by
/// the statements that the service uses: orders are inserted, then paid in sets, then refunded.
const WORLD: &str = "
    insert into payment_packages (name, amount, points, sort_order) select 'p' || n, 100, 100, -n from generate_series(1, 3) n;
    insert into payment_orders (order_no, user_id, package_id, package_name, amount, points, bonus_points, payment_method,
        expired_at, created_at)
    select 'ORDER' || n, 'alice', 1 + n % 3, 'p', 100 + n, 100 + n, n % 5, 'wechat_native', date_trunc('second', now()),
        timestamptz '2026-06-01T00:00:00+08:00' + (n / 2) * interval '20 minutes' - (n % 2) * interval '1 microsecond'
    from generate_series(1, 432) as n;
    update payment_orders set code_url = 'weixin://x';
    update payment_orders set payment_status = 'paid', paid_at = created_at + interval '15 minutes',
        transaction_id = 'T' || order_no
    where substr(order_no, 6)::integer % 4 <> 0;
    update payment_orders set payment_status = 'expired' where payment_status = 'pending';
    insert into payment_refunds (refund_no, order_no, transaction_id, total, amount, points, bonus_points, status)
    select 'R' || order_no, order_no, transaction_id, amount, 7, 0, 0, 'processing' from payment_orders
    where paid_at is not null and substr(order_no, 6)::integer % 5 = 0;
    update payment_refunds r set status = 'success', completed_at = o.paid_at + interval '25 hours'
    from payment_orders o where o.order_no = r.order_no and substr(o.order_no, 6)::integer % 10 = 0;
    update payment_orders o set payment_status = 'partially_refunded', refunded_amount = r.amount
    from payment_refunds r where r.order_no = o.order_no and r.status = 'success';
    update payment_refunds set status = 'closed', completed_at = now() where status = 'processing';
    insert into payment_refunds
        (refund_no, order_no, transaction_id, total, origin, amount, points, bonus_points, status, completed_at, misdirected)
    values ('OUTSIDE', 'ORDER1', 'TORDER1', 100, 'external', 11, 0, 0, 'success', '2026-06-02T12:00:00Z', false),
           ('STRAY', 'ORDER1', 'OTHER', 100, 'ours', 100, 0, 0, 'success', '2026-06-02T12:00:00Z', true)";

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("an instant")
}

fn span(from: DateTime<Utc>, to: DateTime<Utc>, bucket: Bucket) -> Span {
    Span::new(Some(from), Some(to), bucket, to).expect("a span")
}

async fn ask(db: &PgPool, span: &Span) -> Statistics {
    Statistics::of(span, sql::figures(db, span).await.expect("figures"))
}

/// The same totals, counted from the orders.
async fn count(db: &PgPool, from: DateTime<Utc>, to: DateTime<Utc>) -> Figures {
    let (orders, converted, paid_orders, paid_fen, points, refunded_fen) = sqlx::query_as(
        "select (select count(*) from payment_orders where created_at >= $1 and created_at < $2),
                (select count(*) from payment_orders where created_at >= $1 and created_at < $2 and paid_at is not null),
                count(*), coalesce(sum(amount), 0)::bigint, coalesce(sum(points + bonus_points), 0)::bigint,
                (select coalesce(sum(amount), 0)::bigint from payment_refunds
                 where status = 'success' and not misdirected and completed_at >= $1 and completed_at < $2)
         from payment_orders where paid_at >= $1 and paid_at < $2",
    )
    .bind(from)
    .bind(to)
    .fetch_one(db)
    .await
    .expect("the database");
    Figures { orders, converted, paid_orders, paid_fen, points, refunded_fen }
}

async fn assert_exact(db: &PgPool) {
    let (start, step) = (at("2026-05-31T23:50:00+08:00"), TimeDelta::minutes(10));
    for (first, length) in
        (0..440).step_by(37).flat_map(|first| [1, 5, 6, 7, 40, 200, 450].map(|length| (first, length)))
    {
        let (from, to) = (start + step * first, start + step * (first + length));
        for bucket in [Bucket::Hour, Bucket::Day] {
            let statistics = ask(db, &span(from, to, bucket)).await;
            assert_eq!(statistics.totals, count(db, from, to).await, "{from} to {to}");
            let sum = statistics.series.iter().map(|(_, figures)| figures.paid_fen).sum::<i64>();
            assert_eq!(sum, statistics.totals.paid_fen, "the series adds up");
            let sum = statistics.by_package.iter().map(|cell| cell.figures.orders).sum::<i64>();
            assert_eq!(sum, statistics.totals.orders, "the packages add up");
            for (at, figures) in &statistics.series {
                let length = if bucket == Bucket::Hour { TimeDelta::hours(1) } else { TimeDelta::days(1) };
                assert_eq!(*figures, count(db, from.max(*at), to.min(*at + length)).await, "the bucket of {at}");
            }
        }
    }
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn figures_are_exact_before_and_after_they_are_merged(db: PgPool) {
    sqlx::raw_sql(WORLD).execute(&db).await.expect("a world");
    assert_exact(&db).await;
    assert_eq!(sql::merge(&db, 20).await.expect("merged"), 20, "some of them");
    assert_exact(&db).await;
    while sql::merge(&db, 1_000).await.expect("merged") > 0 {}
    assert_exact(&db).await;

    // Money that arrives late counts where it was paid, and its order where it was made.
    sqlx::raw_sql(
        "update payment_orders set payment_status = 'paid', paid_at = created_at + interval '30 hours',
             transaction_id = 'T' || order_no
         where payment_status = 'expired' and substr(order_no, 6)::integer < 100",
    )
    .execute(&db)
    .await
    .expect("late payments");
    assert_exact(&db).await;
    while sql::merge(&db, 1_000).await.expect("merged") > 0 {}
    assert_exact(&db).await;
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn packages_come_in_display_order_and_empty_buckets_are_there(db: PgPool) {
    sqlx::raw_sql(WORLD).execute(&db).await.expect("a world");
    let week = span(at("2026-06-01T00:00:00+08:00"), at("2026-06-08T00:00:00+08:00"), Bucket::Day);
    let statistics = ask(&db, &week).await;
    let packages: Vec<_> =
        statistics.by_package.iter().map(|cell| (cell.package_id.get(), cell.package_name.as_str())).collect();
    assert_eq!(packages, [(3, "p3"), (2, "p2"), (1, "p1")]);
    assert_eq!(statistics.series.len(), 7);
    assert_eq!(statistics.series[6], (at("2026-06-07T00:00:00+08:00"), Figures::default()));
    let nothing = span(at("2020-01-01T00:00:00Z"), at("2020-01-02T00:00:00Z"), Bucket::Hour);
    let statistics = ask(&db, &nothing).await;
    assert_eq!((statistics.totals.conversion_rate(), statistics.by_package.len()), (None, 0));
}

/// Merging many times at once, while orders are made and paid: nothing is lost, and nothing waits for ever.
#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn merging_loses_nothing_while_orders_are_paid(db: PgPool) {
    sqlx::raw_sql(WORLD).execute(&db).await.expect("a world");
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..4 {
        let paying = db.clone();
        tasks.spawn(async move {
            for n in 0..40 {
                sqlx::query(
                    "insert into payment_orders (order_no, user_id, package_id, package_name, amount, points, bonus_points,
                         payment_method, payment_status, transaction_id, paid_at, expired_at, created_at)
                     select no, 'bob', 2, 'p', 100, 100, 5, 'wechat_native', 'paid', no, at, at, at
                     from (select $1 as no, timestamptz '2026-06-02T00:00:00Z' as at) as new",
                )
                .bind(format!("NEW-{writer}-{n}"))
                .execute(&paying)
                .await
                .expect("a payment");
            }
        });
        let merging = db.clone();
        tasks.spawn(async move {
            for _ in 0..40 {
                sql::merge(&merging, 3).await.expect("merged");
            }
        });
    }
    tasks.join_all().await;
    assert_exact(&db).await;
}
