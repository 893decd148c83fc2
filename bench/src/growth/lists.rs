//! How long the lists take when there is much to list.

use crate::{
    figures::{millis, percentile},
    installation::Installation,
    load::http,
    service::Service,
};
use anyhow::ensure;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// How often each is asked.
const TIMES: usize = 20;

/// What is asked. The user and the order are of those that were preloaded.
const PATHS: [&str; 12] = [
    "/api/payment/admin/notify-logs",
    "/api/payment/admin/notify-logs?status=processed",
    "/api/payment/admin/notify-logs?status=dead",
    "/api/payment/admin/notify-logs?orderNo=old000000000017",
    "/api/payment/admin/notify-logs/statistics",
    "/api/payment/admin/orders",
    "/api/payment/admin/orders?status=paid",
    "/api/payment/admin/orders?userId=old17",
    "/api/payment/admin/orders?orderNo=old000000000017",
    "/api/payment/admin/statistics",
    "/api/payment/orders",
    "/api/points/entries",
];

/// One list's times, in milliseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct List {
    /// What was asked.
    pub path: String,
    /// The first answer, with cold caches.
    pub first_ms: f64,
    /// Half of the others took no longer.
    pub p50_ms: f64,
    /// The slowest of the others.
    pub max_ms: f64,
}

/// Asks for each list.
pub async fn measure(installation: &Installation, api: &Service) -> anyhow::Result<Vec<List>> {
    let token = installation.ops(&["token", "--user", "old17", "--admin"])?;
    let mut lists = Vec::new();
    for path in PATHS {
        let mut took = Vec::new();
        for _ in 0..=TIMES {
            let begun = Instant::now();
            let (status, answer) = http::get(api.address, path, Some(&token)).await?;
            took.push(u64::try_from(begun.elapsed().as_nanos())?);
            ensure!(status == 200, "{path}: {answer}");
        }
        let first_ms = millis(took.remove(0));
        took.sort_unstable();
        lists.push(List {
            path: path.into(),
            first_ms,
            p50_ms: millis(percentile(&took, 0.5)),
            max_ms: millis(percentile(&took, 1.0)),
        });
    }
    Ok(lists)
}
