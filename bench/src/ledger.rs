//! The ledger's entries of some orders. They are found by the unique index on the credited order, so looking costs the same
//! however long the ledger is.

use crate::{installation::Installation, observer::Sightings};
use anyhow::{Context, ensure};
use std::{
    ops::Range,
    time::{Duration, Instant},
};

/// How long all credits may take once nothing new comes.
const PATIENCE: Duration = Duration::from_mins(1);

/// How many of the orders are credited.
async fn count(installation: &Installation, orders: &Range<u64>) -> anyhow::Result<u64> {
    let numbers = &installation.numbers;
    let count: i64 = sqlx::query_scalar(
        "select count(*) from point_entries where kind = 'recharge' and order_no >= $1 and order_no < $2",
    )
    .bind(numbers.order_no(orders.start))
    .bind(numbers.order_no(orders.end))
    .fetch_one(&installation.db)
    .await?;
    Ok(u64::try_from(count)?)
}

/// Waits until all of the orders are credited. Looks rarely enough to cost a twentieth of one core at most.
pub async fn wait_for(installation: &Installation, orders: &Range<u64>) -> anyhow::Result<()> {
    let (mut best, mut since) = (0, Instant::now());
    let wanted = orders.end - orders.start;
    loop {
        let begun = Instant::now();
        let credited = count(installation, orders).await?;
        if credited >= wanted {
            return Ok(());
        }
        if credited > best {
            (best, since) = (credited, Instant::now());
        }
        ensure!(since.elapsed() < PATIENCE, "{credited} of {wanted} are credited, and no more come");
        tokio::time::sleep((begun.elapsed() * 19).max(Duration::from_millis(20))).await;
    }
}

/// By when each of the orders was credited, nanoseconds since 1970.
pub async fn credits(
    installation: &Installation,
    orders: &Range<u64>,
    sightings: &Sightings,
) -> anyhow::Result<Vec<(u64, u64)>> {
    let numbers = &installation.numbers;
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "select order_no, xmin::text::bigint from point_entries
         where kind = 'recharge' and order_no >= $1 and order_no < $2",
    )
    .bind(numbers.order_no(orders.start))
    .bind(numbers.order_no(orders.end))
    .fetch_all(&installation.db)
    .await?;
    let dated = rows.into_iter().map(|(order_no, xmin)| {
        let n = numbers.index(&order_no).context("it is one of ours")?;
        let at = sightings.first(u32::try_from(xmin)?).context("a credit was not seen while it was looked for")?;
        Ok((n, at))
    });
    dated.collect()
}
