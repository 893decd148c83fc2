//! `ops dead-letters`

use crate::table;
use anyhow::Context;
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};
use shared::{
    config::DatabaseConfig,
    db,
    notify::{
        causes::{Cause, dead_letters},
        remedy::remedy,
    },
    orders::OrderNo,
};

/// How to say it.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Print JSON: {"total", "causes": [{"errorCode", "notifications", "oldest", "newest", "exampleId", "exampleOrderNo",
    /// "remedy"}]}
    #[arg(long)]
    json: bool,
}

/// Says what is dead, why, and what to do about it.
pub async fn run(arguments: &Arguments, database: &DatabaseConfig) -> anyhow::Result<()> {
    let db = db::pool(database, "recharge ops", 1);
    db::check_schema(&db).await?;
    let causes = dead_letters(&db).await.context("the dead letters cannot be read")?;
    if arguments.json {
        let total: i64 = causes.iter().map(|cause| cause.notifications).sum();
        println!("{}", json!({"total": total, "causes": causes.iter().map(json_of).collect::<Vec<_>>()}));
    } else if causes.is_empty() {
        println!("no dead letters");
    } else {
        print(&causes);
        for Cause { error_code, .. } in &causes {
            println!("\n{error_code}: {}", remedy(error_code));
        }
        println!("\nWhen a cause is gone: ops retry-notify --error-code CODE");
    }
    Ok(())
}

/// A line for each cause.
pub fn print(causes: &[Cause]) {
    let rows: Vec<_> = causes
        .iter()
        .map(|cause| {
            [
                cause.error_code.clone(),
                cause.notifications.to_string(),
                time(cause.oldest),
                time(cause.newest),
                cause.example.to_string(),
                cause.example_order.as_ref().map_or("-".into(), OrderNo::to_string),
            ]
        })
        .collect();
    table::print(["ERROR CODE", "HOW MANY", "OLDEST", "NEWEST", "SUCH AS", "ORDER"], &rows);
}

fn json_of(cause: &Cause) -> Value {
    json!({
        "errorCode": cause.error_code,
        "notifications": cause.notifications,
        "oldest": cause.oldest,
        "newest": cause.newest,
        "exampleId": cause.example,
        "exampleOrderNo": cause.example_order,
        "remedy": remedy(&cause.error_code),
    })
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}
