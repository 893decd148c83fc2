//! The audit log's query.

use super::Deed;
use sqlx::PgTransaction;

/// Keeps a deed, if the transaction it belongs to is committed.
pub async fn record(tx: &mut PgTransaction<'_>, deed: &Deed<'_>) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into audit_log (actor, action, subject, reason, detail) values ($1, $2, $3, $4, $5)",
        deed.actor as _,
        deed.action,
        deed.subject,
        deed.reason,
        deed.detail,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
