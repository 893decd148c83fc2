use super::*;
use crate::statistics::Bucket;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("an instant")
}

fn classes(of: &[(f64, i64)]) -> Vec<TimeClass> {
    of.iter().map(|&(time_ms, notifications)| TimeClass { time_ms, notifications }).collect()
}

#[test]
fn a_percentile_is_the_time_of_the_nearest_rank() {
    let times =
        |of: &[(f64, i64)]| ProcessTimes::of(classes(of)).map(|times| (times.p50_ms, times.p95_ms, times.p99_ms));
    assert_eq!(times(&[]), None);
    assert_eq!(times(&[(3.0, 0)]), None, "what was taken off again");
    assert_eq!(times(&[(7.4, 1)]), Some((7, 7, 7)));
    assert_eq!(times(&[(1.0, 1), (2.0, 1)]), Some((1, 2, 2)));
    assert_eq!(times(&[(1.0, 50), (10.0, 45), (100.0, 4), (1000.0, 1)]), Some((1, 10, 100)));
    assert_eq!(times(&[(100.0, 2), (1.0, 1), (10.0, 4), (1.0, 2)]), Some((10, 100, 100)), "parts in any order");
    assert_eq!(times(&[(1.0, 49), (10.0, 45), (100.0, 4), (1000.0, 2)]), Some((10, 100, 1000)));
}

#[test]
fn success_is_a_share_of_what_was_for_us() {
    let counts = Counts { processed: 6, duplicate: 1, dead: 1, rejected: 90, ..Counts::default() };
    assert_eq!(counts.success_rate(), Some(0.875));
    assert_eq!(Counts { received: 1, ..Counts::default() }.success_rate(), Some(0.0));
    assert_eq!(Counts { rejected: 1, ..Counts::default() }.success_rate(), None);
    assert_eq!(Counts::default().success_rate(), None);
}

#[test]
fn cells_add_up_and_empty_buckets_are_there() {
    let (from, to) = (at("2026-06-01T00:00:00+08:00"), at("2026-06-04T00:00:00+08:00"));
    let span = Span::new(Some(from), Some(to), Bucket::Day, to).expect("a span");
    let cell = |start, notify_type, status, notifications, waiting_since| {
        let (start, retries) = (at(start), 2);
        Cell { start, notify_type, status, notifications, retries, waiting_since }
    };
    let (first, third) = ("2026-06-01T00:00:00+08:00", "2026-06-03T00:00:00+08:00");
    let waiting = |text| Some(at(text));
    let cells = [
        cell(first, NotifyType::Payment, ProcessStatus::Processed, 5, None),
        cell(first, NotifyType::Refund, ProcessStatus::Retrying, 1, waiting("2026-06-01T10:00:00+08:00")),
        cell(third, NotifyType::Payment, ProcessStatus::Received, 2, waiting("2026-06-03T08:00:00+08:00")),
        cell(third, NotifyType::Payment, ProcessStatus::Processed, 3, None),
    ];
    let statistics = Statistics::of(&span, &cells, vec![]);
    assert_eq!(statistics.totals, Counts { received: 2, processed: 8, retrying: 1, ..Counts::default() });
    assert_eq!(statistics.by_type[1], (NotifyType::Refund, Counts { retrying: 1, ..Counts::default() }));
    assert_eq!((statistics.retries, statistics.oldest_unfinished_at), (8, waiting("2026-06-01T10:00:00+08:00")));
    let series: Vec<_> = statistics.series.iter().map(|(_, counts)| (counts[0].all(), counts[1].all())).collect();
    assert_eq!(series, [(5, 1), (0, 0), (5, 0)]);
}
