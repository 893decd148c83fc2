//! Payments beside payments, and beside refunds of other orders: they share orders, accounts, or both.

use crate::{
    meeting::{AMY, BOB, ORDER2, assert_sound, in_turn, world},
    money::{is_applied, paid, succeeded, tell},
};
use sqlx::{PgPool, postgres::PgPoolOptions};

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn two_notifications_of_one_payment_credit_once(db: PgPool) {
    world(&db).await;
    let twice = in_turn(&db, AMY, paid(&db, &["ORDER1"]), paid(&db, &["ORDER1"])).await;
    assert_eq!(twice, (1, 0));
    assert_sound(&db, 105).await;
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn the_first_two_payments_of_a_user_make_one_account(db: PgPool) {
    world(&db).await;
    sqlx::raw_sql("delete from point_accounts").execute(&db).await.expect("nobody has one");
    let gate = "insert into point_accounts (user_id, balance) values ('amy', 0)";
    assert_eq!(in_turn(&db, gate, paid(&db, &["ORDER1"]), paid(&db, &["ORDER4"])).await, (1, 1));
    assert_sound(&db, 210).await;
}

/// Each holds what the other wants next, unless both take them in one order.
#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn sets_with_orders_and_accounts_in_opposite_order_wait_for_each_other(db: PgPool) {
    world(&db).await;
    let (first, second) = (paid(&db, &["ORDER1", "ORDER2", "ORDER3"]), paid(&db, &["ORDER3", "ORDER1"]));
    assert_eq!(in_turn(&db, ORDER2, first, second).await, (3, 0));
    assert_sound(&db, 315).await;
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn sets_that_share_accounts_only_wait_for_each_other(db: PgPool) {
    world(&db).await;
    let (first, second) = (paid(&db, &["ORDER1", "ORDER2", "ORDER3"]), paid(&db, &["ORDER6", "ORDER4"]));
    assert_eq!(in_turn(&db, BOB, first, second).await, (3, 2));
    assert_sound(&db, 525).await;
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn payments_and_refunds_of_other_orders_share_accounts(db: PgPool) {
    world(&db).await;
    paid(&db, &["ORDER4", "ORDER5", "ORDER6"]).await;
    let news = |order_nos: &[&str]| {
        tell(db.clone(), order_nos.iter().map(|no| succeeded(&format!("console{no}"), no, 50)).collect())
    };
    let (settled, told) =
        in_turn(&db, BOB, paid(&db, &["ORDER1", "ORDER2", "ORDER3"]), news(&["ORDER6", "ORDER4"])).await;
    assert!(settled == 3 && is_applied(&told));
    assert_sound(&db, 6 * 105 - 2 * 52).await;
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn refunds_and_payments_of_other_orders_share_accounts(db: PgPool) {
    world(&db).await;
    paid(&db, &["ORDER4", "ORDER5", "ORDER6"]).await;
    let news = ["ORDER4", "ORDER5", "ORDER6"].map(|no| succeeded(&format!("console{no}"), no, 100));
    let (told, settled) = in_turn(&db, BOB, tell(db.clone(), news.into()), paid(&db, &["ORDER3", "ORDER1"])).await;
    assert!(settled == 2 && is_applied(&told));
    assert_sound(&db, 2 * 105).await;
}

/// A database may sort texts as people do, `b` before `Bob`; locks are taken by bytes all the same.
#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn the_order_of_locks_is_not_the_languages(db: PgPool) {
    let name = format!("recharge_test_{}", uuid::Uuid::now_v7().simple());
    let run = async |sql: String| sqlx::raw_sql(&sql).execute(&db).await.expect("the server");
    run(format!(
        "create database {name} template template0 encoding 'UTF8' locale 'C.UTF-8' locale_provider icu icu_locale 'en-US'"
    ))
    .await;
    let english = PgPoolOptions::new().connect_with((*db.connect_options()).clone().database(&name)).await;
    let outcome = tokio::spawn(meet_in_english(english.expect("the new database"))).await;
    run(format!("drop database {name} with (force)")).await;
    assert_eq!(outcome.expect("no deadlock"), 3);
}

async fn meet_in_english(db: PgPool) -> usize {
    shared::MIGRATOR.run(&db).await.expect("migrated");
    world(&db).await;
    let rename = "alter table point_entries disable trigger all; alter table point_accounts disable trigger all;
        update payment_orders set user_id = case user_id when 'bob' then 'b' when 'carl' then 'Bob' else 'amy' end;
        update point_accounts set user_id = case user_id when 'bob' then 'b' when 'carl' then 'Bob' else 'amy' end;
        alter table point_entries enable trigger all; alter table point_accounts enable trigger all";
    sqlx::raw_sql(rename).execute(&db).await.expect("other names");
    paid(&db, &["ORDER4", "ORDER6"]).await;
    let news = ["ORDER4", "ORDER6"].map(|no| succeeded(&format!("console{no}"), no, 100));
    let gate = "select from point_accounts where user_id = 'b' for update";
    let (settled, told) =
        in_turn(&db, gate, paid(&db, &["ORDER1", "ORDER2", "ORDER3"]), tell(db.clone(), news.into())).await;
    assert!(is_applied(&told));
    settled
}
