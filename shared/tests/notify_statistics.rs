//! The figures of the notify log against the real database: as exact as the rows, whatever was merged, retried or is
//! still waiting.

use chrono::{DateTime, TimeDelta, Utc};
use shared::{
    notify::upkeep::merge_statistics,
    notify::{
        NotifyType, ProcessStatus,
        retry::{By, Filter, retry_all},
        statistics::{Counts, Statistics, sql},
    },
    statistics::{Bucket, Span},
};
use sqlx::PgPool;

/// 900 notifications over ten hours, some of them right at the edges of hours, closed as the service does it: the figures
/// of those that ended are deltas of their own statements.
const WORLD: &str = "
    insert into payment_notify_logs (id, notify_type, process_status, retry_count, next_attempt_at, error_code, created_at,
        processed_at)
    select overlay(uuid_v7_floor(at + (n % 9 - 4) * interval '1 minute')::text placing lpad(n::text, 12, '0') from 25)::uuid,
           case when n % 7 = 0 then 'refund' else 'payment' end, status, n % 4,
           case when status in ('received', 'retrying') then now() end,
           case when status in ('retrying', 'dead', 'rejected') then 'order_not_found' end, at,
           case when status not in ('received', 'retrying') then at + n * interval '1 millisecond' end
    from (
        select n, timestamptz '2026-06-01T00:00:00Z' + n / 2 * interval '80 seconds' - n % 2 * interval '1 microsecond' as at,
            (array['processed', 'processed', 'processed', 'received', 'duplicate', 'retrying', 'dead', 'rejected'])[1 + n % 8]
                as status
        from generate_series(0, 899) as n
    ) as made;
    insert into payment_notify_statistics_deltas
    select date_bin('1 hour', created_at, 'epoch'), notify_type, process_status,
           case when process_status in ('processed', 'duplicate')
                then payment_notify_time_class(extract(epoch from processed_at - created_at) * 1000) else -1 end,
           count(*), sum(retry_count)
    from payment_notify_logs where process_status not in ('received', 'retrying') group by 1, 2, 3, 4, id";

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("an instant")
}

async fn ask(db: &PgPool, from: DateTime<Utc>, to: DateTime<Utc>, bucket: Bucket) -> Statistics {
    let span = Span::new(Some(from), Some(to), bucket, to).expect("a span");
    let (cells, classes) = sql::figures(db, &span).await.expect("figures");
    Statistics::of(&span, &cells, classes)
}

/// The same, counted from the rows.
async fn count(db: &PgPool, from: DateTime<Utc>, to: DateTime<Utc>, kind: NotifyType) -> (Counts, i64) {
    let (mut counts, mut retries) = (Counts::default(), 0);
    for status in ProcessStatus::ALL {
        let (rows, tries): (i64, i64) = sqlx::query_as(
            "select count(*), coalesce(sum(retry_count), 0) from payment_notify_logs
             where process_status = $1 and notify_type = $2 and created_at >= $3 and created_at < $4",
        )
        .bind(status.as_str())
        .bind(kind.as_str())
        .bind(from)
        .bind(to)
        .fetch_one(db)
        .await
        .expect("a count");
        retries += tries;
        *match status {
            ProcessStatus::Received => &mut counts.received,
            ProcessStatus::Processed => &mut counts.processed,
            ProcessStatus::Duplicate => &mut counts.duplicate,
            ProcessStatus::Retrying => &mut counts.retrying,
            ProcessStatus::Dead => &mut counts.dead,
            ProcessStatus::Rejected => &mut counts.rejected,
        } = rows;
    }
    (counts, retries)
}

async fn assert_exact(db: &PgPool) {
    let (start, step) = (at("2026-05-31T23:50:00Z"), TimeDelta::minutes(10));
    for (first, length) in [(0, 70), (0, 1), (1, 6), (1, 5), (3, 9), (7, 6), (20, 40), (100, 6)] {
        let (from, to) = (start + step * first, start + step * (first + length));
        for bucket in [Bucket::Hour, Bucket::Day] {
            let statistics = ask(db, from, to, bucket).await;
            let mut retries = 0;
            for (family, kind) in NotifyType::ALL.into_iter().enumerate() {
                let (counts, tries) = count(db, from, to, kind).await;
                assert_eq!(statistics.by_type[family], (kind, counts), "{from} to {to}");
                retries += tries;
                let sum = statistics.series.iter().map(|(_, counts)| counts[family].all()).sum::<i64>();
                assert_eq!(sum, counts.all(), "the series adds up");
            }
            assert_eq!(statistics.retries, retries, "{from} to {to}");
            let oldest = sqlx::query_scalar(
                "select min(created_at) from payment_notify_logs
                 where process_status in ('received', 'retrying') and created_at >= $1 and created_at < $2",
            );
            let oldest: Option<DateTime<Utc>> = oldest.bind(from).bind(to).fetch_one(db).await.expect("an instant");
            assert_eq!(statistics.oldest_unfinished_at, oldest, "{from} to {to}");
            let median: Option<f64> = sqlx::query_scalar(
                "select percentile_disc(0.5) within group (order by extract(epoch from processed_at - created_at) * 1000)::float8
                 from payment_notify_logs
                 where process_status in ('processed', 'duplicate') and created_at >= $1 and created_at < $2",
            )
            .bind(from)
            .bind(to)
            .fetch_one(db)
            .await
            .expect("a median");
            #[expect(clippy::cast_precision_loss, reason = "milliseconds")]
            let p50 = statistics.process_times.map(|times| times.p50_ms as f64);
            assert_eq!(p50.is_some(), median.is_some(), "{from} to {to}");
            let (p50, median) = (p50.unwrap_or(0.0), median.unwrap_or(0.0));
            assert!((p50 - median).abs() <= 1.0 + median * 0.025, "{p50} and {median}: within the class");
        }
    }
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn figures_are_exact_before_and_after_they_are_merged(db: PgPool) {
    sqlx::raw_sql(WORLD).execute(&db).await.expect("a world");
    assert_exact(&db).await;
    assert_eq!(merge_statistics(&db, 20).await.expect("merged"), 20, "some of them");
    assert_exact(&db).await;
    while merge_statistics(&db, 1_000).await.expect("merged") > 0 {}
    assert_exact(&db).await;
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn what_is_retried_moves_from_one_figure_to_another(db: PgPool) {
    sqlx::raw_sql(WORLD).execute(&db).await.expect("a world");
    while merge_statistics(&db, 1_000).await.expect("merged") > 0 {}
    let root = "root".parse().expect("a user id");
    let by = By { actor: &root, reason: None };
    for status in [ProcessStatus::Dead, ProcessStatus::Rejected, ProcessStatus::Retrying] {
        assert!(
            !retry_all(&db, by, &Filter { limit: 30, ..Filter::of(status) }, 200).await.expect("retried").is_empty()
        );
        assert_exact(&db).await;
    }
    while merge_statistics(&db, 1_000).await.expect("merged") > 0 {}
    assert_exact(&db).await;
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn of_nothing_there_are_no_shares_and_no_times(db: PgPool) {
    let statistics = ask(&db, at("2026-06-01T00:00:00Z"), at("2026-06-02T00:00:00Z"), Bucket::Hour).await;
    assert_eq!((statistics.totals, statistics.totals.success_rate()), (Counts::default(), None));
    assert_eq!((statistics.process_times, statistics.oldest_unfinished_at, statistics.series.len()), (None, None, 24));
}
