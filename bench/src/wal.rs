//! How much was written to the write-ahead log, by everybody on the server.

use serde::{Deserialize, Serialize};
use sqlx::PgPool;

/// Bytes between two places in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Written {
    /// All of it.
    pub bytes: u64,
    /// Of that, images of whole pages: a page's first change after a checkpoint.
    pub page_images: u64,
}

/// A place in the log.
#[derive(Clone, Debug)]
pub struct Place {
    lsn: String,
    images: i64,
}

/// Where the log ends now.
pub async fn now(db: &PgPool) -> anyhow::Result<Place> {
    let (lsn, images): (String, i64) =
        sqlx::query_as("select pg_current_wal_insert_lsn()::text, wal_fpi from pg_stat_wal").fetch_one(db).await?;
    Ok(Place { lsn, images })
}

/// What was written between the two. Images are counted exactly where `pg_walinspect` can be had; where not, each of the
/// images that `pg_stat_wal` counts is taken for a page of 8 KB, which is a little too much.
pub async fn between(db: &PgPool, from: &Place, to: &Place) -> anyhow::Result<Written> {
    let bytes: i64 = sqlx::query_scalar("select pg_wal_lsn_diff($1::pg_lsn, $2::pg_lsn)::bigint")
        .bind(&to.lsn)
        .bind(&from.lsn)
        .fetch_one(db)
        .await?;
    let bytes = u64::try_from(bytes)?;
    let page_images = match inspect(db, from, to).await {
        Ok(images) => u64::try_from(images)?,
        Err(_) => u64::try_from(to.images - from.images)? * 8_192,
    };
    Ok(Written { bytes, page_images: page_images.min(bytes) })
}

async fn inspect(db: &PgPool, from: &Place, to: &Place) -> sqlx::Result<i64> {
    sqlx::query("create extension if not exists pg_walinspect").execute(db).await?;
    sqlx::query_scalar("select coalesce(sum(fpi_size), 0)::bigint from pg_get_wal_stats($1::pg_lsn, $2::pg_lsn)")
        .bind(&from.lsn)
        .bind(&to.lsn)
        .fetch_one(db)
        .await
}
