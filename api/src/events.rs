//! A live order: server-sent events (HTML Living Standard §9.2) with the order as it is now, and again at each change.

use crate::{
    app::App,
    auth::User,
    error::ApiError,
    extract::{Nothing, Path, Query},
    live::{Snapshot, Watching},
    openapi::{ForAnyone, ForFields, ForIds, OrderNoParam},
    orders::find,
};
use axum::{
    extract::State,
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use futures_util::stream;
use shared::orders::OrderNo;
use std::{convert::Infallible, ops::Range, sync::Arc, time::Duration};
use tokio::time::Instant;

/// Proxies close what is silent; half a minute is usual.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// When a client should come back after its stream broke, in milliseconds. Not all at once.
const RETRY_MS: Range<u64> = 1_000..3_000;
/// A stream ends after this, and its client comes back for the rest: a connection whose other end is gone without a word
/// is not kept for ever, nor a token that was good once.
const MAX_AGE: Duration = Duration::from_hours(1);
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Tells nginx to pass on each event as it comes.
const NO_BUFFERING: (HeaderName, &str) = (HeaderName::from_static("x-accel-buffering"), "no");

/// `GET /api/payment/orders/{orderNo}/events`
///
/// A client that comes back with `Last-Event-ID` is told only what it does not have. When that is nothing, now and for
/// ever, the answer is 204: the standard's word for "do not come back".
#[utoipa::path(get, summary = "A live order", path = "/api/payment/orders/{orderNo}/events", tag = "orders", security(("bearer" = [])),
    params(OrderNoParam, ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that the client has")),
    responses(
        (status = 200, description = "Server-sent events: `order` with the order, now and at each change; ends at a final state", body = String, content_type = "text/event-stream"),
        (status = 204, description = "The client has all there will ever be"),
        ForAnyone, ForFields, ForIds,
    ))]
pub async fn order(
    State(app): State<Arc<App>>,
    caller: User,
    Path(order_no): Path<String>,
    Query(Nothing): Query<Nothing>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let parsed: OrderNo = order_no.parse().map_err(|_| ApiError::NotFound("order"))?;
    // Before the order is read: what changes in between is then told, not missed.
    let watching = app.live.watch(parsed, caller.id())?;
    let now = Snapshot::of(find(&app, &caller, &order_no).await?);
    watching.has(&now);
    let has = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()?.parse::<i64>().ok());
    let is_new = has != Some(now.id());
    if now.is_final() && !is_new {
        return Ok((StatusCode::NO_CONTENT, [(header::CACHE_CONTROL, "no-store")]).into_response());
    }
    let id = now.id();
    let stream = Stream {
        watching,
        id,
        unsent: is_new.then_some(now),
        begun: false,
        ended: false,
        until: Instant::now() + MAX_AGE,
    };
    let events = Sse::new(stream::unfold(stream, Stream::step)).keep_alive(KeepAlive::new().interval(HEARTBEAT));
    Ok(([(header::CACHE_CONTROL, "no-store"), NO_BUFFERING], events).into_response())
}

/// One client's stream. Asked for the next event only when the client has taken those before, so a slow one misses
/// states in between, and holds nothing.
struct Stream {
    watching: Watching,
    /// What the client has.
    id: i64,
    /// What it does not have, as far as is known without waiting.
    unsent: Option<Snapshot>,
    begun: bool,
    ended: bool,
    until: Instant,
}

impl Stream {
    async fn step(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        if self.ended {
            return None;
        }
        if !self.begun {
            // Says something at once, although there may be nothing new, so that every proxy on the way lets it through.
            self.begun = true;
            let retry = Duration::from_millis(rand::random_range(RETRY_MS));
            return Some((Ok(Event::default().retry(retry)), self));
        }
        let snapshot = match self.unsent.take() {
            Some(snapshot) => snapshot,
            None => tokio::time::timeout_at(self.until, self.watching.next(self.id)).await.ok()??,
        };
        self.id = snapshot.id();
        self.ended = snapshot.is_final();
        let event = Event::default().event("order").id(self.id.to_string()).data(snapshot.json());
        Some((Ok(event), self))
    }
}
