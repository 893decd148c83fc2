//! The connections to the servers.

use super::{Metric, Metrics};
use crate::queue::Link;
use metrics::gauge;
use sqlx::PgPool;

const SIZE: &str = "recharge_database_connections";
const IDLE: &str = "recharge_database_idle_connections";
const MAX: &str = "recharge_database_max_connections";
const BROKER: &str = "recharge_broker_connected";

pub(super) const METRICS: &[Metric] = &[
    Metric::gauge(SIZE, "Connections to PostgreSQL that are open, by pool."),
    Metric::gauge(IDLE, "Those of them that wait for work."),
    Metric::gauge(MAX, "As many as the pool may open."),
    Metric::gauge(BROKER, "1 while the connection to RabbitMQ stands, by what it is for; none in embedded mode."),
];

impl Metrics {
    /// Shows how a pool is used.
    pub fn watch_pool(&self, name: &'static str, pool: &PgPool) {
        let pool = pool.clone();
        self.read_on_page(move || {
            #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
            gauge!(IDLE, "pool" => name).set(pool.num_idle() as f64);
            gauge!(SIZE, "pool" => name).set(f64::from(pool.size()));
            gauge!(MAX, "pool" => name).set(f64::from(pool.options().get_max_connections()));
        });
    }

    /// Shows whether all connections to the broker that are for this stand; none are in embedded mode.
    pub fn watch_link<'a>(&self, name: &'static str, links: impl IntoIterator<Item = &'a Link>) {
        let links: Vec<_> = links.into_iter().cloned().collect();
        if links.is_empty() {
            return;
        }
        self.read_on_page(move || {
            gauge!(BROKER, "link" => name).set(if links.iter().all(Link::is_up) { 1.0 } else { 0.0 });
        });
    }
}
