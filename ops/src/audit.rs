//! `ops audit`

use crate::{duration, table};
use anyhow::Context;
use chrono::TimeDelta;
use shared::{
    books::{Audit, Check, sql::audit},
    config::DatabaseConfig,
    db,
};
use std::process::ExitCode;

/// How to say it, and what to tolerate.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Print JSON: {"ok", "checks": [{"name", "about", "violations", "samples"}], "at"}
    #[arg(long)]
    json: bool,
    /// How long after its time a notification may still be unfinished: a number and s, m, h or d
    #[arg(long, default_value = "60s", value_parser = duration::parse)]
    grace: TimeDelta,
}

/// Balances the books; fails when they do not add up.
pub async fn run(arguments: &Arguments, database: &DatabaseConfig) -> anyhow::Result<ExitCode> {
    let db = db::pool(database, "recharge ops", 1);
    db::check_schema(&db).await?;
    let audit = audit(&db, arguments.grace).await.context("the books cannot be read")?;
    if arguments.json {
        println!("{}", serde_json::to_string(&audit)?);
    } else {
        print(&audit);
    }
    Ok(if audit.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(audit: &Audit) {
    let rows: Vec<_> = audit.checks.iter().map(|check| [check.name.into(), result(check), samples(check)]).collect();
    table::print(["CHECK", "RESULT", "SUCH AS"], &rows);
    for Check { name, about, .. } in audit.checks.iter().filter(|check| check.violations > 0) {
        println!("{name}: it should be that {about}");
    }
}

fn result(check: &Check) -> String {
    match check.violations {
        0 => "ok".into(),
        1 => "1 violation".into(),
        violations => format!("{violations} violations"),
    }
}

fn samples(check: &Check) -> String {
    let more = usize::try_from(check.violations).unwrap_or(usize::MAX) > check.samples.len();
    format!("{}{}", check.samples.join(", "), if more { ", …" } else { "" })
}
