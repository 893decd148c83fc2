//! After every run the books must balance: each callback that was acknowledged is credited, once.

use crate::{installation::Installation, orders::POINTS};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

/// What was found wrong; empty when nothing was.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Verdict {
    /// Deadlocks that PostgreSQL has broken.
    pub deadlocks: i64,
    /// Everything else, a sentence each.
    pub faults: Vec<String>,
}

impl Verdict {
    /// Whether all is well.
    pub const fn is_sound(&self) -> bool {
        self.deadlocks == 0 && self.faults.is_empty()
    }
}

async fn count(db: &PgPool, sql: &'static str) -> sqlx::Result<i64> {
    sqlx::query_scalar(sql).fetch_one(db).await
}

/// Balances the books of all that was acknowledged so far. `preloaded` entries were there before.
pub async fn balance(installation: &Installation, preloaded: i64) -> anyhow::Result<Verdict> {
    let db = &installation.db;
    let acked = i64::try_from(installation.acked())?;
    // What was last counted were orders that nobody had paid: by that, the audit would be planned for none.
    installation.execute("analyze").await?;
    let mut faults = Vec::new();
    let (entries, orders, sum): (i64, i64, i64) =
        sqlx::query_as("select count(*), count(distinct order_no), coalesce(sum(delta), 0)::bigint from point_entries")
            .fetch_one(db)
            .await?;
    let credited = entries - preloaded;
    if credited != acked {
        faults.push(format!("{acked} callbacks were acknowledged and {credited} credited"));
    }
    if orders != entries {
        faults.push(format!("{entries} entries credit {orders} orders"));
    }
    if sum != entries * (POINTS.0 + POINTS.1) {
        faults.push(format!("{entries} entries give {sum} points"));
    }
    let balances = count(db, "select coalesce(sum(balance), 0)::bigint from point_accounts").await?;
    if balances != sum {
        faults.push(format!("the balances are {balances} and the entries {sum}"));
    }
    let failed = count(
        db,
        "select count(*) from payment_notify_logs
         where process_status in ('received', 'duplicate', 'retrying', 'dead', 'rejected')",
    )
    .await?;
    if failed > 0 {
        faults.push(format!("{failed} notifications are not processed"));
    }
    let audit = installation.run_ops(&["audit"])?;
    if !audit.status.success() {
        faults.push(format!("ops audit: {}", String::from_utf8_lossy(&audit.stdout)));
    }
    let deadlocks = count(db, "select deadlocks from pg_stat_database where datname = current_database()").await?;
    Ok(Verdict { deadlocks, faults })
}
