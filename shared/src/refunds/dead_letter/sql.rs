//! The dead letter's query.

use crate::notify::{NotifyHeaders, NotifyId, ProcessStatus};
use sqlx::PgTransaction;

/// A notification as it was stored, and what became of it.
#[derive(Debug)]
pub struct Stored {
    /// What it is.
    pub status: ProcessStatus,
    /// Why.
    pub error_code: Option<String>,
    /// As received.
    pub headers: NotifyHeaders,
    /// As received.
    pub body: Vec<u8>,
}

/// Locks the notification until the transaction ends, unless somebody else has.
pub async fn lock(tx: &mut PgTransaction<'_>, id: NotifyId) -> sqlx::Result<Option<Stored>> {
    sqlx::query_as!(
        Stored,
        r#"
        select l.process_status as "status: ProcessStatus", l.error_code,
               payment_notify_header_values(b.header_values, b.headers) as "headers!: NotifyHeaders", b.body
        from payment_notify_logs l join payment_notify_bodies b on b.id = l.id
        where l.id = $1
        for no key update of l skip locked
        "#,
        id as _,
    )
    .fetch_optional(&mut **tx)
    .await
}
