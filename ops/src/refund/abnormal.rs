//! `ops refund abnormal`

use super::{Desk, is_confirmed, ladder, open};
use crate::table;
use anyhow::Context;
use chrono::TimeDelta;
use shared::{
    clock,
    config::{self, Env},
    notify::retry::By,
    orders::OrderNo,
    refunds::{
        Refund, RefundNo, RefundStatus,
        by_hand::{End, redirect, settle},
        search::{Filter, page},
    },
    users::UserId,
};

/// Refunds that are listed at most.
const MAX_LISTED: i64 = 1_000;

/// List them, or settle one.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Have WeChat Pay send the money to the merchant's own account, from where it is paid out by hand
    Redirect {
        /// Its number
        refund_no: RefundNo,
        /// Why, for the audit log
        #[arg(long)]
        reason: Option<String>,
        #[command(flatten)]
        deed: Deed,
    },
    /// Say how it ended outside this service; the points follow
    Settle {
        /// Its number
        refund_no: RefundNo,
        /// success: the payer has the money; closed: the payer does not get it, and the points are given back
        #[arg(long = "as", value_enum)]
        end: Ended,
        /// Why, for the audit log
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        deed: Deed,
    },
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Ended {
    Success,
    Closed,
}

/// On whose behalf.
#[derive(Debug, clap::Args)]
struct Deed {
    /// Who, for the audit log
    #[arg(long, default_value = "ops")]
    by: UserId,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Lists them, or settles one.
pub async fn run(arguments: &Arguments, env: &mut Env) -> anyhow::Result<()> {
    match &arguments.command {
        None => list(env).await,
        Some(Command::Redirect { refund_no, reason, deed }) => {
            let Desk { db, wechat, ladder, .. } = Desk::open(env).await?;
            println!("the money of refund {refund_no} goes to the merchant's own account; pay it out by hand then");
            if !is_confirmed(deed.yes)? {
                return Ok(());
            }
            let by = By { actor: &deed.by, reason: reason.as_deref() };
            let done = redirect(&db, &wechat, by, refund_no, ladder).await;
            say(&done
                .context("the refund was not redirected, as far as is known; the workers ask what became of it")?);
            Ok(())
        }
        Some(Command::Settle { refund_no, end, reason, deed }) => {
            let (database, ladder) = ladder(env)?;
            let (end, what) = match end {
                Ended::Success => (End::Success, "counts as paid back, and its points stay taken"),
                Ended::Closed => (End::Closed, "counts as never paid back, and its points are given back"),
            };
            println!("refund {refund_no} {what}");
            if !is_confirmed(deed.yes)? {
                return Ok(());
            }
            let by = By { actor: &deed.by, reason: Some(reason) };
            let done = settle(&open(&database).await?, by, refund_no, end, ladder).await;
            say(&done.context("the refund cannot be settled")?);
            Ok(())
        }
    }
}

async fn list(env: &mut Env) -> anyhow::Result<()> {
    let db = open(&crate::read(env, config::database)?).await?;
    let filter = Filter { status: Some(RefundStatus::Abnormal), order_no: None };
    let refunds = page(&db, &filter, None, MAX_LISTED).await.context("the refunds cannot be read")?;
    if refunds.is_empty() {
        println!("no refund is abnormal");
        return Ok(());
    }
    let now = clock::now();
    let rows: Vec<_> = refunds
        .iter()
        .map(|refund| {
            [
                refund.refund_no.to_string(),
                refund.order_no.as_ref().map_or("-".into(), OrderNo::to_string),
                refund.amount.get().to_string(),
                age(now - refund.created_at),
                refund.wechat_refund_id.clone().unwrap_or_default(),
            ]
        })
        .collect();
    table::print(["REFUND", "ORDER", "FEN", "AGE", "AT WECHAT PAY"], &rows);
    println!(
        "\nThe payer's account cannot take the money. Settle it on WeChat Pay's merchant platform (a bank card of the"
    );
    println!("payer's), and it ends here by itself; or send it to the merchant's own account and pay by hand:");
    println!("    ops refund abnormal redirect REFUND --reason …");
    println!("When it was settled where WeChat Pay does not know of it:");
    println!("    ops refund abnormal settle REFUND --as success|closed --reason …");
    println!("Never start a second refund of it.");
    Ok(())
}

fn say(refund: &Refund) {
    println!("refund {} is {}", refund.refund_no, refund.status.as_str());
}

/// In the largest unit that says something.
fn age(age: TimeDelta) -> String {
    match (age.num_days(), age.num_hours(), age.num_minutes()) {
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, _) => format!("{hours} h"),
        (days, ..) => format!("{days} d"),
    }
}
