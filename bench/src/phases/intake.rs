//! The intake alone: how fast callbacks are acknowledged while no worker runs.

use crate::{
    generator::{Way, replay},
    installation::Installation,
    load::Outcome,
    meter::{Cpu, Meter},
    service::Service,
};
use anyhow::Context;
use serde::{Deserialize, Serialize};

/// What the intake can do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Intake {
    /// Closed loop, by the number of connections.
    pub tried: Vec<(usize, Outcome)>,
    /// The best of these.
    pub connections: usize,
    /// Its outcome.
    pub maximum: Outcome,
    /// Processor seconds for 1,000 callbacks, at the best.
    pub cpu: Cpu,
    /// Open loop, at half of the maximum.
    pub half: Outcome,
}

/// Measures it. Each run sends `callbacks`.
pub async fn measure(
    installation: &Installation,
    api: &Service,
    meter: &Meter,
    callbacks: u64,
    connections: &[usize],
) -> anyhow::Result<Intake> {
    let mut tried = Vec::new();
    let mut best: Option<(usize, Outcome, Cpu)> = None;
    for connections in connections {
        let batch = installation.batch(callbacks).await?;
        let cpu = meter.read();
        let outcome = replay(&batch, api.address, Way::closed(*connections)).await?.outcome;
        let cpu = meter.since(cpu, outcome.cpu_seconds).per_thousand(outcome.acked);
        installation.note_acked(outcome.acked);
        say!("intake, {connections} connections: {:.0} acks/s, p99 {:.1} ms", outcome.per_second, outcome.p99_ms);
        if best.as_ref().is_none_or(|(_, best, _)| outcome.per_second > best.per_second) {
            best = Some((*connections, outcome.clone(), cpu));
        }
        tried.push((*connections, outcome));
    }
    let (connections, maximum, cpu) = best.context("no number of connections is given")?;
    let batch = installation.batch(callbacks).await?;
    let half = replay(&batch, api.address, Way::open(maximum.per_second / 2.0)).await?.outcome;
    installation.note_acked(half.acked);
    say!("intake, half of that: p50 {:.1} ms, p99 {:.1} ms, p99.9 {:.1} ms", half.p50_ms, half.p99_ms, half.p999_ms);
    Ok(Intake { tried, connections, maximum, cpu, half })
}
