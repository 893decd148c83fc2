//! The notify log: nothing half there, and nothing forgotten.

use super::{Check, sql::check};
use chrono::TimeDelta;
use sqlx::PgTransaction;

/// Its rows. Those that are unfinished may be so until `grace` after their time.
pub async fn rows(tx: &mut PgTransaction<'_>, grace: TimeDelta) -> sqlx::Result<[Check; 3]> {
    Ok([
        check!(
            tx,
            "log_rows_have_bodies",
            "a notification in the log has its headers and body, and they have it",
            "select id::text from payment_notify_logs l full join payment_notify_bodies b using (id)
             where l.id is null or b.id is null",
        ),
        check!(
            tx,
            "attempts_have_log_rows",
            "an attempt belongs to a notification in the log",
            "select distinct id::text from payment_notify_attempts a left join payment_notify_logs l using (id)
             where l.id is null",
        ),
        check!(
            tx,
            "log_rows_on_time",
            "a notification that is not finished is not long past its next attempt; is a worker running?",
            "select id::text from payment_notify_logs
             where process_status in ('received', 'retrying') and next_attempt_at < now() - make_interval(secs => $1)",
            grace.as_seconds_f64(),
        ),
    ])
}
