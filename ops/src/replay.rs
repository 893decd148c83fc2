//! `ops replay`

use crate::duration::Instant;
use anyhow::{Context, ensure};
use shared::{
    config::DatabaseConfig,
    db,
    notify::retry::By,
    orders::OrderNo,
    replay::{Change, Replay, Scope, Set, State},
    users::UserId,
    wechat::{Client, KeyRing, Merchant, Opener},
};
use std::{process::ExitCode, sync::Arc};

/// Nothing would change as far as can be told, which is not all the way.
const UNCLEAR: u8 = 2;

/// Which notifications, and whether what changes is kept.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Those that came then or later: a time (RFC 3339), or so long ago, such as 2h
    #[arg(long)]
    from: Instant,
    /// Those that came before: a time, or so long ago
    #[arg(long)]
    to: Instant,
    /// Those that name this order
    #[arg(long = "order")]
    order_no: Option<OrderNo>,
    /// Do what would be done
    #[arg(long)]
    apply: bool,
    /// Why, for the audit log
    #[arg(long)]
    reason: Option<String>,
    /// Who, for the audit log
    #[arg(long, default_value = "ops")]
    by: UserId,
}

/// Runs stored notifications through today's code, and says what would change.
pub async fn run(
    arguments: &Arguments,
    database: &DatabaseConfig,
    merchant: (Merchant, KeyRing),
) -> anyhow::Result<ExitCode> {
    ensure!(arguments.from.0 < arguments.to.0, "--from must be before --to");
    let db = db::pool(database, "recharge ops", 1);
    db::check_schema(&db).await?;
    let opener = opener(merchant).await?;
    let scope = Scope { from: arguments.from.0, to: arguments.to.0, order_no: arguments.order_no.clone() };
    let by = By { actor: &arguments.by, reason: arguments.reason.as_deref() };
    let mut replay = Replay::new(&db, opener, scope, arguments.apply.then_some(by));
    let (mut all, mut changes, mut applied) = (Set::default(), 0, 0);
    while let Some(set) = replay.next().await.context("the replay is not complete")? {
        set.changes.iter().for_each(print);
        all.notifications += set.notifications;
        all.unclear += set.unclear;
        changes += set.changes.len();
        applied += set.changes.iter().filter(|change| change.applied).count();
    }
    if changes > applied {
        let rest = changes - applied;
        let why = if arguments.apply { "was good and would be refused: for you to look at" } else { "would change" };
        eprintln!("{rest} of {} {why}", all.notifications);
    }
    if all.unclear > 0 {
        eprintln!("{} cannot be judged: the keys they need are not here, or the database was busy", all.unclear);
    }
    Ok(match (changes > applied, all.unclear > 0) {
        (true, _) => ExitCode::FAILURE,
        (false, true) => ExitCode::from(UNCLEAR),
        (false, false) => ExitCode::SUCCESS,
    })
}

/// With the key of public-key mode and all certificates that can be had.
async fn opener((merchant, keys): (Merchant, KeyRing)) -> anyhow::Result<Opener> {
    let (merchant, keys) = (Arc::new(merchant), Arc::new(keys));
    let loaded = Client::new(Arc::clone(&merchant), Arc::clone(&keys))?.load_certificates().await;
    if keys.is_empty() {
        loaded.context("there is no key to verify with: WeChat Pay's certificates cannot be loaded")?;
    }
    Ok(Opener::new(merchant, keys))
}

fn print(change: &Change) {
    let order = change.order_no.as_ref().map_or("no order", OrderNo::as_str);
    let moved: Vec<_> = change.movements.iter().map(|(user, _, points)| format!("{points:+} for {user}")).collect();
    let moved = if moved.is_empty() { String::new() } else { format!("  {}", moved.join(", ")) };
    let done = if change.applied { "  applied" } else { "" };
    println!("{}  {order}  {} → {}{moved}{done}", change.id, said(&change.was), said(&change.is));
}

fn said(state: &State) -> String {
    match &state.error_code {
        Some(code) => format!("{} ({code})", state.status.as_str()),
        None => state.status.as_str().to_owned(),
    }
}
