//! The short run of `make chaos`: what a long one looks for, on a plan that is always the same.

use system_tests::chaos::{SETTLE_GOAL, Settings, run};

/// `CHAOS_SEED` tries another plan.
const SEED: u64 = 2;

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_killed_the_books_balance_against_wechat_pays() {
    let seed = std::env::var("CHAOS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED);
    eprintln!("chaos: CHAOS_SEED={seed}");
    let report = match run(&Settings::short(seed)).await {
        Ok(report) => report,
        Err(server) => {
            eprintln!("{server}'s programs are not installed here, so none can be killed: nothing was tested");
            return;
        }
    };
    eprintln!("{report}");
    assert!(report.findings.is_empty(), "CHAOS_SEED={seed}: {:#?}", report.findings);
    assert!(report.kills() >= 30, "CHAOS_SEED={seed}: {} kills", report.kills());
    assert!(report.settle.is_some_and(|settle| settle <= SETTLE_GOAL * 2), "CHAOS_SEED={seed}: {:?}", report.settle);
    assert!(report.payments >= 2_000, "CHAOS_SEED={seed}: {} payments in so long a time", report.payments);
}
