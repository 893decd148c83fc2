//! `ops refund dead-letter`

use super::{Desk, is_confirmed, say_begun, shown_reason};
use anyhow::Context;
use shared::{
    notify::{NotifyId, retry::By},
    refunds::dead_letter::{DeadMoney, GivenBack, give_money_back, look},
    users::UserId,
};

/// Which one, and on whose behalf.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The notification's id; see `ops dead-letters`
    id: NotifyId,
    /// Why; the payer sees it
    #[arg(long, value_parser = shown_reason)]
    reason: Option<String>,
    /// Who, for the audit log
    #[arg(long, default_value = "ops")]
    by: UserId,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Says what it would do, asks, and does it.
pub async fn run(arguments: &Arguments, Desk { db, opener, .. }: Desk) -> anyhow::Result<()> {
    let refused = || format!("the money of {} cannot be given back", arguments.id);
    let DeadMoney { error_code, payment } = look(&db, &opener, arguments.id).await.with_context(refused)?;
    let (fen, transaction_id, order_no) = (payment.amount.get(), payment.transaction_id.as_str(), &payment.order_no);
    println!("{} is dead: {}", arguments.id, error_code.as_deref().unwrap_or("it was, and is dealt with"));
    println!("payment {transaction_id} of {fen} fen for order {order_no} goes back to its payer; no points move");
    if !is_confirmed(arguments.yes)? {
        return Ok(());
    }
    let by = By { actor: &arguments.by, reason: arguments.reason.as_deref() };
    match give_money_back(&db, &opener, by, arguments.id).await.with_context(refused)? {
        GivenBack::Now(refund) => say_begun(&refund),
        GivenBack::Before(refund) => {
            println!("refund {} of it is {}: nothing is left to do", refund.refund_no, refund.status.as_str());
        }
    }
    Ok(())
}
