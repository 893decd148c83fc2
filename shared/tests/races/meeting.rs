//! How two transactions are made to meet, and what must be true after each meeting.

use shared::books;
use sqlx::{PgPool, PgTransaction};
use std::{pin::Pin, str::FromStr, time::Duration};
use tokio::time::Instant;

/// Two orders for each of three users, of 100 fen, 100 points and 5 on top.
const WORLD: &str = "
    insert into payment_packages (name, amount, points) values ('p', 100, 100);
    insert into payment_orders
        (order_no, user_id, package_id, package_name, amount, points, bonus_points, payment_method, expired_at)
    select 'ORDER' || n, (array['amy', 'bob', 'carl'])[1 + (n - 1) % 3], 1, 'p', 100, 100, 5, 'wechat_native',
        date_trunc('second', now()) + interval '1 hour'
    from generate_series(1, 6) as n;
    insert into point_accounts (user_id, balance) values ('amy', 0), ('bob', 0), ('carl', 0)";

/// What the test holds.
pub const ORDER1: &str = "select from payment_orders where order_no = 'ORDER1' for update";
pub const ORDER2: &str = "select from payment_orders where order_no = 'ORDER2' for update";
pub const AMY: &str = "select from point_accounts where user_id = 'amy' for update";
pub const BOB: &str = "select from point_accounts where user_id = 'bob' for update";
pub const PACE: &str = "select from payment_notify_retry_pace for update";

pub fn of<T: FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect(text)
}

pub async fn world(db: &PgPool) {
    sqlx::raw_sql(WORLD).execute(db).await.expect("orders");
}

pub async fn hold(db: &PgPool, gate: &'static str) -> PgTransaction<'static> {
    let mut tx = db.begin().await.expect("a transaction");
    sqlx::query(gate).execute(&mut *tx).await.expect(gate);
    tx
}

/// Waits until so many sessions stand at a lock.
pub async fn standing(db: &PgPool, expected: i64) {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let sql =
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        let sessions: i64 = sqlx::query_scalar(sql).fetch_one(db).await.expect("the database");
        if sessions == expected {
            return;
        }
        assert!(Instant::now() < until, "{sessions} sessions stand at a lock, not {expected}");
        tokio::task::yield_now().await;
    }
}

/// Lets `first` stand at the gate and `second` behind it or behind `first`, then opens it; answers what came of both.
pub fn in_turn<A: Send + 'static, B: Send + 'static>(
    db: &PgPool,
    gate: &'static str,
    first: impl Future<Output = A> + Send + 'static,
    second: impl Future<Output = B> + Send + 'static,
) -> Pin<Box<impl Future<Output = (A, B)>>> {
    Box::pin(async move {
        let gate = hold(db, gate).await;
        let first = tokio::spawn(first);
        standing(db, 1).await;
        let second = tokio::spawn(second);
        standing(db, 2).await;
        gate.rollback().await.expect("open");
        (first.await.expect("no panic"), second.await.expect("no panic"))
    })
}

/// The books are right, so many points are out, and nobody had to be shot.
pub async fn assert_sound(db: &PgPool, points: i64) {
    let audit = books::sql::audit(db, chrono::TimeDelta::hours(1)).await.expect("an audit");
    assert!(audit.ok, "{:?}", audit.checks.iter().filter(|check| check.violations > 0).collect::<Vec<_>>());
    let out = "select sum(balance)::bigint from point_accounts";
    assert_eq!(sqlx::query_scalar::<_, i64>(out).fetch_one(db).await.expect("accounts"), points);
    let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
    assert_eq!(sqlx::query_scalar::<_, i64>(deadlocks).fetch_one(db).await.expect("figures"), 0);
}
