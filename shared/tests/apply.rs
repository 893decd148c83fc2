//! The transaction around the decision, against the real database.

use shared::{
    orders::OrderNo,
    payments::{Decision, Payment, apply::apply},
};
use sqlx::PgPool;

const ORDERS: &str = "
    insert into payment_packages (name, amount, points) values ('p', 100, 100);
    insert into payment_orders
        (order_no, user_id, package_id, package_name, amount, points, bonus_points, payment_method, expired_at)
    select 'ORDER' || n, 'user' || n % 3, 1, 'p', 100, n, 5, 'wechat_native', date_trunc('second', now())
    from generate_series(10, 99) as n";

fn payment(n: usize) -> Payment {
    Payment {
        order_no: format!("ORDER{n}").parse().expect("an order number"),
        transaction_id: format!("T{n}").parse().expect("a transaction id"),
        amount: 100.try_into().expect("an amount"),
        paid_at: "2026-01-01T13:25:40+08:00".parse().expect("an instant"),
    }
}

async fn apply_all(db: &PgPool, payments: &[Payment]) -> sqlx::Result<Vec<Decision>> {
    let mut tx = db.begin().await?;
    let decisions = apply(&mut tx, &payments.iter().collect::<Vec<_>>()).await?;
    tx.commit().await?;
    Ok(decisions)
}

fn settled(decisions: &[Decision]) -> Vec<OrderNo> {
    let settled = |decision: &Decision| match decision {
        Decision::Settle(settlement) => Some(settlement.order_no.clone()),
        Decision::Duplicate | Decision::Refuse(_) => None,
    };
    decisions.iter().filter_map(settled).collect()
}

async fn assert_balanced(db: &PgPool, credits: i64) {
    let (entries, sum): (i64, i64) =
        sqlx::query_as("select count(*), coalesce(sum(delta), 0)::bigint from point_entries")
            .fetch_one(db)
            .await
            .expect("the database");
    let balance: i64 = sqlx::query_scalar("select coalesce(sum(balance), 0)::bigint from point_accounts")
        .fetch_one(db)
        .await
        .expect("the database");
    let broken: i64 = sqlx::query_scalar(
        "select count(*) from (select balance_after, sum(delta) over (partition by user_id order by id) as running
            from point_entries) e where balance_after <> running",
    )
    .fetch_one(db)
    .await
    .expect("the database");
    assert_eq!((entries, balance, broken), (credits, sum, 0));
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn a_set_with_repeats_and_one_user_many_times_adds_up(db: PgPool) {
    sqlx::raw_sql(ORDERS).execute(&db).await.expect("orders");
    let payments: Vec<_> = [12, 15, 18, 12, 21, 13, 15].map(payment).into();
    let decisions = apply_all(&db, &payments).await.expect("applied");
    let expected: Vec<OrderNo> = [12, 15, 18, 21, 13].map(|n| payment(n).order_no).into();
    assert_eq!(settled(&decisions), expected);
    assert_eq!((&decisions[3], &decisions[6]), (&Decision::Duplicate, &Decision::Duplicate));
    assert_balanced(&db, 5).await;

    let again = apply_all(&db, &payments).await.expect("applied");
    assert_eq!(again, vec![Decision::Duplicate; 7]);
    assert_balanced(&db, 5).await;
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn a_set_that_the_database_refuses_leaves_nothing(db: PgPool) {
    sqlx::raw_sql(ORDERS).execute(&db).await.expect("orders");
    let twice = Payment { transaction_id: payment(11).transaction_id, ..payment(12) };
    let error = apply_all(&db, &[payment(10), payment(11), twice]).await.expect_err("one transaction for two orders");
    assert_eq!(
        error.as_database_error().and_then(|error| error.constraint()),
        Some("payment_orders_transaction_id_key")
    );
    assert_balanced(&db, 0).await;
}

/// Sets that hold the same orders and accounts in opposite order, many times at once: they wait, and never deadlock.
#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn sets_in_opposite_order_never_deadlock(db: PgPool) {
    sqlx::raw_sql(ORDERS).execute(&db).await.expect("orders");
    let mut applying = tokio::task::JoinSet::new();
    for start in 0..8 {
        let mut payments: Vec<_> = (10..100).map(payment).collect();
        payments.rotate_left(start * 11);
        if start % 2 == 1 {
            payments.reverse();
        }
        let db = db.clone();
        applying.spawn(async move {
            let mut settled_here = 0;
            for set in payments.chunks(15) {
                settled_here += settled(&apply_all(&db, set).await.expect("no deadlock")).len();
            }
            settled_here
        });
    }
    assert_eq!(applying.join_all().await.into_iter().sum::<usize>(), 90);
    assert_balanced(&db, 90).await;
    let deadlocks: i64 =
        sqlx::query_scalar("select deadlocks from pg_stat_database where datname = current_database()")
            .fetch_one(&db)
            .await
            .expect("the database");
    assert_eq!(deadlocks, 0);
}
