//! A callback as WeChat Pay would send it, made by the simulator and in the test's hands.

use reqwest::{Client, Response};
use serde_json::Value;
use std::collections::BTreeMap;

/// Headers and the exact body.
#[derive(Clone, Debug)]
pub struct Callback {
    /// All headers, the four signed ones among them.
    pub headers: BTreeMap<String, String>,
    /// What was signed.
    pub body: Vec<u8>,
}

impl Callback {
    /// Reads the simulator's answer.
    pub(crate) fn of(json: &Value) -> Self {
        let headers = json["headers"].as_object().expect("the simulator gives headers").iter();
        let headers = headers.map(|(name, value)| (name.clone(), value.as_str().expect("a text").to_owned())).collect();
        Self { headers, body: json["body"].as_str().expect("the simulator gives a body").as_bytes().to_vec() }
    }

    /// The same with another body under the old signature.
    #[must_use]
    pub fn with_body(&self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self.clone() }
    }

    /// The same with one header changed.
    ///
    /// # Panics
    /// When it has no such header.
    #[must_use]
    pub fn with_header(&self, name: &str, value: &str) -> Self {
        let mut changed = self.without_header(name);
        changed.headers.insert(name.to_owned(), value.to_owned());
        changed
    }

    /// The same without one header.
    ///
    /// # Panics
    /// When it has no such header.
    #[must_use]
    pub fn without_header(&self, name: &str) -> Self {
        let mut changed = self.clone();
        let before = changed.headers.len();
        changed.headers.retain(|other, _| !other.eq_ignore_ascii_case(name));
        assert!(changed.headers.len() < before, "there is no header {name}");
        changed
    }

    /// Sends it.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(&self, http: &Client, url: &str) -> reqwest::Result<Response> {
        let mut request = http.post(url).body(self.body.clone());
        for (name, value) in &self.headers {
            if !name.eq_ignore_ascii_case("content-length") && !name.eq_ignore_ascii_case("host") {
                request = request.header(name, value);
            }
        }
        request.send().await
    }
}
