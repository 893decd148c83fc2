//! The rows of the table.

use super::{Balance, PeakMemory, Results, goals::Goal};
use crate::{
    ceilings::{Ceilings, pgbench::Best},
    figures::{float, readable},
    meter::Cpu,
    phases::{at_rest::AtRest, cold_start::ColdStart, drain::Drain, end_to_end::EndToEnd, intake::Intake},
};

/// One figure.
struct Figure {
    name: String,
    value: f64,
    ceiling: Option<f64>,
    goal: Option<Goal>,
}

fn figure(name: impl Into<String>, value: f64) -> Figure {
    Figure { name: name.into(), value, ceiling: None, goal: None }
}

impl Figure {
    fn against(self, ceiling: Option<f64>) -> Self {
        Self { ceiling, ..self }
    }

    fn goal(self, goal: Goal) -> Self {
        Self { goal: Some(goal), ..self }
    }

    fn row(&self) -> Vec<String> {
        let ratio = self.ceiling.map_or_else(String::new, |ceiling| readable(self.value / ceiling));
        let goal = self.goal.map_or_else(String::new, |goal| goal.text(self.value, self.ceiling));
        let ceiling = self.ceiling.map_or_else(String::new, readable);
        vec![self.name.clone(), readable(self.value), ceiling, ratio, goal]
    }
}

/// All rows, with a head.
pub fn of(results: &Results) -> Vec<Vec<String>> {
    let ceilings = results.ceilings.as_ref();
    let mut figures = Vec::new();
    figures.extend(results.intake.iter().flat_map(|intake| of_intake(intake, ceilings)));
    let runs = [
        ("end to end, steady state", &results.steady, true),
        ("end to end, after a checkpoint", &results.after_checkpoint, false),
    ];
    for (title, run, is_steady) in runs {
        figures.extend(run.iter().flat_map(|run| of_run(title, run, is_steady, ceilings)));
    }
    figures.extend(results.half.iter().flat_map(of_half));
    figures.extend(results.at_rest.iter().flat_map(of_rest));
    figures.extend(results.backlog.iter().flat_map(|drain| of_backlog(drain, ceilings)));
    figures.extend(results.memory.iter().flat_map(of_memory));
    figures.extend(results.cold_start.iter().flat_map(of_starts));
    figures.extend(ceilings.iter().flat_map(|ceilings| of_ceilings(ceilings)));
    if !results.books.is_empty() {
        figures.extend(of_books(&results.books));
    }
    let head = ["", "VALUE", "CEILING", "RATIO", "GOAL"].map(str::to_owned).to_vec();
    [head].into_iter().chain(figures.iter().map(Figure::row)).collect()
}

fn of_intake(intake: &Intake, ceilings: Option<&Ceilings>) -> Vec<Figure> {
    let Intake { connections, maximum, cpu, half, .. } = intake;
    let insert = ceilings.map(|ceilings| ceilings.insert.per_second);
    let mut figures = vec![
        figure(format!("intake alone, acks/s ({connections} connections)"), maximum.per_second)
            .against(insert)
            .goal(Goal::TimesCeiling(2.5)),
        figure("  the same against the service's own tables, acks/s", maximum.per_second)
            .against(ceilings.map(|ceilings| ceilings.own_insert.per_second))
            .goal(Goal::TimesCeiling(2.5)),
        figure("  p50, ms", maximum.p50_ms),
        figure("  p99, ms", maximum.p99_ms),
        figure("  p99.9, ms", maximum.p999_ms),
    ];
    figures.extend(of_cpu(cpu));
    figures.extend([
        figure("intake at half of that, acks/s", half.per_second),
        figure("  p50, ms", half.p50_ms),
        figure("  p99, ms", half.p99_ms).goal(Goal::Below(25.0)),
        figure("  p99.9, ms", half.p999_ms),
    ]);
    figures
}

fn of_run(title: &str, run: &EndToEnd, is_steady: bool, ceilings: Option<&Ceilings>) -> Vec<Figure> {
    let single = ceilings.map(|ceilings| ceilings.single_transaction.per_second);
    let credited = figure(format!("{title}, credited/s"), run.credited_per_second).against(single);
    let (all, without) = ("  write-ahead log, bytes each", "  of that without page images, bytes each");
    let (wal, no_images) = (run.wal_bytes, run.wal_bytes - run.wal_page_images);
    let mut figures = if is_steady {
        vec![
            credited.goal(Goal::TimesCeiling(2.0)),
            figure("  the same against the service's own tables, credited/s", run.credited_per_second)
                .against(ceilings.map(|ceilings| ceilings.own_single_transaction.per_second))
                .goal(Goal::TimesCeiling(2.0)),
            figure("  the same against the broker's ids/s", run.credited_per_second)
                .against(ceilings.map(|ceilings| ceilings.in_groups.ids_per_second)),
            figure(all, wal),
            figure(without, no_images).goal(Goal::AtMost(4_096.0)),
        ]
    } else {
        vec![credited, figure(all, wal).goal(Goal::AtMost(8_192.0)), figure(without, no_images)]
    };
    figures.extend(of_cpu(&run.cpu));
    figures
}

/// CPU seconds for 1,000 are milliseconds for one.
fn of_cpu(cpu: &Cpu) -> Vec<Figure> {
    let groups = [
        ("api", cpu.api),
        ("worker", cpu.worker),
        ("PostgreSQL", cpu.postgres),
        ("RabbitMQ", cpu.rabbitmq),
        ("generator", cpu.generator),
        ("all", cpu.total()),
    ];
    groups.map(|(name, seconds)| figure(format!("  CPU s for 1,000: {name}"), seconds)).into()
}

fn of_half(run: &EndToEnd) -> Vec<Figure> {
    vec![
        figure("end to end at half of that, credited/s", run.credited_per_second),
        figure("  ack, p50, ms", run.load.p50_ms),
        figure("  ack, p99, ms", run.load.p99_ms),
        figure("  ack to credit, p50, ms", run.p50_ms),
        figure("  ack to credit, p99, ms", run.p99_ms).goal(Goal::Below(250.0)),
    ]
}

fn of_rest(rest: &AtRest) -> Vec<Figure> {
    vec![
        figure("at rest: ack, p50, ms (ceiling: one commit)", rest.load.p50_ms)
            .against(Some(rest.commit_p50_ms))
            .goal(Goal::AtMostTimesCeiling(2.0)),
        figure("  ack to credit, p50, ms", rest.credit_p50_ms).goal(Goal::AtMost(20.0)),
        figure("  ack to credit, p99, ms", rest.credit_p99_ms),
    ]
}

fn of_backlog(drain: &Drain, ceilings: Option<&Ceilings>) -> Vec<Figure> {
    vec![
        figure(format!("backlog of {}, credited/s", readable(float(drain.backlog))), drain.credited_per_second)
            .against(ceilings.map(|ceilings| ceilings.single_transaction.per_second)),
        figure("  worker's memory, last quarter against second", drain.memory_growth()),
    ]
}

fn of_memory(memory: &PeakMemory) -> Vec<Figure> {
    let figure = |name: &str, bytes: u64| figure(format!("peak memory, {name}, MB"), float(bytes) / 1e6);
    vec![figure("api", memory.api).goal(Goal::Below(60.0)), figure("worker", memory.worker).goal(Goal::Below(60.0))]
}

fn of_starts(cold: &ColdStart) -> Vec<Figure> {
    vec![
        figure("cold start to ready, api, p50, ms", cold.api_ms).goal(Goal::Below(300.0)),
        figure("cold start to ready, worker, p50, ms", cold.worker_ms).goal(Goal::Below(300.0)),
    ]
}

fn of_ceilings(ceilings: &Ceilings) -> Vec<Figure> {
    let Ceilings { insert, single_transaction, own_insert, own_single_transaction, one_by_one, in_groups } = ceilings;
    let best =
        |name: &str, best: &Best| figure(format!("ceiling: {name}/s ({} clients)", best.clients), best.per_second);
    vec![
        best("single-row insert", insert),
        best("single transaction", single_transaction),
        best("single-row insert, the service's tables", own_insert),
        best("single transaction, the service's tables", own_single_transaction),
        figure("ceiling: broker, one id in a message, ids/s", one_by_one.ids_per_second),
        figure(format!("ceiling: broker, {} ids in a message, ids/s", in_groups.ids), in_groups.ids_per_second),
    ]
}

fn of_books(books: &[Balance]) -> Vec<Figure> {
    let faults: usize = books.iter().map(|balance| balance.verdict.faults.len()).sum();
    let deadlocks: i64 = books.iter().map(|balance| balance.verdict.deadlocks).max().unwrap_or(0);
    vec![
        figure(format!("faults in the books, {} times balanced", books.len()), float(faults as u64))
            .goal(Goal::AtMost(0.0)),
        figure("deadlocks", float(deadlocks.unsigned_abs())).goal(Goal::AtMost(0.0)),
    ]
}
