//! `ops refund create`

use super::{is_confirmed, say_begun, shown_reason};
use shared::{
    money::Fen,
    orders::OrderNo,
    refunds::create::{CreateError, Preview, Request, create, preview},
    users::UserId,
};
use sqlx::PgPool;

/// Of which order, how much, and on whose behalf.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The order's number
    order_no: OrderNo,
    /// How much, in fen [default: all that is left]
    #[arg(long, value_name = "FEN", value_parser = clap::value_parser!(i64).range(1..))]
    amount: Option<i64>,
    /// Why; the payer sees it
    #[arg(long, value_parser = shown_reason)]
    reason: Option<String>,
    /// Take the points although the user has spent them
    #[arg(long)]
    allow_negative_balance: bool,
    /// Who, for the audit log
    #[arg(long, default_value = "ops")]
    by: UserId,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Says what it would do, asks, and does it.
pub async fn run(arguments: &Arguments, db: &PgPool) -> anyhow::Result<()> {
    let request = Request {
        order_no: &arguments.order_no,
        amount: arguments.amount.map(Fen::try_from).transpose()?,
        reason: arguments.reason.as_deref(),
        allow_negative_balance: arguments.allow_negative_balance,
        requested_by: &arguments.by,
    };
    let Preview { user_id, amount, points, balance_after } = preview(db, &request).await.map_err(explained)?;
    println!("{} fen of order {} go back to the payer", amount.get(), arguments.order_no);
    println!("{points} points are taken from {user_id}, who has {balance_after} left then");
    if !is_confirmed(arguments.yes)? {
        return Ok(());
    }
    // Exactly what was agreed to, although more may be left by now.
    let agreed = Request { amount: Some(amount), ..request };
    say_begun(&create(db, &agreed, None).await.map_err(explained)?.refund());
    Ok(())
}

fn explained(error: CreateError) -> anyhow::Error {
    match error {
        CreateError::InsufficientPoints(_) => {
            anyhow::Error::new(error).context("the user has spent the points; --allow-negative-balance takes them")
        }
        error => anyhow::Error::new(error).context("the order cannot be refunded"),
    }
}
