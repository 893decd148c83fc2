//! The page is well-formed, says what each metric means, and has no label that a caller could make up.

use super::*;
use crate::notify::{Fault, ProcessStatus, upkeep::Backlog};
use std::collections::{BTreeMap, BTreeSet};

const DOCS: &str = include_str!("../../../docs/operations.md");

/// The page of a process that does everything, after `count`.
fn page_after(count: impl FnOnce(&Metrics)) -> String {
    let recorder = builder().expect("buckets").build_recorder();
    ::metrics::with_local_recorder(&recorder, || {
        let metrics = Metrics::of(recorder.handle());
        begin();
        count(&metrics.clone().of_api().of_worker());
        metrics.page()
    })
}

/// Counts one of each.
fn everything(metrics: &Metrics) {
    let took = Duration::from_millis(3);
    callback_answered(CallbackAnswer::Stored, took);
    intake_inserted(7, took, true);
    http_answered(Some("/api/payment/orders/{orderNo}"), "GET", 200, took);
    notifications_closed(ProcessStatus::Processed, 1);
    notifications_credited(&[0.25]);
    broker_gave_up(1);
    suspected(1);
    notification_failed(&Fault::OrderNotFound);
    dead_letter(&Fault::AmountMismatch);
    set_handled(7, took);
    rescued(1);
    late_payment();
    backlog(&Backlog {
        received: 1,
        retrying: 2,
        oldest_received_seconds: 0.5,
        oldest_retrying_seconds: 60.0,
        dead: 3,
    });
    wechat_called(WechatEndpoint::Query, WechatOutcome::Ok, took);
    metrics.watch_intake(|| 5);
    metrics.watch_streams(|| 6);
    metrics.watch_link("publishing", Some(&crate::queue::Link::default()));
}

/// The series of a page with their values: name and labels, as they are written.
fn series(page: &str) -> BTreeMap<&str, &str> {
    page.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' ')).collect()
}

#[test]
fn every_family_is_described_and_no_histogram_is_a_summary() {
    let page = page_after(everything);
    for family in page.split("\n\n") {
        let mut lines = family.lines();
        let help = lines.next().expect("a line").strip_prefix("# HELP ").expect(family);
        let (name, text) = help.split_once(' ').expect(family);
        assert!(text.len() > 15 && text.ends_with('.'), "{help}");
        let kind = lines.next().and_then(|line| line.strip_prefix(&format!("# TYPE {name} ")).map(str::to_owned));
        let kind = kind.expect(family);
        assert_eq!(kind == "counter", name.ends_with("_total"), "{family}");
        assert!(["counter", "gauge", "histogram"].contains(&kind.as_str()), "{family}");
        assert!(name.starts_with("recharge_"), "{name}");
        let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        for line in lines {
            let (series, value) = line.rsplit_once(' ').expect(line);
            let series = series.split('{').next().expect(line);
            assert!(suffixes.iter().any(|suffix| series == format!("{name}{suffix}")), "{line}");
            value.parse::<f64>().expect(line);
        }
    }
    let is_there = |name: &str| page.contains(&format!("# TYPE {name} "));
    // Pools are watched in the processes; a pool needs a runtime.
    let missing: Vec<_> = ALL.into_iter().flatten().map(|metric| metric.name).filter(|name| !is_there(name)).collect();
    assert_eq!(
        missing,
        ["recharge_database_connections", "recharge_database_idle_connections", "recharge_database_max_connections"]
    );
}

/// What is there before anything has happened, so that a rate over the first event is a rate.
#[test]
fn what_can_be_told_before_it_happens_begins_at_zero() {
    let page = page_after(|_| ());
    let series = series(&page);
    let begun = series.keys().filter(|series| !series.contains("_bucket{")).copied().collect::<Vec<_>>();
    insta::assert_snapshot!(begun.join("\n"));
    let others = series.iter().filter(|(series, value)| **value != "0" && !series.starts_with(BUILD_INFO));
    assert_eq!(others.count(), 0, "{page}");
}

#[test]
fn nobody_can_make_up_a_label() {
    let before = page_after(|_| ());
    let after = page_after(|_| {
        for (method, status) in [("BREW", 299), ("get", 404), ("M-SEARCH", 999), ("GET\"}", 42)] {
            http_answered(None, method, status, Duration::ZERO);
        }
    });
    let before: BTreeSet<_> = series(&before).into_keys().collect();
    let new: Vec<_> = series(&after).into_keys().filter(|series| !before.contains(series)).collect();
    let new: Vec<_> = new.into_iter().filter(|series| series.starts_with("recharge_http_requests_total")).collect();
    assert_eq!(
        new,
        ["1xx", "2xx", "4xx", "5xx"]
            .map(|class| format!(r#"recharge_http_requests_total{{route="none",method="other",status="{class}"}}"#))
    );
}

#[test]
fn what_is_counted_is_on_the_page() {
    let page = page_after(everything);
    let series = series(&page);
    for (name, value) in [
        (r#"recharge_callbacks_total{reason="stored"}"#, "1"),
        (r#"recharge_callback_duration_seconds_bucket{result="stored",le="0.0025"}"#, "0"),
        (r#"recharge_callback_duration_seconds_bucket{result="stored",le="0.005"}"#, "1"),
        ("recharge_intake_batch_rows_sum", "7"),
        ("recharge_intake_waiting", "5"),
        ("recharge_event_streams", "6"),
        (r#"recharge_notifications_total{status="processed"}"#, "1"),
        (r#"recharge_credit_delay_seconds_bucket{le="0.25"}"#, "1"),
        (r#"recharge_notification_faults_total{class="passing",code="order_not_found"}"#, "1"),
        (r#"recharge_dead_letters_total{code="amount_mismatch"}"#, "1"),
        ("recharge_dead_letters_waiting", "3"),
        (r#"recharge_oldest_unfinished_seconds{status="received"}"#, "0.5"),
        (r#"recharge_oldest_unfinished_seconds{status="retrying"}"#, "60"),
        (r#"recharge_broker_connected{link="publishing"}"#, "0"),
        (r#"recharge_wechat_calls_total{endpoint="query",outcome="ok"}"#, "1"),
    ] {
        assert_eq!(series.get(name), Some(&value), "{name}\n{page}");
    }
}

#[test]
fn a_backlog_that_is_not_known_is_no_number() {
    let page = page_after(|_| {
        backlog(&Backlog {
            received: 1,
            retrying: 2,
            oldest_received_seconds: 0.5,
            oldest_retrying_seconds: 60.0,
            dead: 3,
        });
        backlog_unknown();
    });
    assert_eq!(series(&page)[r#"recharge_oldest_unfinished_seconds{status="received"}"#], "NaN");
}

#[test]
fn upkeep_loses_nothing_of_what_was_observed() {
    let recorder = builder().expect("buckets").build_recorder();
    ::metrics::with_local_recorder(&recorder, || {
        let metrics = Metrics::of(recorder.handle());
        for _ in 0..3 {
            set_handled(1, Duration::ZERO);
            metrics.handle.run_upkeep();
        }
        assert_eq!(series(&metrics.page())["recharge_handler_set_rows_count"], "3");
    });
}

#[test]
fn the_person_on_call_finds_every_metric_and_every_code() {
    for metric in ALL.into_iter().flatten() {
        assert!(DOCS.contains(&format!("`{}", metric.name)), "{} is not in docs/operations.md", metric.name);
    }
    for fault in Fault::each() {
        assert!(DOCS.contains(&format!("| `{}` |", fault.code())), "{} is not in docs/operations.md", fault.code());
    }
}
