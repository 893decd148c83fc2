//! `ops`: the operator's command line.

mod audit;
mod dead_letters;
mod duration;
mod migrate;
mod refund;
mod replay;
mod retry_notify;
mod seed;
mod table;
mod token;
mod watch;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use shared::{
    config::{self, DatabaseConfig, Env, Faults},
    wechat::{KeyRing, Merchant},
};
use std::process::ExitCode;

/// The operator's command line.
#[derive(Debug, Parser)]
#[command(name = "ops", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create the database when it is missing, and bring its schema up to this build. Several may do this at once.
    Migrate,
    /// Add four sample packages when there are none.
    Seed,
    /// Print a token for the API.
    Token(token::Arguments),
    /// Balance the books: orders, points, refunds, log and figures. Exits with 1 when something is off, with 2 when it
    /// cannot tell.
    Audit(audit::Arguments),
    /// Say which notifications were given up, why, and what to do about it.
    DeadLetters(dead_letters::Arguments),
    /// Let notifications be tried again, and watch them. Exits with 1 when some failed again, with 2 when it could not be
    /// done. Ctrl-C ends the watching, not the retry.
    RetryNotify(retry_notify::Arguments),
    /// Run stored notifications through today's code, and say what would change. Exits with 1 when something would, with 2
    /// when it cannot tell.
    Replay(replay::Arguments),
    /// Refund orders, and help refunds that are stuck.
    #[command(subcommand)]
    Refund(refund::Command),
}

impl Command {
    /// How `ops` exits when the command could not be carried out. Where 1 is an answer, that is another number.
    const fn failure(&self) -> u8 {
        match self {
            Self::Migrate | Self::Seed | Self::Token(_) | Self::DeadLetters(_) | Self::Refund(_) => 1,
            Self::Audit(_) | Self::RetryNotify(_) | Self::Replay(_) => 2,
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let variables = config::describe(|env| (retrying(env), config::jwt_secret(env), refund::desk(env)));
    let help = format!("Configured by the environment, and by a .env file in the working directory:\n\n{variables}");
    let matches = Arguments::command().after_help(help).get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let failure = arguments.command.failure();
    match run(arguments.command).await {
        Ok(code) => code,
        Err(error) => {
            // Faults of the configuration speak for themselves, a line each.
            match error.downcast_ref::<Faults>() {
                Some(faults) => eprintln!("{faults}"),
                None => eprintln!("ops: {error:#}"),
            }
            ExitCode::from(failure)
        }
    }
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    let mut env = Env::from_process();
    match command {
        Command::Migrate => migrate::run(&read(&mut env, config::database)?).await?,
        Command::Seed => seed::run(&read(&mut env, config::database)?).await?,
        Command::Token(arguments) => token::run(&arguments, &read(&mut env, config::jwt_secret)?),
        Command::Audit(arguments) => return audit::run(&arguments, &read(&mut env, config::database)?).await,
        Command::DeadLetters(arguments) => {
            dead_letters::run(&arguments, &read(&mut env, config::database)?).await?;
        }
        Command::RetryNotify(arguments) => {
            let (database, per_second) = read(&mut env, retrying)?;
            return retry_notify::run(&arguments, &database, per_second).await;
        }
        Command::Replay(arguments) => {
            let (database, merchant) = read(&mut env, replaying)?;
            return replay::run(&arguments, &database, merchant).await;
        }
        Command::Refund(command) => refund::run(command, &mut env).await?,
    }
    Ok(ExitCode::SUCCESS)
}

fn retrying(env: &mut Env) -> Option<(DatabaseConfig, u32)> {
    let (database, per_second) = (config::database(env), config::retries_per_second(env));
    Some((database?, per_second?))
}

fn replaying(env: &mut Env) -> Option<(DatabaseConfig, (Merchant, KeyRing))> {
    let (database, merchant) = (config::database(env), config::merchant(env));
    Some((database?, merchant?))
}

fn read<T>(env: &mut Env, load: impl FnOnce(&mut Env) -> Option<T>) -> Result<T, Faults> {
    match load(env) {
        Some(value) if env.is_sound() => Ok(value),
        _ => Err(env.faults()),
    }
}
