//! The transaction in which the books are read.

use super::{Audit, Check, figures, log, points};
use crate::db;
use chrono::TimeDelta;
use sqlx::{PgPool, PgTransaction};

/// Reads all books as of one moment, beside whatever else goes on. Takes as long as it takes, and no lock that a payment
/// would wait for. `grace` is how long after its time a row of the notify log may still be unfinished.
pub async fn audit(db: &PgPool, grace: TimeDelta) -> sqlx::Result<Audit> {
    let mut tx = db.begin_with("begin isolation level repeatable read read only").await?;
    sqlx::query!("set local statement_timeout = 0").execute(&mut *tx).await?;
    // All of both sides is compared: row by row it takes for ever, which is what PostgreSQL chooses for tables that it has
    // not looked at yet, such as those of a backup just restored.
    sqlx::query!("set local enable_nestloop = off").execute(&mut *tx).await?;
    let at = db::now(&mut *tx).await?;
    let checks = checks(&mut tx, grace).await?;
    tx.rollback().await?;
    Ok(Audit { ok: checks.iter().all(|check| check.violations == 0), checks, at })
}

/// Reads all books as the transaction sees them.
pub async fn checks(tx: &mut PgTransaction<'_>, grace: TimeDelta) -> sqlx::Result<Vec<Check>> {
    let mut checks: Vec<Check> = Vec::new();
    checks.extend(points::credits(tx).await?);
    checks.extend(points::refunds(tx).await?);
    checks.extend(points::accounts(tx).await?);
    checks.extend(log::rows(tx, grace).await?);
    checks.extend(figures::sums(tx).await?);
    Ok(checks)
}

/// Asks one check: its name, what must hold, and a query for the ids of those that break it, with its arguments.
macro_rules! check {
    ($tx:expr, $name:literal, $about:literal, $broken:literal $(, $argument:expr)* $(,)?) => {{
        let found = sqlx::query!(
            r#"select count(*) as "violations!",
                      coalesce(array_agg(subject order by subject) filter (where place <= 5), '{}') as "samples!: Vec<String>"
               from (select subject, row_number() over (order by subject) as place from ("#
                + $broken
                + ") as broken (subject)) as numbered",
            $($argument),*
        )
        .fetch_one(&mut **$tx)
        .await?;
        Check { name: $name, about: $about, violations: found.violations, samples: found.samples }
    }};
}
pub(super) use check;
