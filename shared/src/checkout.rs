//! Making an order: ours first, then WeChat Pay's, then the code. Whatever dies in between leaves nothing that looks
//! payable and is not.

use crate::{
    orders::{NewOrder, Order, sql},
    wechat::{self, NativeOrder},
};
use sqlx::PgPool;

/// An order that has waited this long for its code never gets it: the process that made it is gone. Longer than the
/// deadline of the call.
pub const ABANDONED_AFTER_SECONDS: f64 = 60.0;

/// Why an order came to nothing. It is marked failed, unless the database was what failed.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// WeChat Pay said no.
    #[error("WeChat Pay refused the order")]
    Rejected(#[source] wechat::Error),
    /// No answer that can be used, not even after repeats.
    #[error("WeChat Pay cannot be reached")]
    Unavailable(#[source] wechat::Error),
    /// Our side.
    #[error("the order could not be stored")]
    Database(#[from] sqlx::Error),
}

/// Stores `order`, asks WeChat Pay for its code, and answers the order with it.
///
/// Runs to its end once begun: a caller that hangs up must not leave an order half-made.
///
/// # Errors
/// [`PlaceError`]
pub async fn place(db: &PgPool, wechat: &wechat::Client, order: NewOrder) -> Result<Order, PlaceError> {
    let (db, wechat) = (db.clone(), wechat.clone());
    tokio::spawn(async move { place_uninterrupted(&db, &wechat, order).await })
        .await
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

async fn place_uninterrupted(db: &PgPool, wechat: &wechat::Client, order: NewOrder) -> Result<Order, PlaceError> {
    sql::insert(db, &order).await?;
    let native = NativeOrder {
        out_trade_no: &order.order_no,
        description: &order.package.name,
        total: order.package.amount,
        time_expire: order.expired_at,
    };
    match wechat.place_native(&native).await {
        Ok(code_url) => {
            let order = sql::set_code(db, &order.order_no, &code_url).await?;
            let order = order.ok_or(sqlx::Error::RowNotFound)?;
            tracing::info!(order.no = %order.order_no, "order {} placed", order.order_no);
            Ok(order)
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
