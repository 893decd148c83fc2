//! Live orders: everybody who watches hears of the change, wherever it happened and whatever is away.

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use system_tests::{Builder, Callback, EventStream, SOON, System, eventually, ops};

/// More than an idle connection and its stream take in a debug build, and far less than a leak would.
const MAX_BYTES_PER_STREAM: u64 = 96 * 1_024;

fn path(order_no: &str) -> String {
    format!("/api/payment/orders/{order_no}/events")
}

/// A path at one certain instance.
async fn at(system: &mut System, api: usize, path: &str) -> String {
    format!("http://{}{path}", system.apis[api].listening().await)
}

async fn watch(system: &System, order_no: &str, user: &str, last: Option<&str>) -> EventStream {
    let url = system.url(&path(order_no));
    EventStream::open(&system.http, &url, &system.token(user), last).await.expect("a stream")
}

async fn deliver(callback: &Callback, system: &System, url: &str) {
    assert_eq!(callback.send(&system.http, url).await.expect("an answer").status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_is_told_at_once_by_another_instance_than_the_one_that_took_the_callback() {
    let mut system = Builder::default().apis(2).start().await;
    let notify = at(&mut system, 1, "/api/payment/notify/wechat").await;
    let token = system.token("alice");
    let mut waited = Duration::ZERO;
    for _ in 0..5 {
        let order = system.order("alice", 0).await;
        let order_no = order["orderNo"].as_str().expect("a number");
        let callback = system.pay_silently(order_no).await;
        let url = at(&mut system, 0, &path(order_no)).await;
        let mut stream = EventStream::open(&system.http, &url, &token, None).await.expect("a stream");
        let first = stream.next().await.expect("the order as it is");
        assert_eq!((first.name.as_str(), &first.data), ("order", &order));

        let started = Instant::now();
        deliver(&callback, &system, &notify).await;
        let second = stream.next().await.expect("the payment");
        waited += started.elapsed();
        assert_eq!(second.data["paymentStatus"], "paid");
        assert_eq!(second.data, system.get(&format!("/api/payment/orders/{order_no}"), "alice").await);
        assert!(first.id != second.id);
        assert_eq!(stream.next().await, None, "nothing is left to wait for");
    }
    assert!(waited < Duration::from_secs(15), "five looks would take longer than five announcements: {waited:?}");
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_rabbitmq_is_away_changes_are_looked_up_and_after_it_announced_again() {
    let system = Builder::default().start().await;
    let rabbitmq = system.rabbitmq.as_ref().expect("broker mode");
    for is_away in [true, false] {
        let order = system.order("alice", 0).await;
        let order_no = order["orderNo"].as_str().expect("a number");
        let mut stream = watch(&system, order_no, "alice", None).await;
        assert_eq!(stream.status().await.as_deref(), Some("pending"));
        if is_away {
            rabbitmq.cut();
        } else {
            rabbitmq.restore();
        }
        system.pay(order_no).await;
        assert_eq!(stream.status().await.as_deref(), Some("paid"), "away: {is_away}");
        assert_eq!(stream.status().await, None);
    }
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_mode_has_live_orders_too() {
    let system = Builder::default().embedded().start().await;
    let order = system.order("alice", 0).await;
    let order_no = order["orderNo"].as_str().expect("a number");
    let mut streams = [watch(&system, order_no, "alice", None).await, watch(&system, order_no, "alice", None).await];
    system.pay(order_no).await;
    for stream in &mut streams {
        assert_eq!(stream.status().await.as_deref(), Some("pending"));
        assert_eq!(stream.status().await.as_deref(), Some("paid"));
        assert_eq!(stream.status().await, None);
    }
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_order_is_told_and_ends_the_stream() {
    let system = Builder::default().start().await;
    let order = system.order("alice", 0).await;
    let order_no = order["orderNo"].as_str().expect("a number");
    let mut stream = watch(&system, order_no, "alice", None).await;
    assert_eq!(stream.status().await.as_deref(), Some("pending"));
    let cancel = format!("/api/payment/orders/{order_no}/cancel");
    assert_eq!(system.request(Method::POST, &cancel, "alice", None).await.status(), StatusCode::OK);
    assert_eq!(stream.status().await.as_deref(), Some("cancelled"));
    assert_eq!(stream.status().await, None);
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_is_told_only_what_they_do_not_have() {
    let system = Builder::default().start().await;
    let order = system.order("alice", 0).await;
    let order_no = order["orderNo"].as_str().expect("a number");
    let pending = watch(&system, order_no, "alice", None).await.next().await.expect("the order");

    let mut resumed = watch(&system, order_no, "alice", Some(&pending.id)).await;
    let mut doubtful = watch(&system, order_no, "alice", Some("nonsense")).await;
    assert_eq!(doubtful.next().await.as_ref(), Some(&pending), "an id that is none of ours resumes nothing");
    system.pay(order_no).await;
    let paid = resumed.next().await.expect("the payment, and not the order as it was");
    assert_eq!(paid.data["paymentStatus"], "paid");

    let mut late = watch(&system, order_no, "alice", Some(&pending.id)).await;
    assert_eq!(late.next().await.as_ref(), Some(&paid));
    assert_eq!(late.next().await, None);
    let url = system.url(&path(order_no));
    let nothing = EventStream::open(&system.http, &url, &system.token("alice"), Some(&paid.id)).await;
    let (status, body) = nothing.expect_err("nothing will ever come");
    assert_eq!((status, body.as_str()), (StatusCode::NO_CONTENT, ""), "a browser stops coming back");
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_owner_and_admins_may_watch() {
    let system = Builder::default().workers(0).start().await;
    let order = system.order("alice", 0).await;
    let order_no = order["orderNo"].as_str().expect("a number");
    let open = async |order_no: &str, token: &str| {
        let url = system.url(&path(order_no));
        let stream = EventStream::open(&system.http, &url, token, None).await;
        let problem = stream.err().map(|(status, body)| (status.as_u16(), body));
        problem.map(|(status, body)| (status, serde_json::from_str::<Value>(&body).expect("JSON")["code"].clone()))
    };
    let mallory = system.token("mallory");
    assert_eq!(open(order_no, &mallory).await, Some((404, json!("not_found"))));
    assert_eq!(open("0190000000007000800000000000beef", &mallory).await, Some((404, json!("not_found"))));
    assert_eq!(open("x", &mallory).await, Some((404, json!("not_found"))));
    assert_eq!(open(order_no, "nonsense").await, Some((401, json!("unauthorized"))));
    assert_eq!(open(order_no, &ops(&system.env, &["token", "--user", "root", "--admin"])).await, None);
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_so_many_streams_and_no_more() {
    let system = Builder::default().workers(0).start().await;
    let order = system.order("alice", 0).await;
    let url = system.url(&path(order["orderNo"].as_str().expect("a number")));
    let token = system.token("alice");
    let mut open = Vec::new();
    for _ in 0..20 {
        open.push(EventStream::open(&system.http, &url, &token, None).await.expect("a stream"));
    }
    let answer = system.http.get(&url).bearer_auth(&token).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    let wait: u64 = answer.headers()["retry-after"].to_str().expect("a text").parse().expect("whole seconds");
    assert!(wait >= 1);
    assert_eq!(answer.json::<Value>().await.expect("JSON")["code"], "rate_limited");

    open.pop();
    let retry = async || EventStream::open(&system.http, &url, &token, None).await.is_ok();
    eventually("a place that was left is free", SOON, retry, |opened| *opened).await;
    system.finish().await;
}

/// What one instance must hold when many watch. Each of them hears, and none of them costs much.
#[tokio::test(flavor = "multi_thread")]
async fn many_may_watch_at_once() {
    const STREAMS: usize = 200;
    let mut system = Builder::default().start().await;
    let numbers = system.bulk_orders(STREAMS, STREAMS / 20).await;
    let tokens: Vec<String> = (0..STREAMS / 20).map(|user| system.token(&format!("u{user}"))).collect();
    // Not through the balancer: that would take three files a stream.
    let base = at(&mut system, 0, "").await;
    let http = Client::new();
    let open = async |n: usize| {
        let url = format!("{base}{}", path(&numbers[n]));
        let mut stream = EventStream::open(&http, &url, &tokens[n % tokens.len()], None).await.expect("a stream");
        assert_eq!(stream.status().await.as_deref(), Some("pending"));
        stream
    };
    // What is needed once is there before it is measured.
    let mut streams = Vec::new();
    for n in 0..STREAMS / 4 {
        streams.push(open(n).await);
    }
    let before = system.apis[0].resident_bytes();
    for n in STREAMS / 4..STREAMS {
        streams.push(open(n).await);
    }
    let grown = system.apis[0].resident_bytes().saturating_sub(before) / (STREAMS as u64 * 3 / 4);
    assert!(grown < MAX_BYTES_PER_STREAM, "{grown} bytes for a stream");

    for number in &numbers {
        system.pay(number).await;
    }
    for stream in &mut streams {
        assert_eq!(stream.status().await.as_deref(), Some("paid"));
        assert_eq!(stream.status().await, None);
    }
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_stops_ends_its_streams_and_does_not_wait_for_them() {
    let mut system = Builder::default().workers(0).start().await;
    let order = system.order("alice", 0).await;
    let order_no = order["orderNo"].as_str().expect("a number");
    let mut streams = Vec::new();
    for _ in 0..10 {
        let mut stream = watch(&system, order_no, "alice", None).await;
        assert_eq!(stream.status().await.as_deref(), Some("pending"));
        streams.push(stream);
    }
    system.apis[0].signal("TERM");
    for stream in &mut streams {
        assert_eq!(stream.status().await, None);
    }
    // The grace is 10 s.
    assert_eq!(system.apis[0].ended(Duration::from_secs(8)).await.code(), Some(0));
    system.finish().await;
}
