//! What a run came to: a table for people, JSON for programs.

use super::{
    faults::Struck,
    ledger::Callbacks,
    plan::{Kind, Plan, Target},
};
use crate::binary;
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt, path::Path, process::Command, time::Duration};

/// The goal for [`Report::settle`].
pub const SETTLE_GOAL: Duration = Duration::from_mins(1);
/// Bounds of the classes that latencies are sorted into, in milliseconds.
const CLASSES_MS: [i64; 10] = [50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000];
/// Columns of a table's names, and of a line of it.
const NAME_WIDTH: usize = 20;

/// What was tested, and on what.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// The commit, with `-dirty` behind it when there was more; empty where nobody knows.
    pub commit: String,
    /// Cargo's profile, by its folder.
    pub build: String,
    /// Of the machine.
    pub cores: usize,
}

impl Subject {
    /// What lies here now.
    pub fn find() -> Self {
        let describe = ["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"];
        let described = Command::new("git").arg("-C").arg(env!("CARGO_MANIFEST_DIR")).args(describe).output();
        let folder = binary("api").parent().map(Path::to_owned).unwrap_or_default();
        let commit = described.ok().filter(|output| output.status.success()).map(|output| output.stdout);
        Self {
            commit: String::from_utf8_lossy(&commit.unwrap_or_default()).trim().to_owned(),
            build: folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let commit = if self.commit.is_empty() { "unknown" } else { &self.commit };
        write!(f, "commit {commit}, {} build, {} cores", self.build, self.cores)
    }
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was tested, and on what.
    pub subject: Subject,
    /// What it was made from.
    pub seed: u64,
    /// How long things broke.
    pub length: Duration,
    /// Purchases begun in a second, as planned.
    pub pace: f64,
    /// What was planned to be bought.
    pub purchases: usize,
    /// Orders that were acknowledged.
    pub orders: usize,
    /// Payments at WeChat Pay.
    pub payments: usize,
    /// Refunds that succeeded at WeChat Pay, and those that did not.
    pub refunds: (usize, usize),
    /// What broke.
    pub struck: Vec<Struck>,
    /// What has become of the callbacks.
    pub callbacks: Callbacks,
    /// From the end of all faults until nothing was left to do.
    pub settle: Option<Duration>,
    /// From the payments to their credits, in milliseconds, sorted.
    pub latencies_ms: Vec<i64>,
    /// Payments at WeChat Pay in each second from the start.
    pub payments_per_second: Vec<usize>,
    /// Credits here in each second from the start.
    pub credits_per_second: Vec<usize>,
    /// Requests that somebody gave up repeating.
    pub given_up: BTreeMap<&'static str, usize>,
    /// What is not here and should be.
    pub lost: usize,
    /// What moved points more than once.
    pub doubled: usize,
    /// What is off; nothing, when all is well.
    pub findings: Vec<String>,
}

impl Report {
    /// How often this was done to that, by their names.
    pub fn faults(&self, kind: &str, target: &str) -> usize {
        let is_it = |one: &&Struck| one.strike.kind.name() == kind && one.strike.target.name() == target;
        self.struck.iter().filter(is_it).count()
    }

    /// How many kills there were.
    pub fn kills(&self) -> usize {
        self.struck.iter().filter(|struck| struck.strike.kind == Kind::Kill).count()
    }

    /// So many of a thousand payments were credited within this, in milliseconds.
    pub fn within_ms(&self, per_mille: usize) -> i64 {
        let last = self.latencies_ms.len().saturating_sub(1);
        self.latencies_ms.get(last * per_mille / 1_000).copied().unwrap_or(0)
    }

    /// How many payments were credited up to each bound, and beyond the one before; at the end those beyond all.
    pub fn latency_classes(&self) -> Vec<(Option<i64>, usize)> {
        let bounds = CLASSES_MS.into_iter().map(Some).chain([None]);
        let up_to = |bound: Option<i64>| {
            bound.map_or(self.latencies_ms.len(), |bound| self.latencies_ms.partition_point(|ms| *ms <= bound))
        };
        let classes = bounds.scan(0, |before, bound| {
            let count = up_to(bound) - *before;
            *before += count;
            Some((bound, count))
        });
        classes.collect()
    }

    /// One line: what this was.
    pub fn heading(&self) -> String {
        let Self { seed, length, pace, .. } = self;
        format!("seed {seed}, {} s, {pace} purchases a second", grouped(length.as_secs()))
    }

    /// How long it took to settle, beside the goal.
    pub fn settling(&self) -> String {
        let goal = SETTLE_GOAL.as_secs();
        self.settle.map_or_else(
            || format!("never (goal: {goal} s)"),
            |settle| format!("{:.1} s after the last fault (goal: {goal} s)", settle.as_secs_f64()),
        )
    }

    /// For programs.
    pub fn json(&self, plan: &Plan) -> Value {
        let pairs = Kind::ALL.iter().flat_map(|kind| Target::NAMES.map(|target| (kind.name(), target)));
        let faults: BTreeMap<String, usize> = pairs
            .map(|(kind, target)| (format!("{kind} {target}"), self.faults(kind, target)))
            .filter(|(_, count)| *count > 0)
            .collect();
        let strike = |struck: &Struck| {
            let (from, to) = (struck.began.as_secs_f64(), struck.ended.as_secs_f64());
            json!({"what": struck.strike.to_string(), "from": from, "to": to})
        };
        let class = |(bound, count): (Option<i64>, usize)| json!({"upToMs": bound, "payments": count});
        let Callbacks { delivered, lost, refused, doubled, lies } = self.callbacks;
        json!({
            "seed": self.seed, "seconds": self.length.as_secs_f64(), "pace": self.pace, "commit": self.subject.commit,
            "cores": self.subject.cores, "ok": self.findings.is_empty(), "lost": self.lost, "doubled": self.doubled,
            "findings": self.findings, "purchases": self.purchases, "orders": self.orders, "payments": self.payments,
            "refunds": {"success": self.refunds.0, "other": self.refunds.1}, "kills": self.kills(), "faults": faults,
            "callbacks": {"delivered": delivered, "lost": lost, "refused": refused, "doubled": doubled, "lies": lies},
            "settleSeconds": self.settle.map(|settle| settle.as_secs_f64()),
            "creditMs": {"p50": self.within_ms(500), "p90": self.within_ms(900), "p99": self.within_ms(990),
                "p999": self.within_ms(999), "max": self.within_ms(1_000),
                "classes": self.latency_classes().into_iter().map(class).collect::<Vec<_>>()},
            "paymentsPerSecond": self.payments_per_second, "creditsPerSecond": self.credits_per_second,
            "givenUp": self.given_up, "strikes": self.struck.iter().map(strike).collect::<Vec<_>>(),
            "planned": {"strikes": plan.strikes.len(), "kills": plan.kills()},
        })
    }

    /// What money did, and what became of the callbacks.
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let count = |number: usize| grouped(number.try_into().expect("a count"));
        let Callbacks { delivered, lost, refused, doubled, lies } = self.callbacks;
        let callbacks = [(delivered, "answered 200"), (lost, "lost"), (refused, "refused"), (doubled, "doubled")];
        let callbacks = callbacks.map(|(number, what)| format!("{} {what}", count(number))).join(", ");
        let at = [("half", 500), ("99 %", 990), ("99.9 %", 999), ("all", 1_000)];
        let credit = at.map(|(part, per_mille)| format!("{part} within {}", seconds(self.within_ms(per_mille))));
        let mut rows = vec![
            ("purchases", format!("{} planned, {} orders", count(self.purchases), count(self.orders))),
            ("payments", count(self.payments)),
            ("refunds", format!("{} success, {} closed", count(self.refunds.0), count(self.refunds.1))),
            ("callbacks", format!("{callbacks}; {} of all were lies", count(lies))),
            ("payment to credit", credit.join(", ")),
        ];
        if !self.given_up.is_empty() {
            let given_up = self.given_up.iter().map(|(what, number)| format!("{} {what}", count(*number)));
            rows.push(("given up by callers", given_up.collect::<Vec<_>>().join(", ")));
        }
        rows
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, value: &str| writeln!(f, "{name:<NAME_WIDTH$} {value}");
        row("chaos", &self.heading())?;
        row("of", &self.subject.to_string())?;
        for (name, value) in self.rows() {
            row(name, &value)?;
        }
        for kind in Kind::ALL.map(Kind::name) {
            let counts = Target::NAMES.map(|target| (self.faults(kind, target), target));
            let sum: usize = counts.iter().map(|(count, _)| count).sum();
            let each: Vec<_> = counts
                .iter()
                .filter(|(count, _)| *count > 0)
                .map(|(count, target)| format!("{count} {target}"))
                .collect();
            row(kind, &format!("{sum:>4}: {}", each.join(", ")))?;
        }
        row("lost", &self.lost.to_string())?;
        row("doubled", &self.doubled.to_string())?;
        row("time to settle", &self.settling())?;
        if self.findings.is_empty() {
            return writeln!(f, "The books balance: every payment is credited once, every refund is taken once.");
        }
        writeln!(f, "WHAT IS OFF:")?;
        self.findings.iter().try_for_each(|finding| writeln!(f, "- {finding}"))
    }
}

/// With a comma between thousands.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// As short as its size allows.
pub fn seconds(ms: i64) -> String {
    if ms < 10_000 { format!("{}.{:02} s", ms / 1_000, ms % 1_000 / 10) } else { format!("{} s", ms / 1_000) }
}
