//! `bench`: what the service does, against what this very machine could do, in the same run. See README.md.

/// Says how far it has come.
macro_rules! say {
    ($($text:tt)*) => { eprintln!($($text)*) };
}

mod about;
mod books;
mod broker;
mod callback;
mod ceilings;
mod figures;
mod generator;
mod growth;
mod installation;
mod keys;
mod ledger;
mod load;
mod meter;
mod observer;
mod orders;
mod phases;
mod proc;
mod report;
mod requests;
mod run;
mod service;
mod stamp;
mod wal;

use clap::Parser;
use std::process::ExitCode;

/// Benchmarks of Recharge.
#[derive(Debug, Parser)]
#[command(name = "bench", version, max_term_width = 100)]
enum Command {
    /// Measure the service.
    Run(run::Options),
    /// Measure it with much in the tables, with several workers, with one account, with a large backlog.
    Growth(growth::Options),
    /// Send signed requests: the generator. The others start it as a process of its own.
    #[command(hide = true)]
    Load(load::Plan),
}

fn main() -> ExitCode {
    let done = match Command::parse() {
        // On one thread: it shares the machine with what it measures.
        Command::Load(plan) => load::run(plan).map(|()| true),
        Command::Run(options) => run::run(&options),
        Command::Growth(options) => growth::run(&options),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say!("bench: {error:#}");
            ExitCode::from(2)
        }
    }
}
