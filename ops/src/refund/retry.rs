//! `ops refund retry`

use anyhow::{Context, ensure};
use shared::{
    notify::retry::By,
    refunds::{
        RefundNo,
        by_hand::retry,
        sql::{dead, find},
    },
    users::UserId,
};
use sqlx::PgPool;

/// Dead letters that one command wakes; again for more.
const MAX_AT_ONCE: i64 = 1_000;

/// Which refunds, and on whose behalf.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Their numbers
    #[arg(required_unless_present = "all_dead", conflicts_with = "all_dead")]
    refund_nos: Vec<RefundNo>,
    /// All that were given up, the oldest 1000
    #[arg(long)]
    all_dead: bool,
    /// Why, for the audit log
    #[arg(long)]
    reason: Option<String>,
    /// Who, for the audit log
    #[arg(long, default_value = "ops")]
    by: UserId,
}

/// Has them looked at.
pub async fn run(arguments: &Arguments, db: &PgPool) -> anyhow::Result<()> {
    let wanted = if arguments.all_dead { dead(db, MAX_AT_ONCE).await? } else { arguments.refund_nos.clone() };
    let by = By { actor: &arguments.by, reason: arguments.reason.as_deref() };
    let woken = retry(db, by, &wanted).await.context("the refunds cannot be woken")?;
    for refund_no in &woken {
        println!("{refund_no} is looked at now");
    }
    let mut unknown = 0;
    for refund_no in wanted.iter().filter(|refund_no| !woken.contains(refund_no)) {
        if let Some(refund) = find(db, refund_no).await? {
            println!("{refund_no} is {}: nothing is left to try", refund.status.as_str());
        } else {
            eprintln!("ops: there is no refund {refund_no}");
            unknown += 1;
        }
    }
    if wanted.is_empty() {
        println!("no refund is dead");
    }
    ensure!(unknown == 0, "{unknown} of them are not known");
    Ok(())
}
