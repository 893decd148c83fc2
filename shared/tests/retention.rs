//! Retention against the real database: which months go, what goes with them, and who must not notice.

use futures_util::future::join_all;
use shared::notify::{
    Closing, Fault, NewNotify, NotifyHeaders, NotifyId, NotifyType, Outcome, sql,
    upkeep::{Backlog, DroppedMonth, backlog, drop_old_months, merge_statistics},
};
use sqlx::PgPool;
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

const PARENTS: [&str; 3] = ["payment_notify_logs", "payment_notify_bodies", "payment_notify_attempts"];

/// Makes the month that began so many months ago; answers its name.
async fn make_month(db: &PgPool, months_ago: i32) -> String {
    let month = format!("(date_trunc('month', now() at time zone 'UTC') - interval '{months_ago} months')");
    let name: String =
        sqlx::query_scalar(&format!("select to_char({month}, 'YYYY_MM')")).fetch_one(db).await.expect("a name");
    for parent in PARENTS {
        let made = format!(
            "do $$ begin execute format('create table {parent}_{name} partition of {parent} for values from (%L) to (%L)',
                 uuid_v7_floor({month} at time zone 'UTC'),
                 uuid_v7_floor(({month} + interval '1 month') at time zone 'UTC')); end $$"
        );
        sqlx::raw_sql(&made).execute(db).await.expect("a partition");
    }
    name
}

/// Stores a row of that month in this status, with its body and a failed attempt.
async fn store_in(db: &PgPool, month: &str, status: &str) {
    let id = format!(
        "overlay(gen_random_uuid()::text placing
        left(uuid_v7_floor(to_date('{month}', 'YYYY_MM') + interval '3 days')::text, 13) from 1 for 13)::uuid"
    );
    let sql = format!(
        "with new as materialized (select {id} as id), body as (
             insert into payment_notify_bodies select id, '{{}}', '' from new
         ), attempt as (
             insert into payment_notify_attempts (id, worker, outcome) select id, 'w', 'retrying' from new
         )
         insert into payment_notify_logs (id, notify_type, process_status, error_code, next_attempt_at)
         select id, 'payment', '{status}', case when '{status}' in ('dead', 'retrying') then 'order_not_found' end,
                case when '{status}' in ('received', 'retrying') then now() end
         from new"
    );
    sqlx::query(&sql).execute(db).await.expect("stored");
}

/// The months that each of the three tables has in the past.
async fn past_months(db: &PgPool) -> [Vec<String>; 3] {
    let mut months = [const { Vec::new() }; 3];
    for (parent, months) in PARENTS.into_iter().zip(&mut months) {
        *months = sqlx::query_scalar(
            "select right(c.relname, 7) from pg_inherits i join pg_class c on c.oid = i.inhrelid
             where i.inhparent = $1::regclass and right(c.relname, 7) < to_char(now() at time zone 'UTC', 'YYYY_MM')
             order by 1",
        )
        .bind(parent)
        .fetch_all(db)
        .await
        .expect("names");
    }
    months
}

fn dropped(month: &str, dead_letters: i64) -> DroppedMonth {
    DroppedMonth { month: month.to_owned(), dead_letters }
}

async fn count(db: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(db).await.expect("a count")
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn a_month_goes_with_its_bodies_and_attempts_when_it_ended_long_enough_ago(db: PgPool) {
    let (old, older) = (make_month(&db, 3).await, make_month(&db, 8).await);
    for month in [&old, &older] {
        store_in(&db, month, "processed").await;
    }
    store_in(&db, &older, "dead").await;
    store_in(&db, &older, "dead").await;

    assert_eq!(drop_old_months(&db, 400).await.expect("asked"), []);
    // The month of three months ago ended at least 59 days ago, and at most 92.
    assert_eq!(drop_old_months(&db, 93).await.expect("asked"), [dropped(&older, 2)]);
    assert_eq!(past_months(&db).await, [vec![old.clone()], vec![old.clone()], vec![old.clone()]]);
    assert_eq!(drop_old_months(&db, 58).await.expect("asked"), [dropped(&old, 0)]);
    assert_eq!(past_months(&db).await, [const { Vec::<String>::new() }; 3]);
    for table in ["logs", "bodies", "attempts"] {
        let left: i64 = sqlx::query_scalar(&format!("select count(*) from payment_notify_{table}"))
            .fetch_one(&db)
            .await
            .expect("a count");
        assert_eq!(left, 0, "{table}");
    }
    assert_eq!(drop_old_months(&db, 1).await.expect("asked"), [], "this month and those to come stay");
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn a_month_with_something_to_do_stays_until_that_is_done(db: PgPool) {
    let (received, retrying, done) = (make_month(&db, 9).await, make_month(&db, 8).await, make_month(&db, 7).await);
    for (month, status) in [(&received, "received"), (&retrying, "retrying"), (&done, "duplicate")] {
        store_in(&db, month, status).await;
        store_in(&db, month, "processed").await;
    }
    assert_eq!(drop_old_months(&db, 100).await.expect("asked"), [dropped(&done, 0)]);
    sqlx::query("update payment_notify_logs set process_status = 'dead', error_code = 'x', next_attempt_at = null")
        .execute(&db)
        .await
        .expect("given up");
    assert_eq!(drop_old_months(&db, 100).await.expect("asked"), [dropped(&received, 2), dropped(&retrying, 2)]);
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn what_fits_no_month_is_left_alone(db: PgPool) {
    make_month(&db, 20).await;
    // There is no month of 50 months ago, nor one of the year 1970.
    for month in ["1970_01", "2019_05"] {
        store_in(&db, month, "processed").await;
    }
    assert_eq!(drop_old_months(&db, 1).await.expect("asked").len(), 1);
    assert_eq!(count(&db, "select count(*) from payment_notify_logs_default").await, 2);
    assert_eq!(count(&db, "select count(*) from payment_notify_bodies_default").await, 2);
    assert_eq!(count(&db, "select count(*) from payment_notify_attempts_default").await, 2);
}

fn notify() -> NewNotify {
    NewNotify {
        id: NotifyId::generate(),
        notify_type: NotifyType::Payment,
        rejected: None,
        client_ip: None,
        headers: NotifyHeaders::default(),
        body: b"{}".to_vec(),
    }
}

/// Callbacks are stored and handled, one after the other, until told to stop; answers how many.
async fn work(db: &PgPool, stop: &AtomicBool) -> i64 {
    let mut handled = 0;
    while !stop.load(Ordering::Relaxed) {
        let row = notify();
        sql::insert(db, &[&row]).await.expect("stored");
        let mut tx = db.begin().await.expect("a transaction");
        assert_eq!(sql::claim(&mut tx, &[row.id]).await.expect("claimed").len(), 1);
        let outcome = Outcome::Dead(Fault::AmountMismatch);
        sql::close(&mut tx, &[Closing { id: row.id, order_no: None, outcome }], "here:1", None).await.expect("closed");
        tx.commit().await.expect("committed");
        handled += 1;
    }
    handled
}

/// Does it until it is let, as the sweep does with a longer pause.
async fn patiently<T>(mut what: impl AsyncFnMut() -> sqlx::Result<T>) -> T {
    // A slow machine may need two or three tries. Locks in a wrong order would need luck.
    for _ in 0..6 {
        match what().await {
            Ok(done) => return done,
            Err(error) => assert!(error.to_string().contains("lock timeout"), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it never got its turn");
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn callbacks_are_stored_and_handled_meanwhile_and_several_may_keep_house_at_once(db: PgPool) {
    let mut expected = Vec::new();
    for months_ago in (8..14).rev() {
        let month = make_month(&db, months_ago).await;
        store_in(&db, &month, "dead").await;
        expected.push(dropped(&month, 1));
    }
    let stop = AtomicBool::new(false);
    let keeping_house = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let drop = async || patiently(async || drop_old_months(&db, 100).await).await;
        let make = async || patiently(async || sql::make_partitions(&db, 9).await).await;
        let (one, other, (), ()) = tokio::join!(drop(), drop(), make(), make());
        tokio::time::sleep(Duration::from_millis(100)).await;
        stop.store(true, Ordering::Relaxed);
        [one, other].concat()
    };
    let (mut months, handled) = tokio::join!(keeping_house, join_all((0..12).map(|_| work(&db, &stop))));
    months.sort_by(|a, b| a.month.cmp(&b.month));
    assert_eq!(months, expected, "each is told once");
    assert_eq!(past_months(&db).await, [const { Vec::<String>::new() }; 3]);
    let dead = count(&db, "select count(*) from payment_notify_logs where process_status = 'dead'").await;
    assert_eq!(dead, handled.into_iter().sum::<i64>());
    let months = "select count(*) from pg_inherits where inhparent = 'payment_notify_attempts'::regclass";
    assert_eq!(count(&db, months).await, 11, "this month, nine ahead, and the one for the rest");
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn a_reader_puts_it_off_and_loses_nothing(db: PgPool) {
    let month = make_month(&db, 8).await;
    let mut reader = db.begin().await.expect("a transaction");
    sqlx::query("select count(*) from payment_notify_logs").execute(&mut *reader).await.expect("a count");
    let error = drop_old_months(&db, 100).await.expect_err("somebody reads").to_string();
    assert!(error.contains("lock timeout"), "{error}");
    reader.rollback().await.expect("read");
    assert_eq!(drop_old_months(&db, 100).await.expect("asked"), [dropped(&month, 0)]);
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn the_backlog_is_what_is_left_to_do(db: PgPool) {
    let nothing =
        Backlog { received: 0, retrying: 0, oldest_received_seconds: 0.0, oldest_retrying_seconds: 0.0, dead: 0 };
    assert_eq!(backlog(&db).await.expect("asked"), nothing);

    let month = make_month(&db, 8).await;
    for status in ["received", "received", "retrying", "dead", "processed", "duplicate"] {
        store_in(&db, &month, status).await;
    }
    sqlx::query(
        "update payment_notify_logs set created_at = now() - interval '1 hour' where process_status = 'received'",
    )
    .execute(&db)
    .await
    .expect("aged");
    let left = backlog(&db).await.expect("asked");
    assert_eq!((left.received, left.retrying, left.dead), (2, 1, 1));
    assert!((3_600.0..3_660.0).contains(&left.oldest_received_seconds), "{left:?}");
    // It is the last to come due, behind all that could be counted.
    sqlx::query(
        "update payment_notify_logs set created_at = now() - interval '1 day', next_attempt_at = now() + interval '6 hours'
         where process_status = 'retrying'",
    )
    .execute(&db)
    .await
    .expect("aged");
    let left = backlog(&db).await.expect("asked");
    assert!((86_400.0..86_460.0).contains(&left.oldest_retrying_seconds), "{left:?}");
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn additions_to_the_figures_are_merged_once(db: PgPool) {
    sqlx::query(
        "insert into payment_notify_statistics_deltas
         select date_bin('1 hour', now(), 'epoch'), 'payment', 'processed', 7, 1, 2 from generate_series(1, 5)",
    )
    .execute(&db)
    .await
    .expect("added");
    assert_eq!(merge_statistics(&db, 3).await.expect("merged"), 3);
    assert_eq!(merge_statistics(&db, 3).await.expect("merged"), 2);
    assert_eq!(merge_statistics(&db, 3).await.expect("merged"), 0);
    assert_eq!(count(&db, "select notifications * 100 + retries from payment_notify_statistics").await, 510);
}

/// Those that were there before the migration that says so, the default one, and those that the sweep makes.
#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn every_partition_of_the_log_leaves_room_for_a_rows_second_copy(db: PgPool) {
    sql::make_partitions(&db, 9).await.expect("partitions");
    for (parent, setting) in
        [("payment_notify_logs", "fillfactor=45"), ("payment_notify_bodies", "toast_tuple_target=8160")]
    {
        let set: Vec<(String, Vec<String>)> = sqlx::query_as(
            "select relname::text, coalesce(reloptions, '{}') from pg_inherits join pg_class c on c.oid = inhrelid
             where inhparent = $1::regclass",
        )
        .bind(parent)
        .fetch_all(&db)
        .await
        .expect("partitions");
        assert!(set.len() > 10, "{set:?}");
        assert!(set.iter().all(|(_, options)| *options == [setting]), "{set:?}");
    }
}
