//! `ops refund …`

mod abnormal;
mod create;
mod dead_letter;
mod list;
mod retry;

use anyhow::ensure;
use shared::{
    config::{self, DatabaseConfig, Env, Faults},
    db,
    notify::Ladder,
    refunds::Refund,
    wechat::{Client, KeyRing, Merchant, Opener},
};
use sqlx::PgPool;
use std::{
    io::{IsTerminal, stdin},
    sync::Arc,
};

/// What to do with refunds.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Refund an order: all that is left of it, or a part. The points go back first.
    Create(create::Arguments),
    /// List refunds, the newest first.
    List(list::Arguments),
    /// Show one refund.
    Show(list::One),
    /// Have refunds looked at now: dead letters whose cause is gone, or those that wait.
    Retry(retry::Arguments),
    /// List the refunds that the payer's account cannot take, and settle them.
    Abnormal(abnormal::Arguments),
    /// Give back money that settled no order, from the dead letter that told of it.
    DeadLetter(dead_letter::Arguments),
}

/// Does it.
pub async fn run(command: Command, env: &mut Env) -> anyhow::Result<()> {
    match command {
        Command::Create(arguments) => create::run(&arguments, &open(&crate::read(env, config::database)?).await?).await,
        Command::List(arguments) => list::run(&arguments, &open(&crate::read(env, config::database)?).await?).await,
        Command::Show(one) => list::show(&one, &open(&crate::read(env, config::database)?).await?).await,
        Command::Retry(arguments) => retry::run(&arguments, &open(&crate::read(env, config::database)?).await?).await,
        Command::Abnormal(arguments) => abnormal::run(&arguments, env).await,
        Command::DeadLetter(arguments) => dead_letter::run(&arguments, Desk::open(env).await?).await,
    }
}

/// What is needed to speak with WeChat Pay, and to read what it sent.
struct Desk {
    db: PgPool,
    wechat: Client,
    opener: Opener,
    ladder: Ladder,
}

/// The variables of a [`Desk`].
pub fn desk(env: &mut Env) -> Option<(DatabaseConfig, (Merchant, KeyRing), Ladder)> {
    let (database, merchant, ladder) = (config::database(env), config::merchant(env), config::ladder(env));
    Some((database?, merchant?, ladder?))
}

impl Desk {
    async fn open(env: &mut Env) -> anyhow::Result<Self> {
        let (database, (merchant, keys), ladder) = crate::read(env, desk)?;
        let (merchant, keys) = (Arc::new(merchant), Arc::new(keys));
        let wechat = Client::new(Arc::clone(&merchant), Arc::clone(&keys))?;
        if let Err(error) = wechat.load_certificates().await {
            ensure!(!keys.is_empty(), "WeChat Pay's certificates cannot be loaded: {error}");
            eprintln!("ops: WeChat Pay's certificates cannot be loaded, only its public key is known: {error}");
        }
        Ok(Self { db: self::open(&database).await?, wechat, opener: Opener::new(merchant, keys), ladder })
    }
}

async fn open(database: &DatabaseConfig) -> anyhow::Result<PgPool> {
    let db = db::pool(database, "recharge ops", 1);
    db::check_schema(&db).await?;
    Ok(db)
}

fn ladder(env: &mut Env) -> Result<(DatabaseConfig, Ladder), Faults> {
    crate::read(env, |env| config::database(env).zip(config::ladder(env)))
}

/// Whether the person at the terminal wants it.
fn is_confirmed(yes: bool) -> anyhow::Result<bool> {
    if yes {
        return Ok(true);
    }
    ensure!(stdin().is_terminal(), "this is no terminal, so nobody can be asked: say --yes");
    eprint!("Do it? [y/N] ");
    let mut answer = String::new();
    stdin().read_line(&mut answer)?;
    let wanted = matches!(answer.trim(), "y" | "Y" | "yes");
    if !wanted {
        println!("nothing was done");
    }
    Ok(wanted)
}

/// A reason that the payer sees.
fn shown_reason(text: &str) -> Result<String, &'static str> {
    let sound = (1..=80).contains(&text.len()) && !text.trim().is_empty() && !text.contains(char::is_control);
    if sound { Ok(text.to_owned()) } else { Err("a text of 1 to 80 bytes") }
}

fn say_begun(refund: &Refund) {
    println!("refund {} of {} fen is {}", refund.refund_no, refund.amount.get(), refund.status.as_str());
    println!("the workers take it from here: ops refund show {}", refund.refund_no);
}
