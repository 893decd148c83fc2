//! The notify log against the real database: stored, claimed, closed.

use chrono::TimeDelta;
use shared::notify::{Closing, Fault, NewNotify, NotifyHeaders, NotifyId, NotifyType, Outcome, sql};
use sqlx::PgPool;

fn notify() -> NewNotify {
    NewNotify {
        id: NotifyId::generate(),
        notify_type: NotifyType::Payment,
        rejected: None,
        client_ip: Some("127.0.0.1".into()),
        headers: NotifyHeaders { wechatpay_nonce: "\"n\\u0041".into(), ..NotifyHeaders::default() },
        body: vec![0, 0xff, b'{', b'\n'],
    }
}

async fn store(db: &PgPool, rows: &[NewNotify], rescue_after: TimeDelta) {
    sql::insert(db, &rows.iter().collect::<Vec<_>>(), rescue_after).await.expect("stored");
}

async fn claim(db: &PgPool, ids: &[NotifyId]) -> Vec<NotifyId> {
    let mut tx = db.begin().await.expect("a transaction");
    sql::claim(&mut tx, ids).await.expect("claimed").into_iter().map(|row| row.id).collect()
}

async fn claim_due(db: &PgPool) -> usize {
    let mut tx = db.begin().await.expect("a transaction");
    sql::claim_due(&mut tx, 10).await.expect("claimed").len()
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn what_is_stored_comes_back_to_the_byte(db: PgPool) {
    let row = notify();
    store(&db, std::slice::from_ref(&row), TimeDelta::zero()).await;
    let mut tx = db.begin().await.expect("a transaction");
    let claimed = sql::claim(&mut tx, &[row.id]).await.expect("claimed");
    assert_eq!(claimed.len(), 1);
    assert_eq!((&claimed[0].body, &*claimed[0].headers, claimed[0].retry_count), (&row.body, &row.headers, 0));
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn a_claimed_row_is_skipped_and_a_finished_one_left_alone(db: PgPool) {
    let rows = [notify(), notify()];
    let ids = rows.each_ref().map(|row| row.id);
    store(&db, &rows, TimeDelta::zero()).await;

    let mut mine = db.begin().await.expect("a transaction");
    assert_eq!(sql::claim(&mut mine, &ids[..1]).await.expect("claimed").len(), 1);
    assert_eq!(claim(&db, &ids).await, ids[1..], "what I hold, nobody waits for");
    assert_eq!(claim_due(&db).await, 1);

    let closing = Closing { id: ids[0], order_no: "ORDER1".parse().ok(), outcome: Outcome::Processed };
    sql::close(&mut mine, &[closing]).await.expect("closed");
    mine.commit().await.expect("committed");
    assert_eq!(claim(&db, &ids).await, ids[1..], "what is finished stays so");
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn a_row_is_due_when_its_time_has_come(db: PgPool) {
    let row = notify();
    store(&db, std::slice::from_ref(&row), TimeDelta::hours(1)).await;
    assert_eq!(claim_due(&db).await, 0, "the broker has an hour to deliver it");
    assert_eq!(claim(&db, &[row.id]).await, [row.id], "and it is handled whenever it does");

    let mut tx = db.begin().await.expect("a transaction");
    let retry = Outcome::Retry { after: TimeDelta::hours(1), fault: Fault::OrderNotFound };
    sql::close(&mut tx, &[Closing { id: row.id, order_no: None, outcome: retry }]).await.expect("closed");
    tx.commit().await.expect("committed");
    assert!(claim(&db, &[row.id]).await.is_empty(), "a second delivery does not cut the wait short");
    sqlx::query("update payment_notify_logs set next_attempt_at = now()").execute(&db).await.expect("the database");
    assert_eq!(claim(&db, &[row.id]).await, [row.id]);
    assert_eq!(claim_due(&db).await, 1);
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn a_refused_one_is_kept_with_its_reason_and_never_handled(db: PgPool) {
    let row = NewNotify { rejected: Some(Fault::SignatureInvalid), ..notify() };
    store(&db, std::slice::from_ref(&row), TimeDelta::zero()).await;
    assert!(claim(&db, &[row.id]).await.is_empty());
    assert_eq!(claim_due(&db).await, 0);
    let code: String =
        sqlx::query_scalar("select error_code from payment_notify_logs where process_status = 'rejected'")
            .fetch_one(&db)
            .await
            .expect("a row");
    assert_eq!(code, "signature_invalid");
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn rows_go_to_their_month_and_none_is_refused_for_its_time(db: PgPool) {
    sql::make_partitions(&db, 5).await.expect("made");
    sql::make_partitions(&db, 5).await.expect("made again");
    store(&db, &[notify()], TimeDelta::zero()).await;
    // A clock in the year 1970 makes such an id.
    sqlx::query("insert into payment_notify_logs (id, notify_type, process_status, next_attempt_at) values ('00000000-0001-7000-8000-000000000000', 'payment', 'received', now())")
        .execute(&db)
        .await
        .expect("it has a place");
    let places: Vec<(String, i64)> =
        sqlx::query_as("select tableoid::regclass::text, count(*) from payment_notify_logs group by 1 order by 1")
            .fetch_all(&db)
            .await
            .expect("rows");
    let month: String =
        sqlx::query_scalar("select 'payment_notify_logs_' || to_char(now() at time zone 'UTC', 'YYYY_MM')")
            .fetch_one(&db)
            .await
            .expect("a name");
    assert_eq!(places, [(month, 1), ("payment_notify_logs_default".into(), 1)]);
    let months: i64 =
        sqlx::query_scalar("select count(*) from pg_inherits where inhparent = 'payment_notify_logs'::regclass")
            .fetch_one(&db)
            .await
            .expect("a count");
    assert_eq!(months, 7, "this month, five ahead, and the one for the rest");
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn rows_that_came_before_their_month_was_made_move_into_it(db: PgPool) {
    for table in [
        "payment_notify_logs (notify_type, process_status, next_attempt_at, id) select 'payment', 'received', now()",
        "payment_notify_bodies (headers, body, id) select '{}', ''",
    ] {
        let sql =
            format!("insert into {table}, uuid_v7_floor(date_trunc('month', now()) + interval '5 months 3 days')");
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&db).await.expect("it has a place");
    }
    let in_default = "select count(*) from payment_notify_logs_default";
    assert_eq!(sqlx::query_scalar::<_, i64>(in_default).fetch_one(&db).await.expect("a count"), 1);
    sql::make_partitions(&db, 6).await.expect("made");
    assert_eq!(sqlx::query_scalar::<_, i64>(in_default).fetch_one(&db).await.expect("a count"), 0);
    assert_eq!(claim_due(&db).await, 1, "with its body");
}
