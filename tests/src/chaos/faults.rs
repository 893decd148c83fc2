//! Breaks things as planned, and at the end puts everything right.

use super::{
    plan::{Plan, Strike},
    world::World,
};
use serde_json::json;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// Between two looks at what has ended.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What the simulator does to callbacks and answers, in so many of one. No wrong amount: about a refund of WeChat Pay's
/// console its word is all there is, so a lie under its true signature would be believed.
pub fn rates() -> serde_json::Value {
    json!({
        "drop": 0.08, "duplicate": 0.08,
        "delay": {"rate": 0.1, "minMs": 100, "maxMs": 3000}, "reorder": {"rate": 0.08, "maxMs": 2000},
        "forge": 0.03, "unknownSerial": 0.01, "probe": 0.03, "stale": 0.03,
        "wrongCurrency": 0.015, "wrongAppid": 0.01, "wrongMchid": 0.01, "badCiphertext": 0.01,
        "apiError": 0.02, "apiErrorAfter": 0.02, "apiSlow": {"rate": 0.05, "minMs": 100, "maxMs": 1500},
        "apiReset": 0.02, "apiTruncated": 0.02, "apiUnsigned": 0.01, "apiBadSignature": 0.01, "apiProbe": 0.01,
        "apiStale": 0.01, "apiNotEnough": {"refund": 0.05},
        // Each of these halves the rate at which WeChat Pay is asked.
        "api429": 0.0005,
    })
}

/// A fault, and when it was there.
#[derive(Clone, Copy, Debug)]
pub struct Struck {
    /// What.
    pub strike: Strike,
    /// From the start of the run.
    pub began: Duration,
    /// From the start of the run.
    pub ended: Duration,
}

/// Breaks things until `end`; then puts right what is broken.
pub async fn carry_out(world: &mut World, plan: &Plan, start: Instant, end: Instant) -> Vec<Struck> {
    let mut struck: Vec<Struck> = Vec::new();
    let mut coming = plan.strikes.iter().peekable();
    let mut broken: Vec<usize> = Vec::new();
    while Instant::now() < end {
        while let Some(strike) = coming.next_if(|strike| start + strike.at <= Instant::now()) {
            world.strike(strike).await;
            broken.push(struck.len());
            let began = start.elapsed();
            eprintln!("{:7.1} s  {strike}", began.as_secs_f64());
            struck.push(Struck { strike: *strike, began, ended: began + strike.length });
        }
        broken.retain(|&nth| {
            let is_over = start.elapsed() >= struck[nth].ended;
            if is_over {
                mend(world, &mut struck[nth], start);
            }
            !is_over
        });
        world.keep_up();
        let next = coming.peek().map_or(end, |strike| start + strike.at);
        sleep_until((Instant::now() + LOOK_EVERY).min(next).min(end)).await;
    }
    for nth in broken {
        mend(world, &mut struck[nth], start);
    }
    struck
}

fn mend(world: &mut World, struck: &mut Struck, start: Instant) {
    world.mend(&struck.strike);
    struck.ended = start.elapsed();
}

/// Waits until everything runs; true when it does before `deadline`.
pub async fn until_whole(world: &mut World, deadline: Instant) -> bool {
    while Instant::now() < deadline {
        world.keep_up();
        if world.is_whole().await {
            return true;
        }
        sleep(LOOK_EVERY).await;
    }
    false
}
