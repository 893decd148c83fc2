//! The rows of the table.

use super::{Grown, Growth};
use crate::{
    figures::{float, readable},
    report::goals::Goal,
};

/// How far a cost may be from the empty one's.
const FLAT: f64 = 1.15;
/// For a list, in milliseconds.
const LIST_MS: f64 = 200.0;

/// All rows, with a head. Costs and rates are compared with those of the first run: the emptiest.
pub fn of(growth: &Growth) -> Vec<Vec<String>> {
    let mut rows = vec![
        ["", "CREDITED/S", "AGAINST FIRST", "CPU S FOR 1,000", "AGAINST FIRST", "WAL BYTES", "GOAL"]
            .map(str::to_owned)
            .into(),
    ];
    if let Some(first) = growth.runs.first() {
        rows.extend(growth.runs.iter().map(|run| of_run(run, first)));
    }
    if let Some(drain) = &growth.backlog {
        rows.push(of_name(&format!("backlog of {}", readable(float(drain.backlog))), &[drain.credited_per_second], ""));
        let growth_text = Goal::AtMost(FLAT).text(drain.memory_growth(), None);
        let name = "  worker's memory, last quarter against second";
        rows.push(of_name(name, &[drain.memory_growth()], &growth_text));
        let peak = float(growth.backlog_peak_memory) / 1e6;
        rows.push(of_name("  worker's peak memory, MB", &[peak], &Goal::Below(60.0).text(peak, None)));
        let slowest = drain.tenths.iter().copied().fold(f64::INFINITY, f64::min);
        rows.push(of_name("  slowest tenth, credited/s", &[slowest], ""));
    }
    for list in &growth.lists {
        let goal = Goal::Below(LIST_MS).text(list.max_ms, None);
        rows.push(of_name(
            &format!("GET {} (p50, max, first; ms)", list.path),
            &[list.p50_ms, list.max_ms, list.first_ms],
            &goal,
        ));
    }
    let faults: usize = growth.books.iter().map(|verdict| verdict.faults.len()).sum();
    rows.push(of_name(
        "faults in the books",
        &[float(faults as u64)],
        &Goal::AtMost(0.0).text(float(faults as u64), None),
    ));
    let deadlocks = growth.books.iter().map(|verdict| verdict.deadlocks.unsigned_abs()).max().unwrap_or(0);
    rows.push(of_name("deadlocks", &[float(deadlocks)], &Goal::AtMost(0.0).text(float(deadlocks), None)));
    rows
}

fn of_run(run: &Grown, first: &Grown) -> Vec<String> {
    let Grown { rows, workers, users, .. } = run;
    let accounts = if *users == 1 { "one account".into() } else { format!("{} accounts", readable(float(*users))) };
    let rate = run.run.credited_per_second / first.run.credited_per_second;
    let cost = run.cost() / first.cost();
    vec![
        format!("{} rows before, workers: {workers}, {accounts}", readable(float(*rows))),
        readable(run.run.credited_per_second),
        readable(rate),
        readable(run.cost()),
        readable(cost),
        readable(run.run.wal_bytes),
        Goal::AtMost(FLAT).text(cost, None),
    ]
}

fn of_name(name: &str, values: &[f64], goal: &str) -> Vec<String> {
    let value = |at: usize| values.get(at).map_or_else(String::new, |value| readable(*value));
    vec![name.into(), value(0), value(1), value(2), String::new(), String::new(), goal.into()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phases::drain::Drain;

    #[test]
    fn a_backlog_has_its_rows() {
        let backlog = Drain {
            backlog: 500_000,
            seconds: 50.0,
            credited_per_second: 10_000.0,
            tenths: vec![9_000.0, 11_000.0],
            memory: vec![20_000_000; 8],
        };
        let growth = Growth { backlog: Some(backlog), backlog_peak_memory: 21_000_000, ..Growth::default() };
        let rows = of(&growth);
        let goals: Vec<_> = rows.iter().map(|row| row[6].as_str()).collect();
        assert_eq!(goals, ["GOAL", "", "≤ 1.15: holds", "< 60: holds", "", "≤ 0: holds", "≤ 0: holds"]);
        assert_eq!(rows[4][1], "9,000");
    }
}
