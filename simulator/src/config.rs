//! The command line and the environment: what the simulator is started with.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Stands in for WeChat Pay (API v3, direct merchant, Native) in development, tests and staging.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    /// What to do; without one, serve.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to serve.
    #[command(flatten)]
    pub config: Config,
}

/// What the binary can do besides serving.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Command {
    /// Makes the keys and files of the data directory, then exits.
    Init,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One readable line per event.
    Text,
    /// One JSON object per event.
    Json,
}

/// How answers and callbacks are signed (section 2.3 of the protocol reference).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyMode {
    /// With the platform public key alone; there are no platform certificates.
    #[serde(alias = "publicKey")]
    PublicKey,
    /// With platform certificates, which the merchant downloads.
    Certificate,
    /// A merchant in migration: answers as asked for, callbacks by share.
    Mixed,
}

/// Everything the simulator is started with.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, env = "SIMULATOR_LISTEN", default_value = "127.0.0.1:9090", global = true)]
    pub listen: SocketAddr,

    /// Directory of the keys, made at the first start
    #[arg(long, env = "SIMULATOR_DATA_DIR", default_value = ".dev/simulator", global = true)]
    pub data_dir: PathBuf,

    /// File for the merchant's settings (default: merchant.env in the data directory)
    #[arg(long, env = "SIMULATOR_ENV_FILE", global = true)]
    pub env_file: Option<PathBuf>,

    /// How answers and callbacks are signed
    #[arg(long, env = "SIMULATOR_KEY_MODE", value_enum, default_value = "public-key", global = true)]
    pub key_mode: KeyMode,

    /// How much faster than real time the retry schedule and the refund timers run
    #[arg(long, env = "SIMULATOR_CLOCK_FACTOR", default_value_t = 1.0, value_parser = factor)]
    pub clock_factor: f64,

    /// Milliseconds from a payment to the first delivery of its callback
    #[arg(long, env = "SIMULATOR_FIRST_DELIVERY_DELAY_MS", default_value_t = 0)]
    pub first_delivery_delay_ms: u64,

    /// Milliseconds until a refund succeeds by itself; `manual` or a negative number: never
    #[arg(
        long,
        env = "SIMULATOR_REFUND_DELAY_MS",
        default_value = "3000",
        allow_hyphen_values = true,
        value_parser = refund_delay
    )]
    pub refund_delay_ms: RefundDelay,

    /// Deliveries after the first one, 0 to 15
    #[arg(long, env = "SIMULATOR_RETRIES", default_value_t = 15, value_parser = clap::value_parser!(u32).range(0..=15))]
    pub retries: u32,

    /// Callbacks under way at the same time
    #[arg(long, env = "SIMULATOR_DELIVERY_CONCURRENCY", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub delivery_concurrency: u32,

    /// Seed for the faults, so that a run repeats
    #[arg(long, env = "SIMULATOR_SEED")]
    pub seed: Option<u64>,

    /// `tracing` filter of the log
    #[arg(long, env = "RUST_LOG", default_value = "info", global = true)]
    pub log: String,

    /// How logs are written
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value = "text", global = true)]
    pub log_format: LogFormat,
}

/// How long a refund is PROCESSING before it succeeds by itself, in milliseconds of WeChat's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefundDelay {
    /// After this many milliseconds, divided by the clock factor.
    After(u64),
    /// Only when the control API says so.
    Manual,
}

impl From<RefundDelay> for Option<u64> {
    fn from(delay: RefundDelay) -> Self {
        match delay {
            RefundDelay::After(ms) => Some(ms),
            RefundDelay::Manual => None,
        }
    }
}

fn refund_delay(text: &str) -> Result<RefundDelay, String> {
    if text == "manual" {
        return Ok(RefundDelay::Manual);
    }
    let ms: i64 = text.parse().map_err(|_| "expected milliseconds or `manual`".to_owned())?;
    Ok(u64::try_from(ms).map_or(RefundDelay::Manual, RefundDelay::After))
}

fn factor(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(factor) if valid_factor(factor) => Ok(factor),
        _ => Err("expected a number above 0, at most 1000000".to_owned()),
    }
}

/// Whether `factor` can divide a delay: above 0, at most a million.
pub fn valid_factor(factor: f64) -> bool {
    factor > 0.0 && factor <= 1_000_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_negative_refund_delay_means_manual() {
        assert_eq!(refund_delay("-1"), Ok(RefundDelay::Manual));
        assert_eq!(refund_delay("manual"), Ok(RefundDelay::Manual));
        assert_eq!(refund_delay("250"), Ok(RefundDelay::After(250)));
        assert!(refund_delay("soon").is_err());
    }

    #[test]
    fn the_flags_and_init_parse() {
        let cli = Cli::try_parse_from(["simulator", "init", "--data-dir", "/tmp/x"]).unwrap();
        assert!(matches!(cli.command, Some(Command::Init)));
        assert_eq!(cli.config.data_dir, PathBuf::from("/tmp/x"));
        let cli = Cli::try_parse_from([
            "simulator",
            "--listen",
            "127.0.0.1:0",
            "--key-mode",
            "mixed",
            "--refund-delay-ms",
            "-1",
        ])
        .unwrap();
        assert_eq!(cli.config.key_mode, KeyMode::Mixed);
        assert_eq!(cli.config.refund_delay_ms, RefundDelay::Manual);
        assert!(Cli::try_parse_from(["simulator", "--clock-factor", "0"]).is_err());
    }
}
