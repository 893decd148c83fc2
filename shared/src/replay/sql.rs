//! The queries of a replay.

use super::{Scope, State, Stored};
use crate::{
    notify::{Claimed, NotifyHeaders, NotifyId, NotifyType, ProcessStatus, window::Window},
    orders::OrderNo,
};
use sqlx::{PgExecutor, PgTransaction};

struct Row {
    id: NotifyId,
    notify_type: NotifyType,
    status: ProcessStatus,
    error_code: Option<String>,
    ladder_step: i16,
    headers: NotifyHeaders,
    body: Vec<u8>,
}

impl From<Row> for Stored {
    fn from(row: Row) -> Self {
        let Row { id, notify_type, status, error_code, ladder_step, headers, body } = row;
        Self {
            claimed: Claimed { id, notify_type, ladder_step, crashes: 0, refused_at_door: false, headers, body },
            state: State { status, error_code },
        }
    }
}

/// The oldest rows of `scope` that come after `after`, at most `most`.
pub(super) async fn ended(
    db: impl PgExecutor<'_>,
    scope: &Scope,
    after: Option<NotifyId>,
    most: i64,
) -> sqlx::Result<Vec<Stored>> {
    let window = Window::of(Some(scope.from), Some(scope.to)).behind(after);
    let rows = sqlx::query_as!(
        Row,
        r#"
        select l.id as "id: NotifyId", l.notify_type as "notify_type: NotifyType",
               l.process_status as "status: ProcessStatus", l.error_code, l.ladder_step,
               payment_notify_header_values(b.header_values, b.headers) as "headers!: NotifyHeaders", b.body
        from payment_notify_logs l join payment_notify_bodies b on b.id = l.id
        where l.process_status in ('processed', 'duplicate', 'dead') and not l.refused_at_door
          and l.error_code is distinct from 'poison'
          and l.created_at >= $1 and l.created_at < $2
          and ($3::text is null or l.order_no = $3)
          and l.id >= $4 and l.id < $5
        order by l.id
        limit $6
        "#,
        scope.from,
        scope.to,
        scope.order_no.as_ref().map(OrderNo::as_str),
        window.first,
        window.end,
        most,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(Stored::from).collect())
}

/// Locks a row until the transaction ends, if it still has ended and nobody else has locked it.
pub(super) async fn lock(tx: &mut PgTransaction<'_>, id: NotifyId) -> sqlx::Result<Option<Stored>> {
    let row = sqlx::query_as!(
        Row,
        r#"
        select l.id as "id: NotifyId", l.notify_type as "notify_type: NotifyType",
               l.process_status as "status: ProcessStatus", l.error_code, l.ladder_step,
               payment_notify_header_values(b.header_values, b.headers) as "headers!: NotifyHeaders", b.body
        from payment_notify_logs l join payment_notify_bodies b on b.id = l.id
        where l.id = $1 and l.process_status in ('processed', 'duplicate', 'dead')
        for no key update of l skip locked
        "#,
        id as _,
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(Stored::from))
}

/// Takes a row that has ended out of the figures, before it ends otherwise.
pub(super) async fn leave_figures(tx: &mut PgTransaction<'_>, id: NotifyId) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into payment_notify_statistics_deltas
        select date_bin('1 hour', created_at, 'epoch'), notify_type, process_status,
               case when process_status in ('processed', 'duplicate')
                    then payment_notify_time_class(extract(epoch from processed_at - created_at)::float8 * 1000) else -1 end,
               -1, -retry_count
        from payment_notify_logs where id = $1
        "#,
        id as _,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
