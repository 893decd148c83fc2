//! What came out: a table for people, JSON for programs.

pub mod goals;
mod rows;
mod table;

use crate::{
    about::About,
    books::Verdict,
    ceilings::Ceilings,
    phases::{at_rest::AtRest, cold_start::ColdStart, drain::Drain, end_to_end::EndToEnd, intake::Intake},
};
use serde::{Deserialize, Serialize};
use std::{fs, path::Path};

/// Everything that a run has measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Results {
    /// What was measured on, and how.
    pub about: About,
    /// The intake alone.
    pub intake: Option<Intake>,
    /// What the intake had left.
    pub backlog: Option<Drain>,
    /// End to end as fast as it goes, right after a checkpoint.
    pub after_checkpoint: Option<EndToEnd>,
    /// The same in steady state.
    pub steady: Option<EndToEnd>,
    /// At half of that rate.
    pub half: Option<EndToEnd>,
    /// One callback alone.
    pub at_rest: Option<AtRest>,
    /// At most so far, after all of the above; bytes.
    pub memory: Option<PeakMemory>,
    /// From start to ready.
    pub cold_start: Option<ColdStart>,
    /// What the machine can do.
    pub ceilings: Option<Ceilings>,
    /// The books after each run.
    pub books: Vec<Balance>,
}

/// The most that the processes have ever had in memory, in bytes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct PeakMemory {
    /// `api`
    pub api: u64,
    /// `worker`
    pub worker: u64,
}

/// The books after a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Balance {
    /// Which one.
    pub after: String,
    /// What was found.
    pub verdict: Verdict,
}

impl Results {
    /// Whether the books balanced after every run.
    pub fn is_sound(&self) -> bool {
        self.books.iter().all(|balance| balance.verdict.is_sound())
    }
}

/// Prints the table, and stores it in `folder`, with the figures as JSON.
pub fn publish(results: &Results, folder: &Path) -> anyhow::Result<()> {
    let rows = rows::of(results);
    println!("\n{}\n\n{}\n", results.about.text(), table::aligned(&rows));
    let markdown = format!("# Benchmark\n\n{}\n\n{}\n", results.about.markdown(), table::markdown(&rows));
    store(folder, &results.about.file_name("run"), &serde_json::to_string_pretty(results)?, &markdown)
}

/// Prints a table of any kind, and stores it in the same way.
pub fn publish_table<T: Serialize>(
    about: &About,
    kind: &str,
    rows: &[Vec<String>],
    figures: &T,
    folder: &Path,
) -> anyhow::Result<()> {
    println!("\n{}\n\n{}\n", about.text(), table::aligned(rows));
    let markdown = format!("# Benchmark: {kind}\n\n{}\n\n{}\n", about.markdown(), table::markdown(rows));
    let json = serde_json::json!({"about": about, "figures": figures});
    store(folder, &about.file_name(kind), &serde_json::to_string_pretty(&json)?, &markdown)
}

fn store(folder: &Path, name: &str, json: &str, markdown: &str) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join(format!("{name}.json")), json)?;
    let path = folder.join(format!("{name}.md"));
    fs::write(&path, markdown)?;
    println!("Stored in {} and .json", path.display());
    Ok(())
}
