//! Changing packages, against the real database: the deed and its record are one.

use serde_json::{Value, json};
use shared::{
    packages::{
        PackageId,
        change::{Change, Terms, change, create},
        sql,
    },
    users::UserId,
};
use sqlx::PgPool;

fn admin() -> UserId {
    "root".parse().expect("a user id")
}

fn terms() -> Terms {
    Terms {
        name: "标准包".parse().expect("a name"),
        description: "1000 积分".parse().expect("a description"),
        amount: 1000.try_into().expect("an amount"),
        points: 1000.try_into().expect("points"),
        bonus_points: 50.try_into().expect("points"),
        is_active: true,
        sort_order: 10,
    }
}

async fn audit(db: &PgPool) -> Vec<(String, String, String, Value)> {
    sqlx::query_as("select actor, action, subject, detail from audit_log order by id")
        .fetch_all(db)
        .await
        .expect("the log")
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn every_change_is_recorded_with_what_was_before(db: PgPool) {
    let package = create(&db, &admin(), &terms()).await.expect("created");
    assert_eq!((package.amount.get(), package.currency.as_str()), (1000, "CNY"));
    let id = package.id;
    let dearer = Change { amount: Some(1200.try_into().expect("an amount")), ..Change::default() };
    for expected in [1200, 1200] {
        let package = change(&db, &admin(), id, dearer.clone()).await.expect("changed").expect("it is there");
        assert_eq!((package.amount.get(), package.points.get()), (expected, 1000));
    }
    let nothing = change(&db, &admin(), id, Change::default()).await.expect("changed").expect("it is there");
    assert_eq!(nothing.created_at, package.created_at);
    assert!(nothing.updated_at > package.updated_at);
    assert!(change(&db, &admin(), PackageId::from(999), Change::default()).await.expect("asked").is_none());

    let subject = id.get().to_string();
    let created = json!({"name": "标准包", "description": "1000 积分", "amount": 1000, "points": 1000, "bonusPoints": 50,
        "isActive": true, "sortOrder": 10});
    let changed = json!({"amount": {"from": 1000, "to": 1200}});
    let entry = |action: &str, detail| ("root".to_owned(), action.to_owned(), subject.clone(), detail);
    assert_eq!(audit(&db).await, [entry("package.create", created), entry("package.change", changed)]);
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn a_change_that_cannot_be_recorded_is_not_made(db: PgPool) {
    let package = create(&db, &admin(), &terms()).await.expect("created");
    sqlx::query("alter table audit_log add check (action <> 'package.change') not valid")
        .execute(&db)
        .await
        .expect("a trap");
    let off = Change { is_active: Some(false), ..Change::default() };
    change(&db, &admin(), package.id, off).await.expect_err("the log refuses");
    assert!(sql::find_active(&db, package.id).await.expect("the database").is_some());
}

/// Each sees what the one before it left: the record is a chain without a gap.
#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn changes_at_once_take_turns(db: PgPool) {
    let package = create(&db, &admin(), &terms()).await.expect("created");
    let mut changing = tokio::task::JoinSet::new();
    for sort_order in 100..120 {
        let db = db.clone();
        let to = Change { sort_order: Some(sort_order), ..Change::default() };
        changing.spawn(async move { change(&db, &admin(), package.id, to).await.expect("changed") });
    }
    changing.join_all().await;
    let mut at = json!(10);
    for (.., detail) in audit(&db).await.into_iter().skip(1) {
        assert_eq!(detail["sortOrder"]["from"], at);
        at = detail["sortOrder"]["to"].clone();
    }
}
