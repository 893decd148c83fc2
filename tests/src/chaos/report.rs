//! What a run came to: a table for people, JSON for programs.

use super::{
    faults::Struck,
    ledger::Callbacks,
    plan::{Kind, Plan},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt, time::Duration};

/// The goal for [`Report::settle`].
pub const SETTLE_GOAL: Duration = Duration::from_mins(1);

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Report {
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
    /// Credits in each second from the start.
    pub credits_per_second: Vec<usize>,
    /// Requests that somebody gave up repeating.
    pub given_up: BTreeMap<&'static str, usize>,
    /// What is off; nothing, when all is well.
    pub findings: Vec<String>,
}

impl Report {
    /// How many faults there were of each kind, kills first.
    fn faults(&self) -> Vec<(bool, String, usize)> {
        let mut counts: BTreeMap<(bool, String), usize> = BTreeMap::new();
        for Struck { strike, .. } in &self.struck {
            let is_kill = strike.kind == Kind::Kill;
            *counts.entry((!is_kill, format!("{} {}", strike.kind.name(), strike.target.name()))).or_default() += 1;
        }
        counts.into_iter().map(|((is_other, name), count)| (!is_other, name, count)).collect()
    }

    /// How many kills there were.
    pub fn kills(&self) -> usize {
        self.struck.iter().filter(|struck| struck.strike.kind == Kind::Kill).count()
    }

    /// So many of a hundred payments were credited within this, in milliseconds.
    pub fn percentile_ms(&self, percent: usize) -> i64 {
        let last = self.latencies_ms.len().saturating_sub(1);
        self.latencies_ms.get(last * percent / 100).copied().unwrap_or(0)
    }

    /// For programs.
    pub fn json(&self, plan: &Plan) -> Value {
        let faults: BTreeMap<String, usize> = self.faults().into_iter().map(|(_, name, count)| (name, count)).collect();
        let strikes: Vec<Value> = self
            .struck
            .iter()
            .map(|struck| {
                json!({"what": struck.strike.to_string(), "from": struck.began.as_secs_f64(),
                    "to": struck.ended.as_secs_f64()})
            })
            .collect();
        let Callbacks { delivered, lost, refused, doubled, lies } = self.callbacks;
        json!({
            "seed": self.seed, "seconds": self.length.as_secs_f64(), "pace": self.pace, "ok": self.findings.is_empty(),
            "findings": self.findings, "purchases": self.purchases, "orders": self.orders, "payments": self.payments,
            "refunds": {"success": self.refunds.0, "other": self.refunds.1}, "kills": self.kills(), "faults": faults,
            "callbacks": {"delivered": delivered, "lost": lost, "refused": refused, "doubled": doubled, "lies": lies},
            "settleSeconds": self.settle.map(|settle| settle.as_secs_f64()),
            "creditMs": {"p50": self.percentile_ms(50), "p99": self.percentile_ms(99), "max": self.percentile_ms(100)},
            "creditsPerSecond": self.credits_per_second, "givenUp": self.given_up, "strikes": strikes,
            "planned": {"strikes": plan.strikes.len(), "kills": plan.kills()},
        })
    }

    fn rows(&self) -> Vec<(String, String)> {
        let seconds = |ms: i64| format!("{}.{:03} s", ms / 1_000, ms % 1_000);
        let mut rows = vec![
            ("seed".to_owned(), self.seed.to_string()),
            ("length".into(), format!("{} s, {} purchases a second", self.length.as_secs(), self.pace)),
            ("purchases planned".into(), self.purchases.to_string()),
            ("orders".into(), self.orders.to_string()),
            ("payments".into(), self.payments.to_string()),
            ("refunds".into(), format!("{} success, {} closed", self.refunds.0, self.refunds.1)),
            ("kills".into(), self.kills().to_string()),
        ];
        for (is_kill, name, count) in self.faults() {
            rows.push((if is_kill { format!("  {name}") } else { name }, count.to_string()));
        }
        let Callbacks { delivered, lost, refused, doubled, lies } = self.callbacks;
        rows.extend([
            ("callbacks delivered".into(), delivered.to_string()),
            ("callbacks lost".into(), lost.to_string()),
            ("callbacks refused".into(), refused.to_string()),
            ("callbacks doubled".into(), doubled.to_string()),
            ("callbacks that were lies".into(), lies.to_string()),
            ("payment to credit, p50".into(), seconds(self.percentile_ms(50))),
            ("payment to credit, p99".into(), seconds(self.percentile_ms(99))),
            ("payment to credit, longest".into(), seconds(self.percentile_ms(100))),
        ]);
        rows.extend(self.given_up.iter().map(|(what, count)| (format!("given up: {what}"), count.to_string())));
        let settle = self.settle.map_or("never".into(), |settle| {
            let verdict = if settle <= SETTLE_GOAL { "within" } else { "beyond" };
            format!("{:.1} s, {verdict} the goal of {} s", settle.as_secs_f64(), SETTLE_GOAL.as_secs())
        });
        rows.push(("time to settle".into(), settle));
        rows
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in self.rows() {
            writeln!(f, "{name:<32} {value:>12}")?;
        }
        if self.findings.is_empty() {
            return writeln!(f, "The books balance: every payment is credited once, every refund is taken once.");
        }
        writeln!(f, "WHAT IS OFF:")?;
        self.findings.iter().try_for_each(|finding| writeln!(f, "- {finding}"))
    }
}
