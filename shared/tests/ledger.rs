//! What the database refuses, whatever the code above it does.

use sqlx::{PgPool, error::ErrorKind};

const ORDERS: &str = "
    insert into payment_packages (name, amount, points) values ('p', 100, 100);
    insert into payment_orders
        (order_no, user_id, package_id, package_name, amount, points, bonus_points, payment_method, expired_at)
    select no, 'alice', 1, 'p', 100, 100, 5, 'wechat_native', date_trunc('second', now())
    from unnest(array['ORDER1', 'ORDER2']) as no;
    insert into point_accounts (user_id, balance) values ('alice', 0);
    insert into point_entries (user_id, kind, delta, bonus_delta, balance_after, order_no)
    values ('alice', 'recharge', 105, 5, 105, 'ORDER1');
    update payment_orders set payment_status = 'paid', transaction_id = 'T1', paid_at = now() where order_no = 'ORDER1';
    insert into payment_refunds (refund_no, order_no, transaction_id, total, amount, points, bonus_points)
    values ('R1', 'ORDER1', 'T1', 100, 10, 10, 0);
    insert into payment_refunds (refund_no, transaction_id, total, amount, points, bonus_points, misdirected)
    values ('R2', 'T2', 100, 100, 0, 0, true);
    insert into point_entries (user_id, kind, delta, bonus_delta, balance_after, order_no, refund_no)
    values ('alice', 'refund', -10, 0, 95, 'ORDER1', 'R1'), ('alice', 'refund_returned', 10, 0, 105, 'ORDER1', 'R1')";

async fn refused(db: &PgPool, sql: &str, by: &str) {
    let error = sqlx::query(sql).execute(db).await.expect_err(sql);
    let error = error.as_database_error().expect("the database says no");
    let said = error.constraint().unwrap_or(error.message());
    assert!(said.contains(by), "{sql}\nwas refused by {said}, not {by}");
    if by != "append-only" {
        assert_ne!(error.kind(), ErrorKind::Other, "{sql}");
    }
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn money_and_points_cannot_be_wrong(db: PgPool) {
    sqlx::raw_sql(ORDERS).execute(&db).await.expect("orders, a refund, and money that went astray");
    for (sql, by) in [
        (
            "insert into point_entries (user_id, kind, delta, bonus_delta, balance_after, order_no)
             values ('alice', 'recharge', 105, 5, 210, 'ORDER1')",
            "point_entries_one_credit_per_order",
        ),
        (
            "insert into point_entries (user_id, kind, delta, bonus_delta, balance_after, order_no, refund_no)
             values ('alice', 'refund', -10, 0, 85, 'ORDER1', 'R1')",
            "point_entries_once_per_refund",
        ),
        (
            "insert into point_entries (user_id, kind, delta, bonus_delta, balance_after, order_no, refund_no)
             values ('alice', 'refund_returned', 10, 0, 115, 'ORDER1', 'R1')",
            "point_entries_once_per_refund",
        ),
        (
            "insert into payment_refunds (refund_no, order_no, transaction_id, total, amount, points, bonus_points)
             values ('R1', 'ORDER1', 'T1', 100, 10, 10, 0)",
            "payment_refunds_pkey",
        ),
        (
            "insert into payment_refunds (refund_no, transaction_id, total, amount, points, bonus_points, misdirected)
             values ('R3', 'T2', 100, 100, 0, 0, true)",
            "payment_refunds_misdirected",
        ),
        ("update point_entries set delta = 1", "append-only"),
        ("delete from point_entries", "append-only"),
        ("truncate point_entries", "append-only"),
        (
            "insert into point_entries (user_id, kind, delta, bonus_delta, balance_after, order_no)
             values ('alice', 'recharge', 0, 0, 0, 'ORDER2')",
            "delta",
        ),
        (
            "insert into point_entries (user_id, kind, delta, bonus_delta, balance_after, order_no)
             values ('alice', 'recharge', -5, 0, -5, 'ORDER2')",
            "entry_has_direction",
        ),
        (
            "insert into point_entries (user_id, kind, delta, bonus_delta, balance_after, order_no)
             values ('alice', 'refund', -5, 0, -5, 'ORDER2')",
            "entry_has_cause",
        ),
        (
            "insert into point_entries (user_id, kind, delta, bonus_delta, balance_after, order_no)
             values ('alice', 'recharge', 5, 6, 5, 'ORDER2')",
            "point_entries_check",
        ),
        ("update point_accounts set balance = -1", "balance_not_negative"),
        ("update payment_orders set payment_status = 'paid' where order_no = 'ORDER2'", "paid_has_payment"),
        ("update payment_orders set payment_status = 'pending' where order_no = 'ORDER1'", "paid_has_payment"),
        ("update payment_orders set payment_status = 'new' where order_no = 'ORDER2'", "payment_status"),
        (
            "update payment_orders set payment_status = 'paid', transaction_id = 'T1', paid_at = now() where order_no = 'ORDER2'",
            "payment_orders_transaction_id_key",
        ),
        ("update payment_orders set refunded_amount = 101 where order_no = 'ORDER1'", "payment_orders_check"),
        ("update payment_orders set payment_status = 'refunded' where order_no = 'ORDER1'", "refunded_adds_up"),
        ("update payment_orders set amount = 0", "amount"),
        ("update payment_packages set amount = 0", "amount"),
        ("update payment_packages set bonus_points = -1", "bonus_points"),
    ] {
        refused(&db, sql, by).await;
    }
}
