//! What counts, against what, and how much is remembered.

use super::*;
use governor::clock::FakeRelativeClock;
use shared::config::{Env, limits};

fn configured<const N: usize>(pairs: [(&str, &str); N]) -> Limits {
    Limits::new(limits(&mut Env::of(pairs)).expect("sound"))
}

/// What a budget is made of, with a clock in the test's hands.
type Fake<K> = RateLimiter<K, Store<K>, FakeRelativeClock, StateInformationMiddleware>;

fn limiter<K: Hash + Eq + Clone>(quota: Quota, clock: &FakeRelativeClock) -> Fake<K> {
    RateLimiter::new(quota, Store::default(), clock.clone())
}

fn user(name: &str) -> UserId {
    name.parse().expect("a user id")
}

/// The middleware's view without a server: whether the request passes, and what remains.
fn ask(limits: &Limits, class: Class, address: &str, name: &str) -> Result<u32, u32> {
    let client = ClientAddress::from_text(address);
    let standing = limits.judge(class, client, || (!name.is_empty()).then(|| user(name))).expect("a budget");
    if standing.over.is_none() { Ok(standing.remaining) } else { Err(standing.limit) }
}

#[test]
fn a_request_counts_as_what_it_asks_for() {
    for (method, path, class) in [
        (Method::POST, "/api/payment/orders", Some(Class::Create)),
        (Method::GET, "/api/payment/orders", Some(Class::Read)),
        (Method::POST, "/api/payment/orders/x/cancel", Some(Class::Read)),
        (Method::GET, "/api/points/balance", Some(Class::Read)),
        (Method::GET, "/api/nowhere", Some(Class::Read)),
        (Method::POST, "/api/payment/notify/wechat", Some(Class::Callback)),
        (Method::POST, "/api/payment/notify/wechat/refund", Some(Class::Callback)),
        (Method::GET, "/healthz", None),
        (Method::GET, "/readyz", None),
    ] {
        assert_eq!(Class::of(&method, path), class, "{method} {path}");
    }
}

#[test]
fn the_tightest_budget_speaks() {
    let limits = configured([("RATE_LIMIT_CREATE_PER_USER", "2"), ("RATE_LIMIT_CREATE_PER_IP", "4")]);
    assert_eq!(ask(&limits, Class::Create, "192.0.2.1", "alice"), Ok(1));
    assert_eq!(ask(&limits, Class::Create, "192.0.2.2", "alice"), Ok(0));
    assert_eq!(ask(&limits, Class::Create, "192.0.2.3", "alice"), Err(2), "a user is one, wherever they are");
    assert_eq!(ask(&limits, Class::Create, "192.0.2.1", "bob"), Ok(1));
    assert_eq!(ask(&limits, Class::Create, "192.0.2.1", ""), Ok(1), "nobody in particular counts by address");
    assert_eq!(ask(&limits, Class::Create, "192.0.2.1", "carol"), Ok(0));
    assert_eq!(ask(&limits, Class::Create, "192.0.2.1", "dave"), Err(4), "an address is one, whoever asks");
    assert_eq!(ask(&limits, Class::Read, "192.0.2.1", "alice"), Ok(99), "reading has a budget of its own");
}

#[test]
fn who_is_over_by_address_is_not_even_asked_for_a_name() {
    let limits = configured([("RATE_LIMIT_READ_PER_IP", "1")]);
    let client = ClientAddress::from_text("192.0.2.1");
    assert!(limits.judge(Class::Read, client, || None).is_some_and(|standing| standing.over.is_none()));
    let standing = limits.judge(Class::Read, client, || unreachable!("a token costs time to verify"));
    assert!(standing.is_some_and(|standing| standing.over.is_some()));
}

#[test]
fn without_a_budget_nothing_is_counted() {
    let limits = configured([("RATE_LIMIT_READ_PER_IP", "0"), ("RATE_LIMIT_READ_PER_USER", "0")]);
    let client = ClientAddress::from_text("192.0.2.1");
    assert!(limits.judge(Class::Read, client, || Some(user("alice"))).is_none());
    assert!(limits.judge(Class::Callback, client, || None).is_none(), "callbacks have none by default");
}

#[test]
fn who_waits_as_told_is_not_too_early() {
    let clock = FakeRelativeClock::default();
    let quota = Quota::per_minute(NonZeroU32::new(7).expect("seven"));
    let limiter = limiter(quota, &clock);
    for _ in 0..7 {
        limiter.check_key(&"alice").expect("within the budget");
    }
    for _ in 0..20 {
        let wait = limiter.check_key(&"alice").expect_err("used up").wait_time_from(clock.now());
        clock.advance(Duration::from_secs(whole_seconds(wait)));
        limiter.check_key(&"alice").expect("as told");
    }
}

#[test]
fn what_is_remembered_is_bounded_and_forgotten() {
    let clock = FakeRelativeClock::default();
    let quota = Quota::per_second(NonZeroU32::new(2).expect("two"));
    let limiter = limiter(quota, &clock);
    for key in 0..store::MAX_KEYS {
        limiter.check_key(&key).expect("a budget of its own");
    }
    let newcomers: Vec<bool> = (0..4).map(|n| limiter.check_key(&(store::MAX_KEYS + n)).is_ok()).collect();
    assert_eq!(newcomers, [true, true, false, false], "those who come then share one budget");
    assert!(limiter.check_key(&0).is_ok(), "whoever was there keeps theirs");
    assert_eq!(limiter.len(), store::MAX_KEYS);

    clock.advance(Duration::from_secs(2));
    limiter.retain_recent();
    assert_eq!(limiter.len(), 0);
}

#[test]
fn a_wait_is_told_in_whole_seconds_and_never_too_short() {
    for (milliseconds, seconds) in [(0, 0), (1, 1), (1_000, 1), (1_001, 2)] {
        assert_eq!(whole_seconds(Duration::from_millis(milliseconds)), seconds);
    }
}
