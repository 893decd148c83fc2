//! Who used the processor, and how much of it.

use crate::{figures::float, proc};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

/// Processor seconds by group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    /// The `api` process.
    pub api: f64,
    /// All `worker` processes.
    pub worker: f64,
    /// PostgreSQL's server with all of its processes.
    pub postgres: f64,
    /// RabbitMQ's, and its helpers.
    pub rabbitmq: f64,
    /// The load generator.
    pub generator: f64,
}

impl Cpu {
    /// All together.
    pub fn total(&self) -> f64 {
        self.api + self.worker + self.postgres + self.rabbitmq + self.generator
    }

    /// For 1,000 of `count`.
    #[must_use]
    pub fn per_thousand(&self, count: u64) -> Self {
        let share = 1_000.0 / float(count.max(1));
        Self {
            api: self.api * share,
            worker: self.worker * share,
            postgres: self.postgres * share,
            rabbitmq: self.rabbitmq * share,
            generator: self.generator * share,
        }
    }
}

/// The processes of a run.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    /// `api`'s.
    pub api: Vec<u32>,
    /// The workers'.
    pub workers: Vec<u32>,
    postgres: Vec<u32>,
    rabbitmq: Vec<u32>,
}

impl Meter {
    /// Finds the servers' processes. Those of containers and of other machines cannot be told apart, or not be seen.
    pub async fn find(db: &PgPool, amqp_url: &str) -> anyhow::Result<Self> {
        let backend: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(db).await?;
        let server = proc::parent_named(u32::try_from(backend)?, "postgres");
        let postgres = server.map_or_else(|| proc::heads_named("postgres"), |server| vec![server]);
        let rabbitmq = proc::listening(proc::heads_named("beam.smp"), port(amqp_url));
        Ok(Self { postgres, rabbitmq, ..Self::default() })
    }

    /// What they have used so far, without the generator.
    pub fn read(&self) -> Cpu {
        Cpu {
            api: proc::cpu_of_trees(&self.api),
            worker: proc::cpu_of_trees(&self.workers),
            postgres: proc::cpu_of_trees(&self.postgres),
            rabbitmq: proc::cpu_of_trees(&self.rabbitmq),
            generator: 0.0,
        }
    }

    /// What they have used since then.
    pub fn since(&self, then: Cpu, generator: f64) -> Cpu {
        let now = self.read();
        Cpu {
            api: now.api - then.api,
            worker: now.worker - then.worker,
            postgres: now.postgres - then.postgres,
            rabbitmq: now.rabbitmq - then.rabbitmq,
            generator,
        }
    }
}

fn port(amqp_url: &str) -> u16 {
    let authority = amqp_url.split("://").nth(1).unwrap_or_default().split('/').next().unwrap_or_default();
    authority.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(5_672)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_brokers_port_is_read_from_its_url() {
        assert_eq!(port("amqp://guest:guest@127.0.0.1:5673/%2f"), 5_673);
        assert_eq!(port("amqp://guest:guest@localhost/%2f"), 5_672);
    }

    #[test]
    fn cost_is_counted_for_a_thousand() {
        let cpu = Cpu { api: 2.0, worker: 4.0, ..Cpu::default() };
        let thousand = cpu.per_thousand(4_000);
        assert!((thousand.api - 0.5).abs() < 1e-9 && (thousand.total() - 1.5).abs() < 1e-9);
    }
}
