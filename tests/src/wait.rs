//! Waiting for a condition, with a deadline. Tests never sleep for a guess.

use std::{fmt::Debug, time::Duration};
use tokio::time::{Instant, sleep};

/// Asks `probe` until its answer satisfies `done`; answers it.
///
/// # Panics
/// After `deadline`, with the last answer.
pub async fn eventually<T: Debug>(
    what: &str,
    deadline: Duration,
    mut probe: impl AsyncFnMut() -> T,
    done: impl Fn(&T) -> bool,
) -> T {
    let until = Instant::now() + deadline;
    loop {
        let answer = probe().await;
        if done(&answer) {
            return answer;
        }
        assert!(Instant::now() < until, "{what}: not within {deadline:?}; the last answer was {answer:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// A port that nothing listens on just now.
///
/// # Panics
/// When there is none.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}
