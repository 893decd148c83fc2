//! Whether a process can do its work, and if not, what is missing.

use crate::{queue::Link, wechat::KeyRing};
use serde::Serialize;
use sqlx::PgPool;
use std::{sync::Arc, time::Duration};

const DATABASE_TIMEOUT: Duration = Duration::from_secs(1);

/// What a process needs.
#[derive(Clone, Debug)]
pub struct Needs {
    /// Without it nothing works.
    pub db: PgPool,
    /// Without one nothing can be verified.
    pub keys: Arc<KeyRing>,
    /// Without it things are slower; `None` in embedded mode.
    pub broker: Option<Link>,
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
    /// PostgreSQL answers.
    pub database: Standing,
    /// At least one of WeChat Pay's keys is loaded.
    pub keys: Standing,
    /// RabbitMQ is connected. Shown, but not needed: the rescue loop does its work meanwhile.
    pub broker: Standing,
}

impl Needs {
    /// Asks each of them.
    pub async fn check(&self) -> Readiness {
        let asked = tokio::time::timeout(DATABASE_TIMEOUT, sqlx::query("select 1").execute(&self.db)).await;
        let database = standing(matches!(asked, Ok(Ok(_))));
        let keys = standing(!self.keys.is_empty());
        let broker = self.broker.as_ref().map_or(Standing::Unused, |link| standing(link.is_up()));
        Readiness { ready: database == Standing::Up && keys == Standing::Up, database, keys, broker }
    }
}

const fn standing(up: bool) -> Standing {
    if up { Standing::Up } else { Standing::Down }
}
