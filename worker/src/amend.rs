//! Looking whether what notifications are read with has changed; what failed for it is tried again then.

use shared::{
    notify::amend::{Setting, amend, settings},
    users::UserId,
    wechat::{KeyRing, Merchant},
};
use sqlx::PgPool;
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// How often it is looked. Nothing is asked of anybody unless something changed.
const PERIOD: Duration = Duration::from_secs(1);

/// Looks until `stop`. At the start everything counts as changed, for it may have since the last process.
pub async fn run(db: PgPool, merchant: Arc<Merchant>, keys: Arc<KeyRing>, per_second: u32, stop: CancellationToken) {
    let actor: UserId = "worker".parse().expect("it is a user id");
    let mut known: [Option<Setting>; 3] = [const { None }; 3];
    while !stop.is_cancelled() {
        for (setting, known) in settings(&merchant, &keys).into_iter().zip(&mut known) {
            if known.as_ref() != Some(&setting) {
                match amend(&db, &setting, &actor, per_second).await {
                    Ok(_) => *known = Some(setting),
                    Err(error) => tracing::warn!("retries after a change of the configuration are put off: {error}"),
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = stop.cancelled() => {}
        }
    }
}
