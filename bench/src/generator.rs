//! Starting the generator as a process of its own, see [`crate::load`].

use crate::{installation::Batch, load::Outcome};
use anyhow::{Context, ensure};
use std::{
    fs,
    net::SocketAddr,
    process::{Command, Stdio},
};

/// How a batch is sent.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// Connections, each with one request under way at most.
    pub connections: usize,
    /// Requests a second; `None` sends the next one as soon as there is an answer.
    pub rate: Option<f64>,
    /// The pause after each answer, in milliseconds.
    pub pause_ms: u64,
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.rate {
            Some(rate) => write!(f, "{rate:.0} callbacks/s"),
            None => write!(f, "{} connections", self.connections),
        }
    }
}

impl Way {
    /// As fast as answers come.
    pub const fn closed(connections: usize) -> Self {
        Self { connections, rate: None, pause_ms: 0 }
    }

    /// At a fixed rate.
    pub const fn open(rate: f64) -> Self {
        // More than are ever under way, short of a service that stands still.
        Self { connections: 256, rate: Some(rate), pause_ms: 0 }
    }
}

/// What came of a batch: the figures, and when each callback was acknowledged (nanoseconds since 1970, 0 for never).
#[derive(Debug)]
pub struct Replayed {
    /// The figures.
    pub outcome: Outcome,
    /// In the order of the batch.
    pub acks: Vec<u64>,
}

/// Sends the batch; every callback must be acknowledged.
pub async fn replay(batch: &Batch, address: SocketAddr, way: Way) -> anyhow::Result<Replayed> {
    let acks_file = batch.file.with_extension("acks");
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("load").arg("--file").arg(&batch.file).arg("--acks").arg(&acks_file);
    command.args(["--address", &address.to_string(), "--connections", &way.connections.to_string()]);
    command.args(["--pause-ms", &way.pause_ms.to_string()]);
    if let Some(rate) = way.rate {
        command.args(["--rate", &rate.to_string()]);
    }
    command.stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    ensure!(output.status.success(), "the generator failed");
    let outcome: Outcome = serde_json::from_slice(&output.stdout).context("the generator says something else")?;
    let bytes = fs::read(&acks_file)?;
    fs::remove_file(&acks_file)?;
    let acks = bytes.chunks_exact(8).map(|at| u64::from_le_bytes(at.try_into().expect("eight bytes"))).collect();
    ensure!(outcome.errors() == 0, "callbacks were not acknowledged, by status: {:?}", outcome.refused);
    ensure!(outcome.acked == batch.len(), "{} of {} callbacks were acknowledged", outcome.acked, batch.len());
    Ok(Replayed { outcome, acks })
}
