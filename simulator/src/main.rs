//! The `simulator` binary: starts WeChat Pay's stand-in and waits for the signal to stop.

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
};

use anyhow::Context;
use clap::Parser;
use simulator::{
    config::{Cli, Command, Config, LogFormat},
    keys::files,
    server,
};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line for the person who started it; a backtrace would only hide it.
            eprintln!("simulator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    // A `.env` in the working directory is optional; a broken one is not.
    match dotenvy::from_path(".env") {
        Err(error) if !error.not_found() => return Err(error).context("cannot read .env"),
        _ => {}
    }
    let cli = Cli::parse();
    start_log(&cli.config)?;
    if let Some(Command::Init) = cli.command {
        return init(&cli.config);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(serve(cli.config));
    // Deliveries under way are worth nothing once the world is gone.
    runtime.shutdown_background();
    result
}

fn init(config: &Config) -> anyhow::Result<()> {
    let keys = files::load_or_make(&config.data_dir)?;
    let (path, mode) = (server::env_file(config), config.key_mode);
    files::write_merchant_env(&path, &config.data_dir, &keys, mode, config.listen)?;
    say(&format!("keys are in {}, settings in {}", config.data_dir.display(), path.display()));
    Ok(())
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let running = server::start(config).await?;
    // Not through the log, whose filter must not be able to hide it: whoever starts the simulator
    // waits for this line.
    say(&format!("simulator listening on http://{}", running.address));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    running.stop().await;
    Ok(())
}

/// A line on stdout; nobody reading it is no reason to fail.
fn say(line: &str) {
    let mut stdout = std::io::stdout();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

fn start_log(config: &Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.log).context("RUST_LOG is not a filter")?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stdout().is_terminal())
        .with_target(false)
        .with_writer(std::io::stdout);
    match config.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}
