//! Rows that may have killed the process that handled them.
//!
//! A process that dies gives its rows back, and whoever finds them next could die of them too. So whoever handles rows for
//! a second time says first, outside its transaction, which rows it holds. One that can be claimed while it stands in
//! another's set was held by a process that died: all rows of that set are suspects. A suspect is handled alone, and when a
//! process dies of it alone, it is blamed for that. One blamed too often is a dead letter.

use super::NotifyId;
use sqlx::PgExecutor;
use uuid::Uuid;

/// Processes that may die of one row before it is given up: the first with it among others, the last alone with it.
pub const MAX_CRASHES: i16 = 3;

/// Says that `slot` holds these rows, and answers those of them that others held when they died.
pub async fn begin(db: impl PgExecutor<'_>, slot: Uuid, held: &[NotifyId]) -> sqlx::Result<Vec<NotifyId>> {
    sqlx::query_scalar!(r#"select worker_set_begin($1, $2) as "suspects!: Vec<NotifyId>""#, slot, held as &[NotifyId])
        .fetch_one(db)
        .await
}

/// Blames all rows that were held together with `suspects`, and forgets those sets; and that of `slot`, which lets go of
/// them for now. In the transaction that has claimed them: rows that anybody else has locked are not blamed.
pub async fn blame(db: impl PgExecutor<'_>, slot: Uuid, suspects: &[NotifyId]) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"
        with let_go as (
            delete from worker_sets where slot = $1
        )
        select worker_set_blame($1, $2) as "blamed!"
        "#,
        slot,
        suspects as &[NotifyId],
    )
    .fetch_one(db)
    .await
}

/// Says that `slot` holds nothing any more: its set was refused, and nobody died of it.
pub async fn let_go(db: impl PgExecutor<'_>, slot: Uuid) -> sqlx::Result<()> {
    sqlx::query!("delete from worker_sets where slot = $1", slot).execute(db).await?;
    Ok(())
}

/// Makes the rows suspects, each to be handled alone.
pub async fn suspect(db: impl PgExecutor<'_>, ids: &[NotifyId]) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        with locked as (
            select id from payment_notify_logs
            where id = any($1) and process_status in ('received', 'retrying') and crashes = 0
            order by id
            for no key update skip locked
        )
        update payment_notify_logs l set crashes = 1 from locked where l.id = locked.id
        "#,
        ids as &[NotifyId],
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Forgets what was held long ago: its rows are done, or have been found since.
pub async fn forget_old(db: impl PgExecutor<'_>) -> sqlx::Result<()> {
    sqlx::query!("delete from worker_sets where begun_at < now() - interval '1 day'").execute(db).await?;
    Ok(())
}
