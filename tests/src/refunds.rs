//! What tests of refunds have in common.

use crate::{Caller, SOON, System, eventually};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Row;
use std::time::Duration;

impl System {
    /// Makes `count` orders of `user`'s and has them paid; answers their numbers. Each costs 100 fen, and gives 100 and 5
    /// points.
    ///
    /// # Panics
    /// When they are not paid in time.
    pub async fn paid_orders(&self, user: &str, count: usize) -> Vec<String> {
        let numbers = self.bulk_orders(count, 1).await;
        sqlx::query("update payment_orders set user_id = $2 where order_no = any($1)")
            .bind(&numbers)
            .bind(user)
            .execute(&self.db)
            .await
            .expect("the database");
        for number in &numbers {
            self.pay(number).await;
        }
        let paid = async || {
            let sql = "select count(*) from payment_orders where order_no = any($1) and paid_at is not null";
            sqlx::query_scalar::<_, i64>(sql).bind(&numbers).fetch_one(&self.db).await.expect("the database")
        };
        eventually("the payments", SOON, paid, |paid| usize::try_from(*paid).ok() == Some(count)).await;
        numbers
    }

    /// Lets the simulator settle refunds after so many milliseconds; `None` for never by itself.
    pub async fn settle_refunds_after(&self, milliseconds: Option<u64>) {
        let delay = milliseconds.map_or_else(|| json!("manual"), |milliseconds| json!(milliseconds));
        self.control(Method::PUT, "/control/settings", Some(&json!({"refundDelayMs": delay}))).await;
    }

    /// Says at the simulator what becomes of a refund.
    pub async fn settle_refund(&self, refund_no: &str, status: &str) {
        let body = json!({"status": status});
        self.control(Method::POST, &format!("/control/refunds/{refund_no}/outcome"), Some(&body)).await;
    }

    /// Makes the next answers of an endpoint of the simulator's fail.
    pub async fn fail_next(&self, fault: Value) {
        self.control(Method::POST, "/control/faults/next", Some(&fault)).await;
    }

    /// The refunds that the simulator holds of an order.
    ///
    /// # Panics
    /// When it does not know the order.
    pub async fn refunds_at_wechat(&self, order_no: &str) -> Vec<Value> {
        let order = self.control(Method::GET, &format!("/control/orders/{order_no}"), None).await;
        order["refunds"].as_array().expect("a list").clone()
    }

    /// Waits until a refund is in this state here; answers why it is, if anything is wrong with it.
    ///
    /// # Panics
    /// When it does not get there.
    pub async fn wait_for_refund(&self, refund_no: &str, status: &str) -> Option<String> {
        self.wait_for_refund_within(refund_no, status, SOON).await
    }

    /// The same, but not for longer than `deadline`.
    ///
    /// # Panics
    /// When it does not get there.
    pub async fn wait_for_refund_within(&self, refund_no: &str, status: &str, deadline: Duration) -> Option<String> {
        let look = async || {
            let sql = "select status, failure_reason from payment_refunds where refund_no = $1";
            let row = sqlx::query(sql).bind(refund_no).fetch_optional(&self.db).await.expect("the database");
            row.map(|row| (row.get::<String, _>(0), row.get::<Option<String>, _>(1)))
        };
        let what = format!("refund {refund_no} {status}");
        let found =
            eventually(&what, deadline, look, |found| found.as_ref().is_some_and(|found| found.0 == status)).await;
        found.and_then(|found| found.1)
    }

    /// Waits until a pending refund says that this is wrong with it.
    ///
    /// # Panics
    /// When it does not.
    pub async fn wait_for_trouble(&self, refund_no: &str, code: &str) {
        let look = async || {
            let sql = "select status, error_code, failure_reason from payment_refunds where refund_no = $1";
            let row = sqlx::query(sql).bind(refund_no).fetch_one(&self.db).await.expect("the database");
            (row.get::<String, _>(0), row.get::<Option<String>, _>(1), row.get::<Option<String>, _>(2))
        };
        let is_there = |(status, found, reason): &(String, Option<String>, Option<String>)| {
            let explained = reason.as_ref().is_some_and(|reason| reason.starts_with(&format!("{code}: ")));
            status == "pending" && found.as_deref() == Some(code) && explained
        };
        eventually(&format!("refund {refund_no} waits for {code}"), SOON, look, is_there).await;
    }

    /// A user's balance.
    ///
    /// # Panics
    /// When the database is away.
    pub async fn balance(&self, user: &str) -> i64 {
        let sql = "select coalesce((select balance from point_accounts where user_id = $1), 0)";
        sqlx::query_scalar(sql).bind(user).fetch_one(&self.db).await.expect("the database")
    }

    /// The state of an order and what went back of it, in fen.
    ///
    /// # Panics
    /// When the database is away.
    pub async fn order_state(&self, order_no: &str) -> (String, i64) {
        let sql = "select payment_status, refunded_amount from payment_orders where order_no = $1";
        sqlx::query_as(sql).bind(order_no).fetch_one(&self.db).await.expect("the order")
    }
}

impl Caller<'_> {
    /// Asks for a refund; answers the status and the JSON.
    pub async fn try_refund(&self, order_no: &str, body: &Value) -> (u16, Value) {
        self.ask(Method::POST, &format!("/api/payment/admin/orders/{order_no}/refunds"), Some(body)).await
    }

    /// Asks for a refund that must be accepted; answers its number.
    ///
    /// # Panics
    /// When it is not.
    pub async fn refund(&self, order_no: &str, body: &Value) -> String {
        let (status, refund) = self.try_refund(order_no, body).await;
        assert_eq!(status, 202, "{refund}");
        refund["refundNo"].as_str().expect("a number").to_owned()
    }
}
