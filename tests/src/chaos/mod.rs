//! Chaos: everything is killed at random while money comes and goes; then the books must balance against WeChat Pay's.
//!
//! A seed gives a plan ([`plan`]): who buys what, and what breaks when. The run follows it as closely as the machine lets
//! it; what becomes of it in between (which request was under way when a process died) is chance, and that is the point.
//! What `kill -9` cannot show is a machine that loses its power: what a process wrote stays in the system's memory.

mod books;
mod dice;
mod driver;
mod faults;
mod ledger;
mod page;
mod plan;
mod report;
mod time_line;
mod world;

pub use report::{Report, SETTLE_GOAL, Subject};

use crate::{System, binary};
use books::Told;
use driver::{Access, Driver, Tally};
use plan::{Plan, USERS};
use reqwest::Method;
use serde_json::json;
use std::{fs, path::PathBuf, time::Duration};
use tokio::time::Instant;
use world::World;

/// Everything must listen before the run, and again after it.
const WHOLE_DEADLINE: Duration = Duration::from_mins(2);
/// What is not settled then never will be.
const SETTLE_DEADLINE: Duration = Duration::from_mins(4);

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Repeats a plan.
    pub seed: u64,
    /// How long things break.
    pub length: Duration,
    /// Purchases begun in a second.
    pub pace: f64,
}

impl Settings {
    /// The run that every `make test` makes: 30 kills, and so many purchases that 2,000 are paid on a busy machine too.
    pub const fn short(seed: u64) -> Self {
        Self { seed, length: Duration::from_secs(150), pace: 19.0 }
    }
}

/// Runs a plan to its end, and leaves `target/chaos/<seed>.json` and `.html` behind.
///
/// # Errors
/// The name of the server that is not installed here, so that none can be killed.
///
/// # Panics
/// When the installation does not even start.
pub async fn run(settings: &Settings) -> Result<Report, &'static str> {
    let plan = Plan::new(settings.seed, settings.length, settings.pace);
    let subject = Subject::find();
    let folder = results();
    let logs = folder.join(settings.seed.to_string());
    let _ = fs::remove_dir_all(&logs);
    let mut world = World::start(settings.seed, &logs).await?;
    assert!(
        faults::until_whole(&mut world, Instant::now() + WHOLE_DEADLINE).await,
        "the installation does not start: {:?}; see {}",
        world.findings,
        logs.display()
    );
    let driver = Driver::new(access(&world)).await;
    world.system.control(Method::PUT, "/control/faults", Some(&faults::rates())).await;

    let (start, started_ms) = (Instant::now(), driver::now_ms());
    let end = start + settings.length;
    let breaking = async {
        let struck = faults::carry_out(&mut world, &plan, start, end).await;
        world.system.control(Method::PUT, "/control/faults", Some(&json!({}))).await;
        (struck, faults::until_whole(&mut world, end + WHOLE_DEADLINE).await)
    };
    let ((struck, is_whole), ()) = tokio::join!(breaking, driver.carry_out(&plan, start, end));
    let mut tally = driver.tally();
    if !is_whole {
        tally.findings.push(format!("not everything runs {WHOLE_DEADLINE:?} after the last fault"));
    }
    let settle = match ledger::settled(&mut world, end + SETTLE_DEADLINE).await {
        Ok(at) => Some(at - end),
        Err(left) => {
            tally.findings.push(format!("not settled {SETTLE_DEADLINE:?} after the last fault: {left:?}"));
            None
        }
    };
    let report = Report { subject, struck, settle, ..conclude(&mut world, settings, &plan, tally, started_ms).await };
    world.keep_logs();
    let stem = folder.join(settings.seed.to_string());
    fs::write(stem.with_extension("json"), format!("{:#}\n", report.json(&plan))).expect("a file");
    fs::write(stem.with_extension("html"), page::page(&report)).expect("a file");
    Ok(report)
}

/// Where runs leave their results.
pub fn results() -> PathBuf {
    let target = binary("api").ancestors().nth(2).expect("it lies in target/<profile>").to_owned();
    target.join("chaos")
}

fn access(world: &World) -> Access {
    let system: &System = &world.system;
    Access {
        service: format!("http://{}", world.front.address()),
        simulator: system.control_url(""),
        refund_notify_url: world.refund_notify_url(),
        users: (0..USERS).map(|nth| system.token(&format!("user{nth}"))).collect(),
        admin: crate::ops(&system.env, &["token", "--user", "root", "--admin"]),
    }
}

/// Compares the books, and sums up.
async fn conclude(world: &mut World, settings: &Settings, plan: &Plan, tally: Tally, started_ms: i64) -> Report {
    let mut findings = tally.findings;
    findings.append(&mut world.findings);
    let (mut theirs, callbacks) = ledger::theirs(&world.system).await;
    let ours = ledger::ours(&world.system.db).await.expect("the database is up");
    // After ours: orders go on expiring, and what has expired between the two looks was closed there first.
    theirs.open = ledger::still_open(&world.system).await;
    let told = Told { orders: &tally.orders, refunds: &tally.refunds, cancelled: &tally.cancelled };
    let complaints = books::compare(&theirs, &ours, told);
    let (lost, doubled) = (complaints.lost(), complaints.doubled());
    findings.extend(complaints.lines());
    let audit = world.system.ops(&["audit"]);
    if audit.code != Some(0) {
        findings.push(format!("ops audit: {}{}", audit.out, audit.err));
    }
    let deadlocks = world.deadlocks().await;
    if deadlocks != 0 {
        findings.push(format!("deadlocks in PostgreSQL: {deadlocks}"));
    }
    let credited_at = ledger::credited_at(&world.system.db).await.expect("the database is up");
    let mut latencies_ms: Vec<i64> =
        tally.paid.iter().filter_map(|(order_no, paid_at)| Some(credited_at.get(order_no)? - paid_at)).collect();
    latencies_ms.sort_unstable();
    let succeeded = theirs.refunds.values().filter(|refund| refund.status == "SUCCESS").count();
    Report {
        subject: Subject::default(),
        seed: settings.seed,
        length: settings.length,
        pace: settings.pace,
        purchases: plan.purchases.len(),
        orders: tally.orders.len(),
        payments: theirs.payments.len(),
        refunds: (succeeded, theirs.refunds.len() - succeeded),
        struck: Vec::new(),
        callbacks,
        settle: None,
        latencies_ms,
        payments_per_second: per_second(tally.paid.values(), started_ms),
        credits_per_second: per_second(credited_at.values(), started_ms),
        given_up: tally.given_up,
        lost,
        doubled,
        findings,
    }
}

/// How many of these moments lie in each second from the start.
fn per_second<'a>(moments_ms: impl Iterator<Item = &'a i64>, started_ms: i64) -> Vec<usize> {
    let mut seconds = Vec::new();
    for at in moments_ms {
        let second = usize::try_from((at - started_ms).max(0) / 1_000).expect("hours");
        if seconds.len() <= second {
            seconds.resize(second + 1, 0);
        }
        seconds[second] += 1;
    }
    seconds
}
