//! Making an order: ours first, then WeChat Pay's, then the code. Whatever dies in between leaves nothing that looks
//! payable and is not.

use super::idempotency::{Claim, Key};
use crate::{
    crash, db,
    orders::{NewOrder, Order, OrderNo, PaymentStatus, sql},
    users::UserId,
    wechat::{self, NativeOrder},
};
use sqlx::PgPool;
use std::{num::NonZeroU32, time::Duration};
use tokio::time::Instant;

/// An order that has waited this long for its code never gets it: the process that made it is gone. Longer than the
/// deadline of the call.
pub const ABANDONED_AFTER_SECONDS: f64 = 60.0;
/// How long a repeat waits for the code that the first request is fetching.
const REPEAT_DEADLINE: Duration = Duration::from_secs(15);
/// Between two looks at it: this at first, then twice as long each time, up to the longest. When its process has died nobody
/// fetches it, and all who repeat would keep the database busy.
const REPEAT_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_REPEAT_PAUSE: Duration = Duration::from_secs(1);

/// Why an order came to nothing. It is marked failed, unless the database was what failed.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The key stands for another request.
    #[error("this idempotency key was used with another request")]
    KeyConflict,
    /// The user has so many orders to pay for already.
    #[error("the user has {0} open orders")]
    TooManyOpen(NonZeroU32),
    /// WeChat Pay said no.
    #[error("WeChat Pay refused the order")]
    Rejected(#[source] wechat::Error),
    /// No answer that can be used, not even after repeats.
    #[error("WeChat Pay cannot be reached")]
    Unavailable(#[source] wechat::Error),
    /// The first request with this key is still waiting for its code.
    #[error("an equal request is still under way")]
    UnderWay,
    /// Our side.
    #[error("the order could not be stored")]
    Database(#[from] sqlx::Error),
}

/// An order that was asked for.
#[derive(Debug)]
pub enum Placed {
    /// It was made now.
    New(Order),
    /// An equal request with the same key made it before.
    Repeated(Order),
}

/// Stores `order`, asks WeChat Pay for its code, and answers the order with it; or answers the order that an equal request
/// with the same `key` made. One whose code could not be had is made anew. A user may have `max_open` orders to pay for.
///
/// Runs to its end once begun: a caller that hangs up must not leave an order half-made.
///
/// # Errors
/// [`PlaceError`]
pub async fn place(
    db: &PgPool,
    wechat: &wechat::Client,
    order: NewOrder,
    key: Option<Key>,
    max_open: Option<NonZeroU32>,
) -> Result<Placed, PlaceError> {
    let (db, wechat) = (db.clone(), wechat.clone());
    tokio::spawn(async move { Box::pin(place_uninterrupted(&db, &wechat, order, key, max_open)).await })
        .await
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

async fn place_uninterrupted(
    db: &PgPool,
    wechat: &wechat::Client,
    order: NewOrder,
    key: Option<Key>,
    max_open: Option<NonZeroU32>,
) -> Result<Placed, PlaceError> {
    match store(db, &order, key.as_ref(), max_open).await? {
        None => {
            crash::point("order stored", order.order_no.as_str());
            fetch_code(db, wechat, &order).await.map(Placed::New)
        }
        Some(first) => Ok(Placed::Repeated(first)),
    }
}

/// Stores the order, or answers the one that the key stands for.
async fn store(
    db: &PgPool,
    order: &NewOrder,
    key: Option<&Key>,
    max_open: Option<NonZeroU32>,
) -> Result<Option<Order>, PlaceError> {
    let deadline = Instant::now() + REPEAT_DEADLINE;
    let mut pause = REPEAT_PAUSE;
    let mut failed: Option<OrderNo> = None;
    loop {
        let mut tx = db::begin(db).await?;
        if max_open.is_some() {
            sql::lock_user(&mut tx, &order.user_id).await?;
        }
        let claim = match (key, &failed) {
            (None, _) => Claim::New,
            (Some(key), Some(failed)) if key.replace(&mut tx, failed.as_str(), order.order_no.as_str()).await? => {
                Claim::New
            }
            (Some(key), _) => key.claim(&mut tx, order.order_no.as_str()).await?,
        };
        let first = match claim {
            Claim::New => {
                if let Some(most) = max_open
                    && sql::count_open(&mut tx, &order.user_id).await? >= i64::from(most.get())
                {
                    return Err(PlaceError::TooManyOpen(most));
                }
                sql::insert(&mut *tx, order).await?;
                tx.commit().await?;
                return Ok(None);
            }
            Claim::Conflict => return Err(PlaceError::KeyConflict),
            Claim::Same(number) => number,
        };
        drop(tx);
        let first = find_first(db, &order.user_id, &first).await?;
        match (first.status, &first.code_url) {
            (PaymentStatus::Failed, _) => failed = Some(first.order_no),
            (PaymentStatus::Pending, None) if Instant::now() < deadline => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_REPEAT_PAUSE);
            }
            (PaymentStatus::Pending, None) => return Err(PlaceError::UnderWay),
            _ => return Ok(Some(first)),
        }
    }
}

/// The order that an equal request with the same key made, when it came to something. For a repeat nothing else counts:
/// not even that its package is gone by now.
///
/// # Errors
/// [`PlaceError::KeyConflict`], or what PostgreSQL says.
pub async fn find_repeated(db: &PgPool, key: &Key) -> Result<Option<Order>, PlaceError> {
    match key.standing(db).await? {
        Claim::New => Ok(None),
        Claim::Conflict => Err(PlaceError::KeyConflict),
        Claim::Same(number) => {
            let first = find_first(db, &key.user_id, &number).await?;
            let is_whole = first.code_url.is_some() && first.status != PaymentStatus::Failed;
            Ok(Some(first).filter(|_| is_whole))
        }
    }
}

async fn find_first(db: &PgPool, user_id: &UserId, number: &str) -> sqlx::Result<Order> {
    let number = number.parse::<OrderNo>().map_err(|_| sqlx::Error::RowNotFound)?;
    sql::find(db, &number, sql::Scope::Own(user_id)).await?.ok_or(sqlx::Error::RowNotFound)
}

async fn fetch_code(db: &PgPool, wechat: &wechat::Client, order: &NewOrder) -> Result<Order, PlaceError> {
    let native = NativeOrder {
        out_trade_no: &order.order_no,
        description: &order.package.name,
        total: order.package.amount,
        time_expire: order.expired_at,
    };
    let placed = wechat.place_native(&native).await;
    crash::point("order placed", order.order_no.as_str());
    match placed {
        Ok(code_url) => {
            let stored = match sql::set_code(db, &order.order_no, &code_url).await? {
                Some(order) => Some(order),
                // Its buyer has cancelled it meanwhile: the order is as it is.
                None => sql::find(db, &order.order_no, sql::Scope::All).await?,
            };
            crash::point("order coded", order.order_no.as_str());
            tracing::info!(order.no = %order.order_no, "order {} placed", order.order_no);
            Ok(stored.ok_or(sqlx::Error::RowNotFound)?)
        }
        Err(error) => {
            // Should this fail too, the worker's sweep ends the order.
            sql::fail_without_code(db, &order.order_no).await?;
            Err(match error {
                wechat::Error::Unknown(_) => PlaceError::Unavailable(error),
                _ => PlaceError::Rejected(error),
            })
        }
    }
}
