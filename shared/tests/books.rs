//! The books: sound ones are found sound, and whatever is wrong in them is found, by the check that is about it.

use chrono::TimeDelta;
use shared::books::{Check, sql};
use sqlx::PgPool;
use std::collections::BTreeMap;

const GRACE: TimeDelta = TimeDelta::seconds(60);

/// Orders in all states; a refund that succeeded, one under way, one closed, one of nothing, one of money that settled no
/// order; and a log with a row that is done and one that waits.
const WORLD: &str = "
    insert into payment_packages (name, amount, points, bonus_points) values ('p', 100, 100, 5);
    insert into payment_orders
        (order_no, user_id, package_id, package_name, amount, points, bonus_points, payment_method, expired_at)
    select 'ORDER' || n, case when n < 4 then 'alice' else 'bob' end, 1, 'p', 100, 100, 5, 'wechat_native',
        date_trunc('second', now())
    from generate_series(1, 6) as n;
    update payment_orders set payment_status = 'paid', transaction_id = 'T' || order_no, paid_at = now()
    where order_no <> 'ORDER6';
    insert into point_accounts (user_id, balance) values ('alice', 210), ('bob', 157);
    insert into payment_refunds (refund_no, order_no, amount, points, bonus_points, status, completed_at, transaction_id,
        total, misdirected)
    values ('TAKEN', 'ORDER1', 100, 100, 5, 'success', now(), 'TORDER1', 100, false),
        ('UNDERWAY', 'ORDER4', 50, 50, 3, 'processing', null, 'TORDER4', 100, false),
        ('CLOSED', 'ORDER4', 50, 50, 2, 'closed', now(), 'TORDER4', 100, false),
        ('NOTHING', 'ORDER5', 1, 0, 0, 'success', now(), 'TORDER5', 100, false),
        ('ASTRAY', 'ORDER5', 100, 0, 0, 'success', now(), 'TOTHER', 100, true);
    insert into point_entries (user_id, kind, delta, bonus_delta, balance_after, order_no, refund_no)
    values ('alice', 'recharge', 105, 5, 105, 'ORDER1', null),
        ('alice', 'recharge', 105, 5, 210, 'ORDER2', null),
        ('alice', 'refund', -105, -5, 105, 'ORDER1', 'TAKEN'),
        ('alice', 'recharge', 105, 5, 210, 'ORDER3', null),
        ('bob', 'recharge', 105, 5, 105, 'ORDER4', null),
        ('bob', 'refund', -52, -2, 53, 'ORDER4', 'CLOSED'),
        ('bob', 'refund_returned', 52, 2, 105, 'ORDER4', 'CLOSED'),
        ('bob', 'refund', -53, -3, 52, 'ORDER4', 'UNDERWAY'),
        ('bob', 'recharge', 105, 5, 157, 'ORDER5', null);
    update payment_orders set payment_status = 'refunded', refunded_amount = 100 where order_no = 'ORDER1';
    update payment_orders set payment_status = 'partially_refunded', refunded_amount = 1 where order_no = 'ORDER5';
    insert into payment_notify_logs (id, notify_type, process_status, next_attempt_at, processed_at, created_at)
    select id::uuid, 'payment', status, due, processed, date_trunc('month', now()) + interval '10 days'
    from (values
        ('0199a000-0000-7000-8000-000000000001', 'processed', null, now()),
        ('0199a000-0000-7000-8000-000000000002', 'received', now() - interval '50 seconds', null)
    ) as row (id, status, due, processed);
    insert into payment_notify_statistics
    values (date_trunc('month', now()) + interval '10 days', 'payment', 'processed', 3, 2, 1);
    insert into payment_notify_statistics_deltas
    values (date_trunc('month', now()) + interval '10 days', 'payment', 'processed', 5, -1, -1),
        -- Of a month that was dropped.
        ('2020-01-31T23:00:00Z', 'payment', 'processed', 3, 7, 7);
    insert into payment_notify_bodies (id, headers, body) select id, '{}', '{}' from payment_notify_logs;
    insert into payment_notify_attempts (id, worker, outcome, error_code)
    values ('0199a000-0000-7000-8000-000000000001', 'w', 'retrying', 'order_not_found')";

/// What is done to it, which checks find that, and one of the samples of the first of them.
const CASES: &[(&str, &[&str], &str)] = &[
    (
        "delete from point_entries where order_no = 'ORDER3'",
        &["paid_orders_credited_once", "balances_add_up"],
        "ORDER3",
    ),
    (
        "drop index point_entries_one_credit_per_order;
         insert into point_entries (user_id, kind, delta, bonus_delta, balance_after, order_no)
         values ('alice', 'recharge', 105, 5, 315, 'ORDER3');
         update point_accounts set balance = 315 where user_id = 'alice'",
        &["paid_orders_credited_once"],
        "ORDER3",
    ),
    ("update point_entries set bonus_delta = 6 where order_no = 'ORDER3'", &["paid_orders_credited_once"], "ORDER3"),
    (
        "insert into point_entries (user_id, kind, delta, bonus_delta, balance_after, order_no)
         values ('bob', 'recharge', 105, 5, 262, 'ORDER6');
         update point_accounts set balance = 262 where user_id = 'bob'",
        &["no_credit_without_payment"],
        "ORDER6",
    ),
    ("update payment_refunds set points = 51 where refund_no = 'UNDERWAY'", &["refunds_taken_once"], "UNDERWAY"),
    ("update point_entries set bonus_delta = -1 where refund_no = 'UNDERWAY'", &["refunds_taken_once"], "UNDERWAY"),
    (
        "update payment_refunds set status = 'failed', completed_at = now() where refund_no = 'UNDERWAY'",
        &["refunds_given_back_once"],
        "UNDERWAY",
    ),
    (
        "update payment_refunds set status = 'abnormal', completed_at = null where refund_no = 'CLOSED'",
        &["refunds_given_back_once"],
        "CLOSED",
    ),
    ("update point_entries set bonus_delta = 0 where kind = 'refund_returned'", &["refunds_given_back_once"], "CLOSED"),
    ("delete from payment_refunds where refund_no = 'UNDERWAY'", &["refund_entries_have_refunds"], "UNDERWAY"),
    (
        "update payment_orders set payment_status = 'paid', refunded_amount = 0 where order_no = 'ORDER5'",
        &["orders_add_up_their_refunds"],
        "ORDER5",
    ),
    (
        "update payment_orders set payment_status = 'partially_refunded', refunded_amount = 50 where order_no = 'ORDER4'",
        &["orders_add_up_their_refunds"],
        "ORDER4",
    ),
    (
        "update payment_orders set bonus_points = 2, points = 103 where order_no = 'ORDER4'",
        &["refunds_within_orders", "paid_orders_credited_once"],
        "ORDER4",
    ),
    ("update point_accounts set balance = balance + 1 where user_id = 'bob'", &["balances_add_up"], "bob"),
    ("delete from point_accounts where user_id = 'bob'", &["balances_add_up", "entries_have_owners"], "bob"),
    ("update point_entries set balance_after = 1 where order_no = 'ORDER2'", &["running_balances_add_up"], "alice"),
    (
        "alter table point_accounts drop constraint balance_not_negative;
         update point_accounts set balance = -1 where user_id = 'alice'",
        &["negative_balances_allowed", "balances_add_up"],
        "alice",
    ),
    (
        "update payment_orders set user_id = 'bob' where order_no = 'ORDER3'",
        &["entries_have_owners", "paid_orders_credited_once"],
        "ORDER3",
    ),
    (
        "delete from payment_notify_bodies where id = '0199a000-0000-7000-8000-000000000002'",
        &["log_rows_have_bodies"],
        "0199a000-0000-7000-8000-000000000002",
    ),
    (
        "delete from payment_notify_logs where process_status = 'received'",
        &["log_rows_have_bodies"],
        "0199a000-0000-7000-8000-000000000002",
    ),
    (
        "update payment_notify_attempts set id = '0199a000-0000-7000-8000-000000000003'",
        &["attempts_have_log_rows"],
        "0199a000-0000-7000-8000-000000000003",
    ),
    (
        "update payment_notify_logs set next_attempt_at = now() - interval '61 seconds' where process_status = 'received'",
        &["log_rows_on_time"],
        "0199a000-0000-7000-8000-000000000002",
    ),
    (
        "update payment_orders set paid_at = paid_at + interval '1 hour' where order_no = 'ORDER2'",
        &["order_statistics_add_up"],
        "Z package 1",
    ),
    (
        "update payment_notify_logs set retry_count = 1 where process_status = 'processed'",
        &["notify_statistics_add_up"],
        "Z payment processed",
    ),
    (
        "update payment_notify_logs set process_status = 'duplicate' where process_status = 'processed'",
        &["notify_statistics_add_up"],
        "Z payment duplicate",
    ),
    (
        "update payment_notify_statistics_deltas set notifications = notifications - 1",
        &["notify_statistics_add_up"],
        "Z payment processed",
    ),
    ("update payment_statistics_deltas set converted = converted + 1", &["order_statistics_add_up"], "Z package 1"),
];

fn broken(checks: &[Check]) -> BTreeMap<&str, &[String]> {
    let broken = checks.iter().filter(|check| check.violations > 0);
    broken.map(|check| (check.name, check.samples.as_slice())).collect()
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn each_fault_is_found_by_its_check(db: PgPool) {
    sqlx::raw_sql(WORLD).execute(&db).await.expect("sound books");
    let audit = sql::audit(&db, GRACE).await.expect("an audit");
    assert!(audit.ok, "{audit:?}");
    let mut unbroken: Vec<_> = audit.checks.iter().map(|check| check.name).collect();

    for (fault, expected, sample) in CASES {
        let mut tx = db.begin().await.expect("a transaction");
        // No trigger repairs or refuses it.
        sqlx::raw_sql("set local session_replication_role = replica").execute(&mut *tx).await.expect("a superuser");
        sqlx::raw_sql(fault).execute(&mut *tx).await.expect(fault);
        let checks = sql::checks(&mut tx, GRACE).await.expect("an audit");
        let broken = broken(&checks);
        let mut names: Vec<_> = expected.to_vec();
        names.sort_unstable();
        assert_eq!(broken.keys().copied().collect::<Vec<_>>(), names, "{fault}: {broken:?}");
        assert!(broken[expected[0]].iter().any(|id| id.ends_with(sample)), "{fault}: {broken:?}");
        unbroken.retain(|name| !names.contains(name));
    }
    assert!(unbroken.is_empty(), "no case breaks {unbroken:?}");
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn a_few_samples_stand_for_many(db: PgPool) {
    let accounts =
        "insert into point_accounts (user_id, balance) select 'u' || n, 1 from generate_series(1, 1000) as n";
    sqlx::raw_sql(accounts).execute(&db).await.expect("balances out of nothing");
    let audit = sql::audit(&db, GRACE).await.expect("an audit");
    assert!(!audit.ok);
    let check = audit.checks.iter().find(|check| check.violations > 0).expect("one");
    assert_eq!((check.name, check.violations), ("balances_add_up", 1_000));
    assert_eq!(check.samples, ["u1", "u10", "u100", "u1000", "u101"]);
}
