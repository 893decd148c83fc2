use super::*;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("an instant")
}

fn span(from: &str, to: &str, bucket: Bucket) -> Result<Span, BadSpan> {
    Span::new(Some(at(from)), Some(at(to)), bucket, at("2026-07-01T00:00:00Z"))
}

fn starts(from: &str, to: &str, bucket: Bucket) -> Vec<DateTime<Utc>> {
    span(from, to, bucket).expect("a span").starts().collect()
}

#[test]
fn a_day_begins_at_midnight_in_shanghai() {
    for (instant, hour, day) in [
        ("2026-06-01T15:59:59.999999Z", "2026-06-01T15:00:00Z", "2026-05-31T16:00:00Z"),
        ("2026-06-01T16:00:00Z", "2026-06-01T16:00:00Z", "2026-06-01T16:00:00Z"),
        ("2026-06-02T00:00:00+08:00", "2026-06-01T16:00:00Z", "2026-06-01T16:00:00Z"),
        ("1969-12-31T23:30:00Z", "1969-12-31T23:00:00Z", "1969-12-31T16:00:00Z"),
    ] {
        assert_eq!(Bucket::Hour.start(at(instant)), at(hour), "{instant}");
        assert_eq!(Bucket::Day.start(at(instant)), at(day), "{instant}");
    }
}

#[test]
fn a_part_of_a_bucket_is_a_bucket() {
    let days = ["2026-05-31T16:00:00Z", "2026-06-01T16:00:00Z"].map(at);
    assert_eq!(starts("2026-06-01T00:00:00+08:00", "2026-06-02T00:00:00+08:00", Bucket::Day), days[..1]);
    assert_eq!(starts("2026-06-01T00:00:00+08:00", "2026-06-02T00:00:00.000001+08:00", Bucket::Day), days);
    assert_eq!(starts("2026-06-01T23:59:59.999999+08:00", "2026-06-02T00:00:00+08:00", Bucket::Day), days[..1]);
    assert_eq!(starts("2026-06-01T23:59:59+08:00", "2026-06-02T00:00:01+08:00", Bucket::Day), days);
    assert_eq!(
        starts("2026-06-01T12:10:00Z", "2026-06-01T12:10:00.000001Z", Bucket::Hour),
        [at("2026-06-01T12:00:00Z")]
    );
}

#[test]
fn there_are_at_most_400_buckets() {
    let day = |to| span("2026-01-01T00:00:00+08:00", to, Bucket::Day).map(|span| span.starts().count());
    assert_eq!(day("2027-02-05T00:00:00+08:00"), Ok(400));
    assert_eq!(day("2027-02-05T00:00:00.000001+08:00"), Err(BadSpan::TooLong));
    let hour = |to| span("2026-01-01T00:30:00Z", to, Bucket::Hour).map(|span| span.starts().count());
    assert_eq!(hour("2026-01-17T16:00:00Z"), Ok(400));
    assert_eq!(hour("2026-01-17T16:00:01Z"), Err(BadSpan::TooLong));
    assert_eq!(day("9999-12-31T23:59:59Z"), Err(BadSpan::TooLong));
}

#[test]
fn a_span_ends_after_it_begins() {
    assert_eq!(span("2026-06-01T00:00:00Z", "2026-06-01T00:00:00Z", Bucket::Day), Err(BadSpan::Empty));
    assert_eq!(span("2026-06-01T00:00:01Z", "2026-06-01T00:00:00Z", Bucket::Day), Err(BadSpan::Empty));
    let now = at("2026-06-01T00:00:00Z");
    assert_eq!(
        Span::new(Some(at("2026-06-03T00:00:00Z")), None, Bucket::Day, now),
        Err(BadSpan::Empty),
        "still to come"
    );
}

#[test]
fn the_last_seven_days_include_the_bucket_that_has_begun() {
    let now = at("2026-06-08T12:34:56+08:00");
    let of = |from: Option<&str>, to: Option<&str>, bucket| {
        let span = Span::new(from.map(at), to.map(at), bucket, now).expect("a span");
        (span.from(), span.to())
    };
    let days = ("2026-06-02T00:00:00+08:00", "2026-06-09T00:00:00+08:00");
    assert_eq!(of(None, None, Bucket::Day), (at(days.0), at(days.1)));
    let hours = ("2026-06-01T13:00:00+08:00", "2026-06-08T13:00:00+08:00");
    assert_eq!(of(None, None, Bucket::Hour), (at(hours.0), at(hours.1)));
    assert_eq!(of(Some("2026-06-08T12:00:00Z"), None, Bucket::Day).1, at(days.1));
    assert_eq!(of(None, Some("2026-06-08T12:00:00Z"), Bucket::Day).0, at("2026-06-01T12:00:00Z"));
}

#[test]
fn a_span_is_whole_hours_and_what_is_left() {
    let parts = |from, to| {
        let (hours, edges) = span(from, to, Bucket::Hour).expect("a span").parts();
        let minutes = |range: &Range<DateTime<Utc>>| (range.end - range.start).num_minutes();
        (minutes(&hours), edges.iter().map(minutes).collect::<Vec<_>>())
    };
    assert_eq!(parts("2026-06-01T10:00:00Z", "2026-06-01T12:00:00Z"), (120, vec![]));
    assert_eq!(parts("2026-06-01T10:10:00Z", "2026-06-01T12:20:00Z"), (60, vec![50, 20]));
    assert_eq!(parts("2026-06-01T10:10:00Z", "2026-06-01T12:00:00Z"), (60, vec![50]));
    assert_eq!(parts("2026-06-01T10:00:00Z", "2026-06-01T12:20:00Z"), (120, vec![20]));
    assert_eq!(parts("2026-06-01T10:10:00Z", "2026-06-01T11:20:00Z"), (0, vec![70]));
    assert_eq!(parts("2026-06-01T10:10:00Z", "2026-06-01T10:20:00Z"), (0, vec![10]));
}

#[test]
fn sums_add_up_and_empty_buckets_are_there() {
    let span = span("2026-06-01T00:00:00+08:00", "2026-06-04T00:00:00+08:00", Bucket::Day).expect("a span");
    let cell = |start, id: i64, orders| Cell {
        start: at(start),
        package_id: id.into(),
        package_name: format!("p{id}"),
        figures: Figures {
            orders,
            converted: orders / 2,
            paid_orders: 1,
            paid_fen: 100,
            points: 105,
            refunded_fen: 250,
        },
    };
    let (first, third) = ("2026-06-01T00:00:00+08:00", "2026-06-03T00:00:00+08:00");
    let statistics = Statistics::of(&span, vec![cell(first, 2, 4), cell(third, 2, 2), cell(third, 1, 2)]);
    assert_eq!((statistics.totals.orders, statistics.totals.net_fen()), (8, -450));
    assert_eq!(statistics.totals.conversion_rate(), Some(0.5));
    let by_package: Vec<_> =
        statistics.by_package.iter().map(|cell| (cell.package_id.get(), cell.figures.orders)).collect();
    assert_eq!(by_package, [(2, 6), (1, 2)]);
    let series: Vec<_> = statistics.series.iter().map(|(_, figures)| figures.orders).collect();
    assert_eq!(series, [4, 0, 4]);
    assert_eq!(Figures::default().conversion_rate(), None);
}
