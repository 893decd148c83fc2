//! `ops seed`

use anyhow::Context;
use shared::{config::DatabaseConfig, db, packages};

/// Adds the sample packages.
pub async fn run(database: &DatabaseConfig) -> anyhow::Result<()> {
    let db = db::pool(database, "recharge ops", 1);
    db::check_schema(&db).await?;
    match packages::sql::seed(&db).await.context("the packages cannot be added")? {
        0 => println!("there are packages already; nothing was added"),
        added => println!("{added} sample packages added"),
    }
    Ok(())
}
