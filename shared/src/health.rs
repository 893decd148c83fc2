//! Whether a process can do its work, and if not, what is missing.

use crate::{queue::Link, wechat::KeyRing};
use serde::Serialize;
use sqlx::PgPool;
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// For a connection, and again for its answer.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(1);

/// What a process needs.
#[derive(Clone, Debug)]
pub struct Needs {
    /// Without it nothing works.
    pub db: PgPool,
    /// Without one nothing can be verified.
    pub keys: Arc<KeyRing>,
    /// Without all of them things are slower; none in embedded mode.
    pub broker: Vec<Link>,
}

/// How one need stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// There.
    Up,
    /// Missing.
    Down,
    /// Not asked for.
    Unused,
}

/// The answer of `/readyz`.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Readiness {
    /// Whether the process can serve.
    pub ready: bool,
    /// PostgreSQL answers, and can be written to.
    pub database: Standing,
    /// At least one of WeChat Pay's keys is loaded.
    pub keys: Standing,
    /// RabbitMQ is connected. Shown, but not needed: the rescue loop does its work meanwhile.
    pub broker: Standing,
}

impl Needs {
    /// Asks each of them.
    pub async fn check(&self) -> Readiness {
        let database = standing(self.is_writable().await);
        let keys = standing(!self.keys.is_empty());
        let broker =
            if self.broker.is_empty() { Standing::Unused } else { standing(self.broker.iter().all(Link::is_up)) };
        Readiness { ready: database == Standing::Up && keys == Standing::Up, database, keys, broker }
    }

    /// A standby answers too, and takes nothing.
    async fn is_writable(&self) -> bool {
        let Ok(Ok(mut connection)) = timeout(DATABASE_TIMEOUT, self.db.acquire()).await else { return false };
        let asked = sqlx::query_scalar!(r#"select current_setting('transaction_read_only') = 'off' as "writable!""#);
        let is_writable = matches!(timeout(DATABASE_TIMEOUT, asked.fetch_one(&mut *connection)).await, Ok(Ok(true)));
        if !is_writable {
            // A session keeps the mode it began in, and a server that is gone without a word never answers: the next
            // connection may be better.
            connection.close_on_drop();
        }
        is_writable
    }
}

const fn standing(up: bool) -> Standing {
    if up { Standing::Up } else { Standing::Down }
}
