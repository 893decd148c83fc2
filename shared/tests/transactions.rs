//! Transactions of requests that go away: hyper drops a request's future when its client is gone, wherever it waits.

use chrono::{DateTime, Utc};
use shared::db;
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use std::{future::poll_fn, pin::pin, task::Poll};

/// Where a future can be dropped that begins a transaction: it waits a few times, each for one answer of PostgreSQL.
const WAITS: usize = 8;

/// Drops the future at its wait number `waits`, the first being 0. Answers whether it came to its end before.
async fn drop_after(waits: usize, future: impl Future) -> bool {
    let mut future = pin!(future);
    let mut waited = 0;
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(_) => Poll::Ready(true),
        Poll::Pending if waited == waits => Poll::Ready(false),
        Poll::Pending => {
            waited += 1;
            Poll::Pending
        }
    })
    .await
}

/// When the transaction began that the statement runs in: its own, if none is open.
async fn began_at(pool: &PgPool) -> DateTime<Utc> {
    sqlx::query_scalar("select now()").fetch_one(pool).await.expect("an answer")
}

#[sqlx::test(migrations = false)]
async fn a_request_that_goes_away_while_its_transaction_begins_leaves_none_open(
    options: PgPoolOptions,
    connection: PgConnectOptions,
) {
    // One connection, so that the next one to ask gets that of the request that is gone.
    let pool: PgPool = options.max_connections(1).connect_with(connection).await.expect("a pool");
    let mut dropped = 0;
    for waits in 0..WAITS {
        let has_begun = drop_after(waits, async { db::begin(&pool).await.expect("a transaction") }).await;
        dropped += usize::from(!has_begun);
        let (first, second) = (began_at(&pool).await, began_at(&pool).await);
        assert_ne!(
            first, second,
            "dropped at its wait {waits}, it left its transaction open: nobody commits what comes next"
        );
    }
    assert!(dropped > 0, "it was never dropped in the middle");
}
