//! What happens at WeChat Pay, by the simulator's control API.

use crate::{Callback, System};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

impl System {
    /// The URL of a path of the simulator's.
    pub fn control_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.simulator_address)
    }

    /// Asks the simulator's control API, for an answer that is a success.
    ///
    /// # Panics
    /// When it is none.
    pub async fn control(&self, method: Method, path: &str, body: Option<&Value>) -> Value {
        let request = self.http.request(method, self.control_url(path));
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        let answer = request.send().await.expect("the simulator answers");
        let (status, text) = (answer.status(), answer.text().await.expect("a body"));
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// Pays an order at the simulator, which then sends its callback.
    pub async fn pay(&self, order_no: &str) {
        self.control(Method::POST, &format!("/control/orders/{order_no}/pay"), Some(&json!({}))).await;
    }

    /// Pays an order at the simulator, which then sends nothing; answers the callback for the test to send.
    pub async fn pay_silently(&self, order_no: &str) -> Callback {
        let body = json!({"notify": false});
        self.control(Method::POST, &format!("/control/orders/{order_no}/pay"), Some(&body)).await;
        self.sign(&json!({"outTradeNo": order_no})).await
    }

    /// A callback of the simulator's making, signed but not sent.
    pub async fn sign(&self, wish: &Value) -> Callback {
        Callback::of(&self.control(Method::POST, "/control/sign", Some(wish)).await)
    }

    /// Sends a callback to the service; answers the status and the code in the body.
    ///
    /// # Panics
    /// When there is no answer, or one that WeChat Pay would not understand.
    pub async fn send(&self, callback: &Callback) -> (StatusCode, String) {
        let answer = callback.send(&self.http, &self.notify_url()).await.expect("an answer");
        let (status, json) = (answer.status(), answer.json::<Value>().await.expect("JSON"));
        (status, json["code"].as_str().expect("a code").to_owned())
    }
}
