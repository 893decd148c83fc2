//! A client of server-sent events, as a browser is one.

use crate::SOON;
use reqwest::{Client, Response, StatusCode, header};
use serde_json::Value;
use std::time::Duration;

/// An event, whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// What to come back with.
    pub id: String,
    /// What it says.
    pub data: Value,
}

/// An open stream.
#[derive(Debug)]
pub struct EventStream {
    response: Response,
    unread: Vec<u8>,
}

impl EventStream {
    /// Opens the stream at `url`, as one who has seen the event `last`.
    ///
    /// # Errors
    /// With the status and the body of an answer that is no stream.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn open(http: &Client, url: &str, token: &str, last: Option<&str>) -> Result<Self, (StatusCode, String)> {
        // Longer than any test: a stream has no deadline of its own.
        let request = http.get(url).bearer_auth(token).timeout(Duration::from_mins(10));
        let request = match last {
            Some(id) => request.header("last-event-id", id),
            None => request,
        };
        let response = request.send().await.expect("an answer");
        if response.status() == StatusCode::OK {
            assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
            assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
            assert_eq!(response.headers()["x-accel-buffering"], "no");
            Ok(Self { response, unread: Vec::new() })
        } else {
            Err((response.status(), response.text().await.expect("a body")))
        }
    }

    /// The next event with data; `None` at the stream's end.
    ///
    /// # Panics
    /// When neither comes soon, or the stream breaks.
    pub async fn next(&mut self) -> Option<Event> {
        tokio::time::timeout(SOON, self.read()).await.expect("an event, or the end, in time")
    }

    /// The next event's payment status; `None` at the stream's end.
    pub async fn status(&mut self) -> Option<String> {
        let event = self.next().await?;
        assert_eq!(event.name, "order");
        Some(event.data["paymentStatus"].as_str().expect("a status").to_owned())
    }

    async fn read(&mut self) -> Option<Event> {
        loop {
            while let Some(end) = self.unread.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = self.unread.drain(..end + 2).collect();
                if let Some(event) = parse(std::str::from_utf8(&block).expect("UTF-8")) {
                    return Some(event);
                }
            }
            match self.response.chunk().await.expect("a stream that does not break") {
                Some(chunk) => self.unread.extend_from_slice(&chunk),
                None => return None,
            }
        }
    }
}

/// `None` for what says nothing: a comment, a time to come back.
fn parse(block: &str) -> Option<Event> {
    let field = |name: &str| {
        let value = block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(value.strip_prefix(' ').unwrap_or(value).to_owned())
    };
    let data = serde_json::from_str(&field("data")?).expect("an event's data is JSON");
    Some(Event { name: field("event").unwrap_or_default(), id: field("id").unwrap_or_default(), data })
}
