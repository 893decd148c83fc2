//! `ops refund list` and `ops refund show`

use crate::table;
use anyhow::Context;
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};
use shared::{
    orders::OrderNo,
    refunds::{
        Refund, RefundNo, RefundStatus,
        search::{Filter, page},
        sql,
    },
};
use sqlx::PgPool;

/// Which refunds, and how to say it.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Those in this state: pending, processing, success, closed, abnormal or failed
    #[arg(long)]
    status: Option<RefundStatus>,
    /// Those of this order
    #[arg(long = "order")]
    order_no: Option<OrderNo>,
    /// The newest so many, 1 to 1000
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=1_000))]
    limit: i64,
    /// Print JSON: {"refunds": [as `show --json` has them]}
    #[arg(long)]
    json: bool,
}

/// Which refund, and how to say it.
#[derive(Debug, clap::Args)]
pub struct One {
    /// Its number
    refund_no: RefundNo,
    /// Print JSON, with the members of the REST API and: origin, transactionId, misdirected, overdrawn, attempts,
    /// nextAttemptAt, dead
    #[arg(long)]
    json: bool,
}

/// Lists them.
pub async fn run(arguments: &Arguments, db: &PgPool) -> anyhow::Result<()> {
    let filter = Filter { status: arguments.status, order_no: arguments.order_no.clone() };
    let refunds = page(db, &filter, None, arguments.limit).await.context("the refunds cannot be read")?;
    if arguments.json {
        println!("{}", json!({"refunds": refunds.iter().map(json_of).collect::<Vec<_>>()}));
    } else {
        print(&refunds);
    }
    Ok(())
}

/// Shows one.
pub async fn show(one: &One, db: &PgPool) -> anyhow::Result<()> {
    let found = sql::find(db, &one.refund_no).await.context("the refund cannot be read")?;
    let refund = found.with_context(|| format!("there is no refund {}", one.refund_no))?;
    let json = json_of(&refund);
    if one.json {
        println!("{json}");
        return Ok(());
    }
    for (name, value) in json.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        println!("{name:<17} {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
    Ok(())
}

/// A line for each.
pub fn print(refunds: &[Refund]) {
    if refunds.is_empty() {
        println!("no refunds");
        return;
    }
    let rows: Vec<_> = refunds
        .iter()
        .map(|refund| {
            [
                refund.refund_no.to_string(),
                refund.order_no.as_ref().map_or("-".into(), OrderNo::to_string),
                refund.amount.get().to_string(),
                (refund.points.get() + refund.bonus_points.get()).to_string(),
                if is_dead(refund) { "dead letter".into() } else { refund.status.as_str().to_owned() },
                time(refund.created_at),
                refund.failure_reason.clone().unwrap_or_default(),
            ]
        })
        .collect();
    table::print(["REFUND", "ORDER", "FEN", "POINTS", "STATUS", "ASKED FOR", "WHY"], &rows);
}

/// At no end, and nobody looks at it any more.
fn is_dead(refund: &Refund) -> bool {
    use RefundStatus as S;
    refund.next_attempt_at.is_none() && matches!(refund.status, S::Pending | S::Processing | S::Abnormal)
}

fn json_of(refund: &Refund) -> Value {
    json!({
        "refundNo": refund.refund_no,
        "orderNo": refund.order_no,
        "origin": refund.origin,
        "amount": refund.amount,
        "currency": refund.currency,
        "points": refund.points.get() + refund.bonus_points.get(),
        "reason": refund.reason,
        "status": refund.status,
        "dead": is_dead(refund),
        "wechatRefundId": refund.wechat_refund_id,
        "transactionId": refund.transaction_id,
        "failureReason": refund.failure_reason,
        "misdirected": refund.misdirected,
        "overdrawn": refund.overdrawn,
        "attempts": refund.attempts,
        "nextAttemptAt": refund.next_attempt_at,
        "createdAt": refund.created_at,
        "updatedAt": refund.updated_at,
        "completedAt": refund.completed_at,
    })
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}
