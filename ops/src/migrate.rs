//! `ops migrate`

use anyhow::Context;
use shared::{config::DatabaseConfig, db};

/// Creates the database when it is missing, and brings its schema up to this build.
pub async fn run(database: &DatabaseConfig) -> anyhow::Result<()> {
    db::migrate(database).await.context("the schema cannot be upgraded")?;
    println!("the schema is up to date");
    Ok(())
}
