//! From the start of a process until it is ready, the schema being there.

use crate::{
    figures::{millis, percentile},
    installation::Installation,
};
use serde::{Deserialize, Serialize};

/// Milliseconds from start to ready: half of the starts took no longer.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ColdStart {
    /// `api`
    pub api_ms: f64,
    /// `worker`
    pub worker_ms: f64,
}

/// Starts each so many times, one after another.
pub async fn measure(installation: &Installation, starts: u32) -> anyhow::Result<ColdStart> {
    let cold = ColdStart {
        api_ms: median(installation, "api", starts).await?,
        worker_ms: median(installation, "worker", starts).await?,
    };
    say!("cold start: api {:.0} ms, worker {:.0} ms", cold.api_ms, cold.worker_ms);
    Ok(cold)
}

async fn median(installation: &Installation, name: &str, starts: u32) -> anyhow::Result<f64> {
    let mut took = Vec::new();
    for _ in 0..starts {
        let service = installation.start(name).await?;
        took.push(u64::try_from(service.started_in.as_nanos())?);
        service.stop().await?;
    }
    took.sort_unstable();
    Ok(millis(percentile(&took, 0.5)))
}
