//! Somebody who asks the service, with one token.

use crate::{System, ops};
use reqwest::{Method, header};
use serde_json::Value;

/// A caller of the REST API.
#[derive(Debug)]
pub struct Caller<'a> {
    system: &'a System,
    token: Option<String>,
}

impl System {
    /// A user.
    pub fn user(&self, name: &str) -> Caller<'_> {
        Caller { system: self, token: Some(self.token(name)) }
    }

    /// An admin.
    pub fn admin(&self, name: &str) -> Caller<'_> {
        Caller { system: self, token: Some(self.token_of_admin(name)) }
    }

    /// An admin's token.
    pub fn token_of_admin(&self, name: &str) -> String {
        ops(&self.env, &["token", "--user", name, "--admin"])
    }

    /// Somebody without a token.
    pub const fn nobody(&self) -> Caller<'_> {
        Caller { system: self, token: None }
    }
}

impl Caller<'_> {
    /// Asks; answers the status and the JSON.
    ///
    /// # Panics
    /// When there is no answer, or a refusal that is no problem+json.
    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
        let mut request = self.system.http.request(method, self.system.url(path));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.expect("an answer");
        let status = answer.status();
        if !status.is_success() {
            assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/problem+json", "{path}");
        }
        let json: Value = answer.json().await.expect("JSON");
        if !status.is_success() {
            assert_eq!(json["status"], status.as_u16(), "{path}");
        }
        (status.as_u16(), json)
    }

    /// Asks for a JSON answer of status 200.
    ///
    /// # Panics
    /// When the answer is another.
    pub async fn get(&self, path: &str) -> Value {
        let (status, json) = self.ask(Method::GET, path, None).await;
        assert_eq!(status, 200, "{path}: {json}");
        json
    }

    /// Asks for what breaks a rule; answers the fields that the refusal names.
    ///
    /// # Panics
    /// When it is not refused as that.
    pub async fn faults(&self, method: Method, path: &str, body: Option<&Value>) -> Vec<String> {
        let (status, json) = self.ask(method, path, body).await;
        assert_eq!((status, json["code"].as_str()), (422, Some("validation_failed")), "{path}: {json}");
        let errors = json["errors"].as_array().expect("errors");
        errors.iter().map(|error| error["field"].as_str().expect("a field").to_owned()).collect()
    }

    /// Walks a list to its end; answers all of its items.
    ///
    /// # Panics
    /// When a page is refused, or longer than `limit`.
    pub async fn walk(&self, path: &str, limit: usize) -> Vec<Value> {
        let joint = if path.contains('?') { '&' } else { '?' };
        let first = format!("{path}{joint}limit={limit}");
        let (mut items, mut next) = (Vec::new(), first.clone());
        loop {
            let page = self.get(&next).await;
            let page_items = page["items"].as_array().expect("a list");
            assert!(page_items.len() <= limit, "{next}");
            items.extend(page_items.iter().cloned());
            let Some(cursor) = page["nextCursor"].as_str() else { break items };
            next = format!("{first}&cursor={cursor}");
        }
    }
}
