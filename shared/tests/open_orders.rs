//! How many orders a user has waiting, however many are made at once; and which of the watched orders have changed.

use chrono::TimeDelta;
use shared::{
    clock,
    orders::{NewOrder, sql},
    packages,
    users::UserId,
};
use sqlx::PgPool;
use tokio::task::JoinSet;

const MOST: i64 = 5;

fn user(name: &str) -> UserId {
    name.parse().expect("a user id")
}

async fn new_order(db: &PgPool, user_id: UserId, ttl: TimeDelta) -> NewOrder {
    let id: i64 =
        sqlx::query_scalar("insert into payment_packages (name, amount, points) values ('p', 100, 100) returning id")
            .fetch_one(db)
            .await
            .expect("a package");
    let package = packages::sql::find_active(db, id.into()).await.expect("the database").expect("the package");
    NewOrder::of(package, user_id, clock::now(), ttl)
}

/// Makes the order unless the user has [`MOST`]; answers whether it did.
async fn place(db: PgPool, order: NewOrder) -> bool {
    let mut tx = db.begin().await.expect("the database");
    sql::lock_user(&mut tx, &order.user_id).await.expect("the database");
    let is_room = sql::count_open(&mut tx, &order.user_id).await.expect("the database") < MOST;
    if is_room {
        sql::insert(&mut *tx, &order).await.expect("an order");
    }
    tx.commit().await.expect("the database");
    is_room
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn orders_that_are_made_at_once_do_not_exceed_the_limit(db: PgPool) {
    let mut placing = JoinSet::new();
    for name in ["alice", "bob"] {
        for _ in 0..20 {
            placing.spawn(place(db.clone(), new_order(&db, user(name), TimeDelta::minutes(30)).await));
        }
    }
    let placed = placing.join_all().await.into_iter().filter(|placed| *placed).count();
    assert_eq!(placed, 10, "five each");
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn only_what_can_still_be_paid_counts(db: PgPool) {
    let alice = user("alice");
    for (ttl, change) in [
        (30, "select $1"),
        (-1, "select $1"),
        (30, "update payment_orders set payment_status = 'cancelled' where order_no = $1"),
        (
            30,
            "update payment_orders set payment_status = 'paid', paid_at = now(), transaction_id = 'T' where order_no = $1",
        ),
    ] {
        let order = new_order(&db, alice.clone(), TimeDelta::minutes(ttl)).await;
        sql::insert(&db, &order).await.expect("an order");
        sqlx::query(change).bind(order.order_no.as_str()).execute(&db).await.expect("the database");
    }
    let mut tx = db.begin().await.expect("the database");
    assert_eq!(sql::count_open(&mut tx, &alice).await.expect("the database"), 1);
    assert_eq!(sql::count_open(&mut tx, &user("bob")).await.expect("the database"), 0);
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn a_lookup_answers_only_what_is_not_known(db: PgPool) {
    let mut orders = Vec::new();
    for _ in 0..3 {
        let order = new_order(&db, user("alice"), TimeDelta::minutes(30)).await;
        sql::insert(&db, &order).await.expect("an order");
        orders.push(sql::find(&db, &order.order_no, sql::Scope::All).await.expect("the database").expect("the order"));
    }
    sql::set_code(&db, &orders[1].order_no, "weixin://x").await.expect("the database");
    let numbers: Vec<&str> = orders.iter().map(|order| order.order_no.as_str()).chain(["UNKNOWN"]).collect();
    let known = [Some(orders[0].updated_at), Some(orders[1].updated_at), None, None];
    let changed = sql::changed(&db, &numbers, &known).await.expect("the database");
    let mut changed: Vec<&str> = changed.iter().map(|order| order.order_no.as_str()).collect();
    changed.sort_unstable();
    assert_eq!(changed, numbers[1..3], "the one that changed, and the one of which nothing was known");
}
