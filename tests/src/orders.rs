//! Making orders, through the service or past it.

use crate::System;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

impl System {
    /// Makes an order of the package that sorts `nth`. No worker asks WeChat Pay about it, see [`Self::ask_about`]: what a
    /// callback does is then its own doing.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn order(&self, user: &str, nth: usize) -> Value {
        let packages = self.get("/api/payment/packages", user).await;
        let body = json!({"packageId": packages["items"][nth]["id"], "paymentMethod": "wechat_native"});
        let answer = self.request(Method::POST, "/api/payment/orders", user, Some(&body)).await;
        let (status, order) = (answer.status(), answer.json::<Value>().await.expect("JSON"));
        assert_eq!(status, StatusCode::CREATED, "{order}");
        sqlx::query("update payment_orders set next_check_at = null where order_no = $1")
            .bind(order["orderNo"].as_str())
            .execute(&self.db)
            .await
            .expect("the database");
        order
    }

    /// Lets the workers ask WeChat Pay about the orders, from 5 s after now, as if they were made now.
    ///
    /// # Panics
    /// When that fails.
    pub async fn ask_about(&self, order_nos: &[String]) {
        sqlx::query("update payment_orders set next_check_at = now() + interval '5 seconds' where order_no = any($1)")
            .bind(order_nos)
            .execute(&self.db)
            .await
            .expect("the database");
    }

    /// Makes `count` pending orders straight in the database and at the simulator, for tests that need many. Order `n`
    /// belongs to user `u<n % users>`, costs 100 fen, and gives 100 and 5 points.
    ///
    /// # Panics
    /// When that fails.
    pub async fn bulk_orders(&self, count: usize, users: usize) -> Vec<String> {
        let numbers: Vec<String> = (0..count).map(|_| Uuid::now_v7().simple().to_string()).collect();
        let owners: Vec<String> = (0..count).map(|n| format!("u{}", n % users)).collect();
        sqlx::query(
            "insert into payment_orders (order_no, user_id, package_id, package_name, amount, points, bonus_points,
                 payment_method, code_url, expired_at, next_check_at)
             select no, owner, (select min(id) from payment_packages), 'bulk', 100, 100, 5, 'wechat_native',
                 'weixin://bulk', date_trunc('second', now()) + interval '30 minutes', null
             from unnest($1::text[], $2::text[]) as new (no, owner)",
        )
        .bind(&numbers)
        .bind(&owners)
        .execute(&self.db)
        .await
        .expect("orders are stored");
        for number in &numbers {
            let body = json!({"outTradeNo": number, "total": 100, "notifyUrl": self.notify_url()});
            self.control(Method::POST, "/control/orders", Some(&body)).await;
        }
        numbers
    }
}
