//! Retries by hand against the real database: what changes, what stays, and the pace that all of them keep together.

use chrono::{DateTime, Utc};
use shared::{
    notify::{
        NotifyId, ProcessStatus as S,
        retry::{By, Filter, Retried, count, retry_all, retry_cause, retry_one},
    },
    users::UserId,
};
use sqlx::PgPool;

/// Ten dead, ten retrying, ten rejected and one of each other state, ten seconds apart; every second is a refund's. With
/// the figures that they would have left.
const WORLD: &str = "
    insert into payment_notify_logs (id, notify_type, process_status, retry_count, ladder_step, crashes, next_attempt_at,
        order_no, error_code, error_message, created_at, processed_at)
    select overlay(uuid_v7_floor(at)::text placing lpad(n::text, 12, '0') from 25)::uuid,
           case n % 2 when 0 then 'payment' else 'refund' end, status, n % 3, 5, 1,
           case when status in ('received', 'retrying') then now() + interval '1 hour' end, 'ORDER' || n % 5,
           case when status in ('retrying', 'dead', 'rejected') then 'code_' || n % 4 end,
           case when status in ('retrying', 'dead', 'rejected') then 'because' end, at,
           case when status not in ('received', 'retrying') then at + interval '1 second' end
    from (
        select n, timestamptz '2026-06-01T00:00:00Z' + n * interval '10 seconds' as at,
               case when n < 30 then (array['dead', 'retrying', 'rejected'])[1 + n % 3]
                    else (array['received', 'processed', 'duplicate'])[1 + n % 3] end as status
        from generate_series(0, 32) as n
    ) as made;
    insert into payment_notify_statistics_deltas
    select date_bin('1 hour', created_at, 'epoch'), notify_type, process_status,
           case when process_status in ('processed', 'duplicate') then 66 else -1 end, 1, retry_count
    from payment_notify_logs where process_status not in ('received', 'retrying');
";

/// Figures that are not those of the rows: none, ever.
const WRONG_FIGURES: &str = "
    with kept as (
        select hour, notify_type, process_status, sum(notifications) as notifications, sum(retries) as retries
        from (table payment_notify_statistics union all table payment_notify_statistics_deltas) as figures group by 1, 2, 3
    ), counted as (
        select date_bin('1 hour', created_at, 'epoch') as hour, notify_type, process_status, count(*) as notifications,
               sum(retry_count) as retries
        from payment_notify_logs where process_status not in ('received', 'retrying') group by 1, 2, 3
    )
    select count(*) from kept full join counted c using (hour, notify_type, process_status)
    where coalesce(kept.notifications, 0) <> coalesce(c.notifications, 0)
       or coalesce(kept.retries, 0) <> coalesce(c.retries, 0)";

async fn world(db: &PgPool) {
    sqlx::raw_sql(WORLD).execute(db).await.expect("a world");
    assert_eq!(number(db, WRONG_FIGURES).await, 0);
}

async fn number(db: &PgPool, sql: &str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(db).await.expect("a number")
}

async fn an_id(db: &PgPool, status: S) -> NotifyId {
    sqlx::query_scalar("select id from payment_notify_logs where process_status = $1 order by id limit 1")
        .bind(status.as_str())
        .fetch_one(db)
        .await
        .expect("a row")
}

fn root() -> UserId {
    "root".parse().expect("a user id")
}

fn by(actor: &UserId) -> By<'_> {
    By { actor, reason: Some("the key was wrong") }
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn one_is_due_at_once_and_keeps_what_it_failed_for(db: PgPool) {
    world(&db).await;
    let root = root();
    for status in [S::Dead, S::Retrying, S::Rejected] {
        let id = an_id(&db, status).await;
        assert_eq!(retry_one(&db, by(&root), id).await.expect("retried"), Some(Retried::Accepted), "{status:?}");
        assert_eq!(retry_one(&db, by(&root), id).await.expect("retried"), Some(Retried::Unchanged), "pressed twice");
        let changed: bool = sqlx::query_scalar(
            "select process_status = 'received' and next_attempt_at <= now() and ladder_step = 0 and crashes = 0
                 and processed_at is null and error_code like 'code_%' and error_message = 'because'
             from payment_notify_logs where id = $1",
        )
        .bind(id)
        .fetch_one(&db)
        .await
        .expect("a row");
        assert!(changed, "{status:?}");
    }
    for status in [S::Received, S::Processed, S::Duplicate] {
        let id = an_id(&db, status).await;
        assert_eq!(retry_one(&db, by(&root), id).await.expect("asked"), Some(Retried::Unchanged), "{status:?}");
    }
    assert_eq!(retry_one(&db, by(&root), NotifyId::generate()).await.expect("asked"), None);
    assert_eq!(number(&db, WRONG_FIGURES).await, 0);
    let told = "select count(*) from payment_notify_attempts a join payment_notify_logs l using (id)
        where a.outcome = 'received' and a.worker = 'root' and a.error_code = l.error_code and a.error_message = 'because'";
    assert_eq!(number(&db, told).await, 3);
    let audited = "select count(*) from audit_log a join payment_notify_logs l on l.id::text = a.subject
        where action = 'notify_log.retry' and actor = 'root' and reason = 'the key was wrong'
          and detail->>'errorCode' = l.error_code and (detail->>'retryCount')::integer = l.retry_count - 1";
    assert_eq!(number(&db, audited).await, 3);
    assert_eq!(number(&db, "select count(*) from audit_log").await, 3, "what changed nothing is no deed");
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn a_filter_takes_the_oldest_that_pass_all_of_it(db: PgPool) {
    world(&db).await;
    let root = root();
    let base = Filter::of(S::Dead);
    let at = |text: &str| text.parse::<DateTime<Utc>>().ok();
    for (filter, matched) in [
        (base.clone(), 10),
        (Filter { limit: 3, ..base.clone() }, 3),
        (Filter { notify_type: "refund".parse().ok(), ..base.clone() }, 5),
        (Filter { error_code: Some("code_0".into()), ..base.clone() }, 3),
        (Filter { error_code: Some("code_9".into()), ..base.clone() }, 0),
        (Filter { order_no: Some("ORDER0".parse().expect("a number")), ..base.clone() }, 2),
        // The dead stand at 0, 30, 60 … 270 seconds.
        (Filter { from: at("2026-06-01T00:00:30Z"), to: at("2026-06-01T00:01:30Z"), ..base.clone() }, 2),
        (Filter { from: at("2026-06-01T00:04:30.000001Z"), ..base.clone() }, 0),
        (Filter::of(S::Received), 0),
        (Filter::of(S::Processed), 0),
        (Filter::of(S::Duplicate), 0),
        (Filter::of(S::Retrying), 10),
        (Filter::of(S::Rejected), 10),
    ] {
        assert_eq!(count(&db, &filter).await.expect("counted"), matched, "{filter:?}");
    }
    let refunds = Filter { notify_type: "refund".parse().ok(), limit: 2, ..base };
    let first = retry_all(&db, by(&root), &refunds, 200).await.expect("retried");
    let then = retry_all(&db, by(&root), &Filter { limit: 10, ..refunds.clone() }, 200).await.expect("retried");
    let none = retry_all(&db, by(&root), &refunds, 200).await.expect("retried");
    assert_eq!((first.len(), then.len(), none.len()), (2, 3, 0));
    assert!(first.iter().all(|id| then.iter().all(|later| id < later)), "the oldest first");
    assert!(retry_all(&db, by(&root), &Filter::of(S::Processed), 200).await.expect("retried").is_empty());
    assert_eq!(number(&db, WRONG_FIGURES).await, 0);
    let audited: Vec<(String, i64, String)> = sqlx::query_as(
        "select subject, (detail->>'count')::bigint, detail->'filter'->>'notifyType' from audit_log
         where action = 'notify_logs.retry' order by id",
    )
    .fetch_all(&db)
    .await
    .expect("the log");
    assert_eq!(audited, [("dead".into(), 2, "refund".into()), ("dead".into(), 3, "refund".into())]);
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn all_retries_in_bulk_keep_one_pace(db: PgPool) {
    world(&db).await;
    let root = root();
    let started = shared::clock::now();
    for status in [S::Dead, S::Retrying, S::Rejected] {
        assert_eq!(retry_all(&db, by(&root), &Filter::of(status), 2).await.expect("retried").len(), 10);
    }
    let due: Vec<DateTime<Utc>> = sqlx::query_scalar(
        "select next_attempt_at from payment_notify_logs where error_code is not null order by next_attempt_at",
    )
    .fetch_all(&db)
    .await
    .expect("rows");
    assert!(due[0] >= started && due[0] < started + chrono::TimeDelta::seconds(5), "the first at once");
    for pair in due.windows(2) {
        let pause = pair[1] - pair[0];
        assert!((pause.num_milliseconds() - 500).abs() <= 1, "{pause}: half a second between any two");
    }
    sqlx::query("update payment_notify_retry_pace set free_at = now() - interval '1 day'")
        .execute(&db)
        .await
        .expect("ok");
    sqlx::query(
        "update payment_notify_logs set process_status = 'dead', next_attempt_at = null where error_code = 'code_0'",
    )
    .execute(&db)
    .await
    .expect("the database");
    retry_all(&db, by(&root), &Filter::of(S::Dead), 200).await.expect("retried");
    let past = "select count(*) from payment_notify_logs where next_attempt_at < now() - interval '1 minute'";
    assert_eq!(number(&db, past).await, 0, "time that nobody used is gone");
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn what_a_worker_holds_is_left_alone(db: PgPool) {
    world(&db).await;
    let root = root();
    let held = an_id(&db, S::Retrying).await;
    let mut worker = db.begin().await.expect("a transaction");
    sqlx::query("select from payment_notify_logs where id = $1 for no key update")
        .bind(held)
        .execute(&mut *worker)
        .await
        .expect("held");
    assert_eq!(retry_one(&db, by(&root), held).await.expect("asked"), Some(Retried::Unchanged));
    let accepted = retry_all(&db, by(&root), &Filter::of(S::Retrying), 200).await.expect("retried");
    assert!(accepted.len() == 9 && !accepted.contains(&held), "the others, and nobody waited");
    worker.commit().await.expect("committed");
    assert_eq!(retry_one(&db, by(&root), held).await.expect("asked"), Some(Retried::Accepted));
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn a_cause_that_is_gone_frees_all_that_failed_for_it(db: PgPool) {
    world(&db).await;
    let root = root();
    let freed = retry_cause(&db, &["code_1", "code_2"], &root, "the keys changed", 200).await.expect("retried");
    let left = "select count(*) from payment_notify_logs
        where process_status in ('dead', 'retrying') and error_code in ('code_1', 'code_2')";
    assert_eq!(number(&db, left).await, 0);
    assert_eq!(freed.len(), 9, "four dead ones and five that waited");
    assert_eq!(number(&db, "select count(*) from payment_notify_logs where process_status = 'rejected'").await, 10);
    assert_eq!(number(&db, WRONG_FIGURES).await, 0);
}

/// Many at once over the same rows: each row is given back once, and nobody waits for anybody for ever.
#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn retries_at_once_share_the_rows(db: PgPool) {
    world(&db).await;
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8 {
        let db = db.clone();
        tasks.spawn(async move {
            let root = root();
            let filter = Filter { limit: 1 + task % 4, ..Filter::of(S::Dead) };
            let mut accepted = Vec::new();
            for _ in 0..10 {
                accepted.extend(retry_all(&db, by(&root), &filter, 10_000).await.expect("retried"));
            }
            accepted
        });
    }
    let accepted: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    assert_eq!(accepted.len(), 10, "each once");
    assert_eq!(number(&db, "select count(*) from payment_notify_attempts").await, 10);
    assert_eq!(number(&db, WRONG_FIGURES).await, 0);
}
