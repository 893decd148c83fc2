//! `make chaos`: kills everything at random, then balances the books. Exits with 1 when anything is off.
//!
//! `CHAOS_SEED` repeats a plan; `CHAOS_MINUTES` (60) sets its length, `CHAOS_PACE` (20) the purchases in a second.

use std::{process::ExitCode, str::FromStr, time::Duration};
use system_tests::chaos::{Settings, results, run};

#[tokio::main]
async fn main() -> ExitCode {
    let any_seed = std::time::UNIX_EPOCH.elapsed().map_or(0, |now| now.as_secs() % 1_000_000);
    let (seed, minutes, pace) =
        (setting("CHAOS_SEED", any_seed), setting("CHAOS_MINUTES", 60.0), setting("CHAOS_PACE", 20.0));
    let (Some(seed), Some(minutes), Some(pace)) = (seed, minutes, pace) else { return ExitCode::from(2) };
    if !(0.1..=10_000.0).contains(&minutes) || !(0.01..=1_000.0).contains(&pace) {
        eprintln!("CHAOS_MINUTES is 0.1 to 10000, CHAOS_PACE is 0.01 to 1000");
        return ExitCode::from(2);
    }
    eprintln!("chaos: CHAOS_SEED={seed} CHAOS_MINUTES={minutes} CHAOS_PACE={pace}");
    let settings = Settings { seed, length: Duration::from_secs_f64(minutes * 60.0), pace };
    let ran = tokio::select! {
        ran = run(&settings) => ran,
        // What was started ends with the run that is dropped here.
        _ = tokio::signal::ctrl_c() => return ExitCode::from(130),
    };
    match ran {
        Ok(report) => {
            println!("{report}\n{}/{seed}.html", results().display());
            if report.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(server) => {
            eprintln!("{server}'s programs are not installed here, so none can be killed: nothing was tested");
            ExitCode::from(2)
        }
    }
}

/// The variable, or `default`; `None` when it makes no sense, which is said.
fn setting<T: FromStr>(name: &str, default: T) -> Option<T> {
    let Ok(text) = std::env::var(name) else { return Some(default) };
    let parsed = text.parse().ok();
    if parsed.is_none() {
        eprintln!("{name}: {text} is no number");
    }
    parsed
}
