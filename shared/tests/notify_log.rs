//! The notify log against the real database: stored, claimed, closed.

use chrono::TimeDelta;
use shared::{
    config::DatabaseConfig,
    db::pool_for_sets,
    notify::{Closing, Fault, NewNotify, NotifyHeaders, NotifyId, NotifyType, Outcome, sql, suspects},
};
use sqlx::{PgPool, PgTransaction, types::Json};
use std::time::{Duration, Instant};
use uuid::Uuid;

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

async fn store(db: &PgPool, rows: &[NewNotify]) {
    sql::insert(db, &rows.iter().collect::<Vec<_>>()).await.expect("stored");
}

async fn close(tx: &mut PgTransaction<'_>, id: NotifyId, outcome: Outcome) -> Vec<f64> {
    let closing = Closing { id, order_no: "ORDER1".parse().ok(), outcome };
    sql::close(tx, &[closing], "here:1", None).await.expect("closed")
}

/// Claims, and lets go again: a transaction that is only dropped may hold its locks for a moment longer.
async fn claim(db: &PgPool, ids: &[NotifyId]) -> Vec<NotifyId> {
    let mut tx = db.begin().await.expect("a transaction");
    let claimed = sql::claim(&mut tx, ids).await.expect("claimed");
    tx.rollback().await.expect("rolled back");
    claimed.into_iter().map(|row| row.id).collect()
}

async fn claim_due(db: &PgPool) -> usize {
    let mut tx = db.begin().await.expect("a transaction");
    let claimed = sql::claim_due(&mut tx, 10, TimeDelta::zero()).await.expect("claimed");
    tx.rollback().await.expect("rolled back");
    claimed.len()
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn what_is_stored_comes_back_to_the_byte(db: PgPool) {
    let row = notify();
    store(&db, std::slice::from_ref(&row)).await;
    let mut tx = db.begin().await.expect("a transaction");
    let claimed = sql::claim(&mut tx, &[row.id]).await.expect("claimed");
    assert_eq!(claimed.len(), 1);
    assert_eq!((&claimed[0].body, &claimed[0].headers, claimed[0].ladder_step), (&row.body, &row.headers, 0));
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn headers_that_an_older_api_stored_as_an_object_are_read_as_well(db: PgPool) {
    let whole = NotifyHeaders {
        wechatpay_timestamp: "1764300000".into(),
        wechatpay_nonce: "\"n\\u0041".into(),
        wechatpay_signature: "c2lnbmF0dXJl".into(),
        wechatpay_serial: "PUB_KEY_ID_1".into(),
        wechatpay_signature_type: Some("WECHATPAY2-SHA256-RSA2048".into()),
        request_id: Some("08F78BB5AF0610D302".into()),
        content_type: Some("application/json".into()),
        user_agent: Some("Mozilla/4.0".into()),
    };
    let bare = NotifyHeaders {
        wechatpay_signature_type: None,
        request_id: None,
        content_type: None,
        user_agent: None,
        ..whole.clone()
    };
    for headers in [whole, bare] {
        let row = NewNotify { headers, ..notify() };
        store(&db, std::slice::from_ref(&row)).await;
        sqlx::query("update payment_notify_bodies set header_values = null, headers = $1 where id = $2")
            .bind(Json(&row.headers))
            .bind(row.id)
            .execute(&db)
            .await
            .expect("changed");
        let mut tx = db.begin().await.expect("a transaction");
        let claimed = sql::claim(&mut tx, &[row.id]).await.expect("claimed");
        assert_eq!(claimed[0].headers, row.headers);
    }
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn a_claimed_row_is_skipped_and_a_finished_one_left_alone(db: PgPool) {
    let rows = [notify(), notify()];
    let ids = rows.each_ref().map(|row| row.id);
    store(&db, &rows).await;

    let mut mine = db.begin().await.expect("a transaction");
    assert_eq!(sql::claim(&mut mine, &ids[..1]).await.expect("claimed").len(), 1);
    assert_eq!(claim(&db, &ids).await, ids[1..], "what I hold, nobody waits for");
    assert_eq!(claim_due(&db).await, 1);

    assert_eq!(close(&mut mine, ids[0], Outcome::Processed).await.len(), 1, "the time that it took");
    mine.commit().await.expect("committed");
    assert_eq!(claim(&db, &ids).await, ids[1..], "what is finished stays so");
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn a_row_is_due_when_its_time_has_come(db: PgPool) {
    let row = notify();
    store(&db, std::slice::from_ref(&row)).await;
    let mut tx = db.begin().await.expect("a transaction");
    let due = sql::claim_due(&mut tx, 10, TimeDelta::hours(1)).await.expect("claimed");
    assert!(due.is_empty(), "the broker has an hour to deliver it");
    tx.rollback().await.expect("rolled back");
    assert_eq!(claim(&db, &[row.id]).await, [row.id], "and it is handled whenever it does");

    let mut tx = db.begin().await.expect("a transaction");
    let retry = Outcome::Retry { step: 0, after: TimeDelta::hours(1), fault: Fault::OrderNotFound };
    assert!(close(&mut tx, row.id, retry).await.is_empty());
    tx.commit().await.expect("committed");
    assert!(claim(&db, &[row.id]).await.is_empty(), "a second delivery does not cut the wait short");
    sqlx::query("update payment_notify_logs set next_attempt_at = now()").execute(&db).await.expect("the database");
    assert_eq!(claim(&db, &[row.id]).await, [row.id]);
    assert_eq!(claim_due(&db).await, 1);
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn a_refused_one_is_kept_with_its_reason_and_never_handled(db: PgPool) {
    let row = NewNotify { rejected: Some(Fault::SignatureInvalid), ..notify() };
    store(&db, std::slice::from_ref(&row)).await;
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
    store(&db, &[notify()]).await;
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
        sqlx::query(&sql).execute(&db).await.expect("it has a place");
    }
    let in_default = "select count(*) from payment_notify_logs_default";
    assert_eq!(sqlx::query_scalar::<_, i64>(in_default).fetch_one(&db).await.expect("a count"), 1);
    sql::make_partitions(&db, 6).await.expect("made");
    assert_eq!(sqlx::query_scalar::<_, i64>(in_default).fetch_one(&db).await.expect("a count"), 0);
    assert_eq!(claim_due(&db).await, 1, "with its body");
}

/// What a row has been through, and what the figures say of it.
async fn history(db: &PgPool) -> (Vec<(String, String, Option<String>)>, Vec<(String, i64, i64)>) {
    let attempts = sqlx::query_as("select worker, outcome, error_code from payment_notify_attempts order by at");
    let figures = sqlx::query_as(
        "select process_status, sum(notifications)::bigint, sum(retries)::bigint from payment_notify_statistics_deltas
         group by process_status order by process_status",
    );
    (attempts.fetch_all(db).await.expect("attempts"), figures.fetch_all(db).await.expect("figures"))
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn failed_attempts_are_kept_and_what_has_ended_is_counted(db: PgPool) {
    let rows = [notify(), notify(), NewNotify { rejected: Some(Fault::SignatureInvalid), ..notify() }];
    store(&db, &rows).await;
    let retry = Outcome::Retry { step: 0, after: TimeDelta::zero(), fault: Fault::OrderNotFound };
    for outcome in [retry, Outcome::Dead(Fault::AmountMismatch)] {
        let mut tx = db.begin().await.expect("a transaction");
        assert_eq!(sql::claim(&mut tx, &[rows[0].id]).await.expect("claimed").len(), 1);
        close(&mut tx, rows[0].id, outcome).await;
        tx.commit().await.expect("committed");
    }
    let mut tx = db.begin().await.expect("a transaction");
    close(&mut tx, rows[1].id, Outcome::Processed).await;
    tx.commit().await.expect("committed");

    let attempt = |outcome: &str, code: &str| ("here:1".to_owned(), outcome.to_owned(), Some(code.to_owned()));
    let figure = |status: &str, retries| (status.to_owned(), 1, retries);
    let (attempts, figures) = history(&db).await;
    assert_eq!(attempts, [attempt("retrying", "order_not_found"), attempt("dead", "amount_mismatch")]);
    assert_eq!(figures, [figure("dead", 1), figure("processed", 0), figure("rejected", 0)]);
}

async fn crashes(db: &PgPool) -> Vec<i16> {
    sqlx::query_scalar("select crashes from payment_notify_logs order by id").fetch_all(db).await.expect("rows")
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn who_is_found_in_a_dead_workers_set_is_a_suspect_and_blamed_only_alone(db: PgPool) {
    let rows = [notify(), notify(), notify()];
    let ids = rows.each_ref().map(|row| row.id);
    store(&db, &rows).await;
    let (dead, heir) = (Uuid::now_v7(), Uuid::now_v7());
    assert!(suspects::begin(&db, dead, &ids[..2]).await.expect("said").is_empty());
    assert_eq!(suspects::begin(&db, heir, &ids[1..]).await.expect("said"), [ids[1]]);
    assert_eq!(suspects::blame(&db, heir, &[ids[1]]).await.expect("blamed"), 2);
    assert_eq!(crashes(&db).await, [1, 1, 0], "all that it held, and no other");
    assert!(suspects::begin(&db, heir, &ids).await.expect("said").is_empty(), "once");

    for blamed in [2, 3] {
        suspects::begin(&db, dead, &ids[..1]).await.expect("said");
        assert_eq!(suspects::begin(&db, heir, &ids[..1]).await.expect("said"), ids[..1]);
        suspects::blame(&db, heir, &ids[..1]).await.expect("blamed");
        assert_eq!(crashes(&db).await, [blamed, 1, 0]);
    }
    suspects::suspect(&db, &ids).await.expect("suspected");
    assert_eq!(crashes(&db).await, [3, 1, 1]);

    let mut tx = db.begin().await.expect("a transaction");
    let retry = Outcome::Retry { step: 0, after: TimeDelta::zero(), fault: Fault::OrderNotFound };
    let closing = Closing { id: ids[0], order_no: None, outcome: retry };
    sql::close(&mut tx, &[closing], "here:1", Some(heir)).await.expect("closed");
    tx.commit().await.expect("committed");
    assert_eq!(crashes(&db).await, [0, 1, 1], "who survives it is suspected no more");
    let held: i64 = sqlx::query_scalar("select count(*) from worker_sets").fetch_one(&db).await.expect("a count");
    assert_eq!(held, 0, "and nothing is in hand");
}

/// Who finds suspects lets go of them to handle them one by one. Meanwhile another worker may come by.
#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn who_has_blamed_a_dead_worker_is_not_taken_for_one(db: PgPool) {
    let row = notify();
    store(&db, std::slice::from_ref(&row)).await;
    let (dead, heir, other) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    assert!(suspects::begin(&db, dead, &[row.id]).await.expect("said").is_empty());

    let mut tx = db.begin().await.expect("a transaction");
    assert_eq!(sql::claim(&mut tx, &[row.id]).await.expect("claimed").len(), 1);
    assert_eq!(suspects::begin(&db, heir, &[row.id]).await.expect("said"), [row.id]);
    assert_eq!(suspects::blame(&mut *tx, heir, &[row.id]).await.expect("blamed"), 1);
    tx.commit().await.expect("committed");

    assert!(suspects::begin(&db, other, &[row.id]).await.expect("said").is_empty());
    assert_eq!(crashes(&db).await, [1], "one worker died of it");
}

/// By the release before, too: an operator's retry must not take it for something that was acknowledged.
#[sqlx::test]
async fn what_the_door_refused_before_is_known_for_it(db: PgPool) {
    let (before, since): (Vec<_>, Vec<_>) = shared::MIGRATOR.iter().partition(|migration| migration.version < 10);
    for migration in before {
        sqlx::raw_sql(&migration.sql).execute(&db).await.expect("migrated");
    }
    let rows = "
        insert into payment_notify_logs (id, notify_type, process_status, error_code, processed_at)
        select gen_random_uuid(), 'payment', 'rejected', code, now()
        from unnest(array['signature_invalid', 'key_unavailable', 'event_unsupported']) as code";
    sqlx::raw_sql(rows).execute(&db).await.expect("rows");
    for migration in since {
        sqlx::raw_sql(&migration.sql).execute(&db).await.expect("migrated");
    }
    let refused = "select error_code from payment_notify_logs where refused_at_door order by 1";
    let refused: Vec<String> = sqlx::query_scalar(refused).fetch_all(&db).await.expect("rows");
    assert_eq!(refused, ["key_unavailable", "signature_invalid"]);
}

/// A pool of one connection, as the worker has them.
fn as_a_worker(db: &PgPool) -> PgPool {
    let options = (*db.connect_options()).clone();
    pool_for_sets(&DatabaseConfig { url: "postgres://unused".into(), options, max_connections: 1 }, "test", 1)
}

/// Pages of the log's state and its indexes that PostgreSQL has looked at so far, by its own count.
async fn blocks(db: &PgPool) -> i64 {
    sqlx::query("select pg_stat_force_next_flush()").execute(db).await.expect("the database");
    sqlx::query_scalar(
        "select sum(heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read)::bigint
         from pg_statio_user_tables where relname like 'payment_notify_logs_%'",
    )
    .fetch_one(db)
    .await
    .expect("the database")
}

/// A plan stays for as long as its connection. While nobody has counted the rows of a young month yet, reading all that is
/// due looks as cheap as looking for each id.
#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn claiming_costs_the_same_however_much_is_due(db: PgPool) {
    let one = as_a_worker(&db);
    let mut costs = Vec::new();
    for _ in 0..20 {
        let rows: Vec<_> = (0..256).map(|_| notify()).collect();
        store(&one, &rows).await;
        let (last, before) = (rows[255].id, blocks(&one).await);
        assert_eq!(claim(&one, &[last]).await, [last]);
        costs.push(blocks(&one).await - before);
    }
    // The first one has the catalogue to read, too; and a tree may grow by a level.
    assert!(costs[19] <= costs[1] + 5, "{costs:?} blocks");
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn an_id_that_is_named_twice_is_claimed_once(db: PgPool) {
    let row = notify();
    store(&db, std::slice::from_ref(&row)).await;
    assert_eq!(claim(&db, &[row.id, row.id]).await, [row.id]);
}

/// Of a set that does not fit the socket's buffer, the second part must not wait for the first one's ACK (Nagle), which
/// PostgreSQL's side delays by 40 ms. The quickest of many tells that from a busy machine.
#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn a_large_set_waits_for_no_delayed_ack(db: PgPool) {
    let one = as_a_worker(&db);
    let mut quickest = Duration::MAX;
    for _ in 0..30 {
        let rows: Vec<_> = (0..30).map(|_| NewNotify { body: vec![b'x'; 2_000], ..notify() }).collect();
        let begun = Instant::now();
        store(&one, &rows).await;
        quickest = quickest.min(begun.elapsed());
    }
    assert!(quickest < Duration::from_millis(35), "{quickest:?}");
}
