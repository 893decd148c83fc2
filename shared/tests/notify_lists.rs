//! Lists of the notify log against the real database: every filter, every page, and one notification whole.

use chrono::{DateTime, TimeDelta, Utc};
use shared::notify::{
    Closing, Fault, NewNotify, NotifyHeaders, NotifyId, NotifyType, Outcome, ProcessStatus,
    search::{Filter, find, list},
    sql,
};
use sqlx::PgPool;

/// 600 notifications of all states and families over two hours, two to an instant, with ids whose clocks were off by up to
/// four minutes to either side.
const WORLD: &str = "
    insert into payment_notify_logs (id, notify_type, process_status, next_attempt_at, order_no, error_code, created_at,
        processed_at)
    select overlay(uuid_v7_floor(at + (n % 9 - 4) * interval '1 minute')::text placing lpad(n::text, 12, '0') from 25)::uuid,
           case when n % 7 = 0 then 'refund' else 'payment' end, status,
           case when status in ('received', 'retrying') then now() end, 'ORDER' || n % 50,
           case when status in ('retrying', 'dead', 'rejected') then 'order_not_found' end, at,
           case when status not in ('received', 'retrying') then at + interval '1 second' end
    from (
        select n, timestamptz '2026-06-01T00:00:00Z' + n / 2 * interval '24 seconds' as at,
            (array['received', 'processed', 'duplicate', 'retrying', 'dead', 'rejected'])[1 + n % 6] as status
        from generate_series(0, 599) as n
    ) as made";

/// The same by the plainest of queries.
async fn expected(db: &PgPool, filter: &Filter) -> Vec<NotifyId> {
    sqlx::query_scalar(
        "select id from payment_notify_logs
         where ($1::text is null or process_status = $1) and ($2::text is null or notify_type = $2)
           and ($3::text is null or order_no = $3) and ($4::timestamptz is null or created_at >= $4)
           and ($5::timestamptz is null or created_at < $5)
         order by id desc",
    )
    .bind(filter.status.map(ProcessStatus::as_str))
    .bind(filter.notify_type.map(NotifyType::as_str))
    .bind(filter.order_no.as_ref().map(ToString::to_string))
    .bind(filter.from)
    .bind(filter.to)
    .fetch_all(db)
    .await
    .expect("rows")
}

async fn walk(db: &PgPool, filter: &Filter, page: usize) -> Vec<NotifyId> {
    let mut seen: Vec<NotifyId> = Vec::new();
    loop {
        let rows = list(db, filter, seen.last().copied(), i64::try_from(page).expect("small")).await.expect("a page");
        assert!(rows.len() <= page);
        seen.extend(rows.iter().map(|row| row.id));
        if rows.len() < page {
            return seen;
        }
    }
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn every_filter_finds_exactly_its_own_newest_first(db: PgPool) {
    sqlx::raw_sql(WORLD).execute(&db).await.expect("a world");
    let at = |text: &str| text.parse::<DateTime<Utc>>().ok();
    let spans = [
        (None, None),
        (at("2026-06-01T00:30:00Z"), at("2026-06-01T01:00:24Z")),
        (at("2026-06-01T01:00:00.000001Z"), None),
        (None, at("2026-06-01T00:10:00Z")),
        (at("2027-01-01T00:00:00Z"), at("2027-01-02T00:00:00Z")),
    ];
    let mut found = 0;
    for (from, to) in spans {
        for status in [None].into_iter().chain(ProcessStatus::ALL.map(Some)) {
            for notify_type in [None].into_iter().chain(NotifyType::ALL.map(Some)) {
                for order_no in [None, "ORDER7".parse().ok(), "NOWHERE".parse().ok()] {
                    let filter = Filter { status, notify_type, order_no, from, to };
                    let all = walk(&db, &filter, 40).await;
                    assert_eq!(all, expected(&db, &filter).await, "{filter:?}");
                    found += all.len();
                }
            }
        }
    }
    assert!(found > 4_000, "{found}: most filters find something");
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn one_shows_its_bytes_its_attempts_and_what_to_do(db: PgPool) {
    let rows: Vec<_> = (0..3)
        .map(|_| NewNotify {
            id: NotifyId::generate(),
            notify_type: NotifyType::Payment,
            rejected: None,
            client_ip: Some("192.0.2.1".into()),
            headers: NotifyHeaders { wechatpay_nonce: "n".into(), ..NotifyHeaders::default() },
            body: b"{\"a\":\"\xff\"}".to_vec(),
        })
        .collect();
    sql::insert(&db, &rows.iter().collect::<Vec<_>>()).await.expect("stored");
    let close = async |outcome: Outcome| {
        let mut tx = db.begin().await.expect("a transaction");
        let closing = |row: &NewNotify| Closing { id: row.id, order_no: None, outcome: outcome.clone() };
        let closings: Vec<_> = rows[..2].iter().map(closing).collect();
        sql::close(&mut tx, &closings, "here:1", None).await.expect("closed");
        tx.commit().await.expect("committed");
    };
    close(Outcome::Retry { step: 0, after: TimeDelta::zero(), fault: Fault::OrderNotFound }).await;
    let waiting = find(&db, rows[0].id).await.expect("asked").expect("there is one");
    assert_eq!((waiting.entry.process_time_ms(), waiting.dead_letter.is_none()), (None, true), "not final");
    close(Outcome::Dead(Fault::AmountMismatch)).await;

    let dead = find(&db, rows[0].id).await.expect("asked").expect("there is one");
    assert_eq!((dead.body.as_str(), dead.headers.wechatpay_nonce.as_str()), ("{\"a\":\"\u{fffd}\"}", "n"));
    assert!(dead.entry.process_time_ms().is_some_and(|ms| ms >= 0));
    let attempts: Vec<_> =
        dead.attempts.iter().map(|one| (one.outcome, one.worker.as_str(), one.error_code.as_deref())).collect();
    let here = "here:1";
    assert_eq!(
        attempts,
        [
            (ProcessStatus::Retrying, here, Some("order_not_found")),
            (ProcessStatus::Dead, here, Some("amount_mismatch"))
        ]
    );
    let letter = dead.dead_letter.expect("it is dead");
    assert_eq!((letter.alike, Some(letter.since)), (2, dead.entry.processed_at));
    assert!(letter.remedy.contains("amount"));
    assert!(find(&db, NotifyId::generate()).await.expect("asked").is_none());
}
