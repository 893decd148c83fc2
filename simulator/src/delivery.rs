//! When things happen by themselves: deliveries of callbacks, and refunds that get through.
//!
//! One task holds everything that is due in a heap, so a pending notification costs an entry and
//! no task. Section 4.7 of the protocol reference has the schedule.

mod attempt;

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    app::Simulator,
    callbacks::{self, Letter, Plaintext},
    world::{
        World,
        notifications::{Delivery, Notification},
        refunds::{Refund, Status},
    },
};

pub use attempt::{build, deliver_now};

/// Seconds between an unsuccessful delivery and the next one: 24 h 4 min in all.
pub const RETRY_SECONDS: [u64; 15] =
    [15, 15, 30, 180, 600, 1200, 1800, 1800, 1800, 3600, 10_800, 10_800, 10_800, 21_600, 21_600];

/// Something to do at a certain time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Job {
    /// Deliver a notification.
    Deliver(Uuid),
    /// Let a refund succeed, unless its round is over.
    Settle {
        /// Merchant's number of the refund.
        out_refund_no: String,
        /// The round the timer was set in.
        round: u32,
    },
}

/// Takes jobs for later.
#[derive(Clone, Debug)]
pub struct Schedule(mpsc::UnboundedSender<(Instant, Job)>);

/// Holds the jobs until they are due.
#[derive(Debug)]
pub struct Jobs(mpsc::UnboundedReceiver<(Instant, Job)>);

type Heap = BinaryHeap<Reverse<(Instant, Job)>>;

/// A schedule and the other end of it.
pub fn schedule() -> (Schedule, Jobs) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Schedule(sender), Jobs(receiver))
}

impl Schedule {
    /// Does `job` after `delay` of real time. Without effect once the simulator is stopping.
    pub fn after(&self, delay: Duration, job: Job) {
        let _ = self.0.send((Instant::now() + delay, job));
    }
}

impl Jobs {
    /// Does every job when it is due, until `stop`.
    pub async fn run(mut self, simulator: Arc<Simulator>, stop: CancellationToken) {
        const FAR: Duration = Duration::from_hours(1);
        let mut heap = Heap::new();
        loop {
            let due = heap.peek().map_or_else(|| Instant::now() + FAR, |Reverse((at, _))| *at);
            tokio::select! {
                () = stop.cancelled() => return,
                job = self.0.recv() => match job {
                    Some(job) => heap.push(Reverse(job)),
                    None => return,
                },
                () = tokio::time::sleep_until(due.into()) => {
                    if let Some(job) = pop_due(&mut heap) {
                        start(&simulator, job);
                    }
                }
            }
        }
    }
}

fn pop_due(heap: &mut Heap) -> Option<Job> {
    heap.peek().filter(|Reverse((at, _))| *at <= Instant::now())?;
    heap.pop().map(|Reverse((_, job))| job)
}

fn start(simulator: &Arc<Simulator>, job: Job) {
    match job {
        Job::Deliver(id) => {
            tokio::spawn(attempt::deliver(Arc::clone(simulator), id));
        }
        Job::Settle { out_refund_no, round } => {
            let result = settle(simulator, &out_refund_no, Status::Success, Some(round), true);
            if let Err(error) = result {
                tracing::error!(refund.no = %out_refund_no, "refund {out_refund_no}: {error:#}");
            }
        }
    }
}

/// How long after the delivery that used up `steps` steps the next one follows.
pub fn retry_after(steps: usize, retries: u32) -> Option<Duration> {
    let allowed = steps < retries as usize;
    RETRY_SECONDS.get(steps).filter(|_| allowed).copied().map(Duration::from_secs)
}

/// What is known of a notification before it is made.
struct Draft {
    out_trade_no: String,
    out_refund_no: Option<String>,
    url: String,
    plaintext: Plaintext,
}

/// Makes the notification of a payment, to be sent `first_after`; without that, whoever makes it
/// sends it. `None`: there is no such paid order.
///
/// # Errors
/// When the keys cannot encrypt.
pub fn notify_payment(
    simulator: &Simulator,
    world: &mut World,
    out_trade_no: &str,
    first_after: Option<Duration>,
) -> anyhow::Result<Option<Uuid>> {
    let Some(order) = world.order_as_left(out_trade_no) else { return Ok(None) };
    let Some(payment) = &order.payment else { return Ok(None) };
    let draft = Draft {
        out_trade_no: out_trade_no.to_owned(),
        out_refund_no: None,
        url: order.asked.notify_url.clone(),
        plaintext: Plaintext::of_payment(order, payment),
    };
    add(simulator, world, draft, first_after).map(Some)
}

/// Notifies what has become of a refund. `None`: it has no `notify_url`.
fn notify_refund(simulator: &Simulator, world: &mut World, refund: &Refund) -> anyhow::Result<Option<Uuid>> {
    let Some(url) = refund.asked.notify_url.clone() else { return Ok(None) };
    let draft = Draft {
        out_trade_no: refund.out_trade_no.clone(),
        out_refund_no: Some(refund.out_refund_no.clone()),
        url,
        plaintext: Plaintext::of_refund(refund, &simulator.keys().merchant),
    };
    let after = Some(first_after(simulator));
    add(simulator, world, draft, after).map(Some)
}

fn add(simulator: &Simulator, world: &mut World, draft: Draft, first_after: Option<Duration>) -> anyhow::Result<Uuid> {
    let (event_type, summary) = draft.plaintext.event();
    let (id, now) = (callbacks::new_id(), simulator.now());
    let letter = Letter {
        id,
        created_at: now,
        event_type,
        summary,
        original_type: draft.plaintext.original_type(),
        plaintext: &serde_json::to_string(&draft.plaintext)?,
    };
    let body = letter.seal(&simulator.keys().merchant.api_key)?;
    world.add_notification(Notification {
        id,
        sequence: 0,
        out_trade_no: draft.out_trade_no,
        out_refund_no: draft.out_refund_no,
        url: draft.url,
        event_type,
        plaintext: draft.plaintext,
        body,
        created_at: now,
        delivery: Delivery::Pending,
        attempts: std::collections::VecDeque::new(),
        attempt_count: 0,
        steps: 0,
        next_at: first_after.map(|after| attempt::real_now() + after),
        lies: Vec::new(),
    });
    if let Some(after) = first_after {
        simulator.schedule.after(after, Job::Deliver(id));
    }
    Ok(id)
}

/// From the event to the first delivery, in real time.
pub fn first_after(simulator: &Simulator) -> Duration {
    let settings = simulator.settings();
    settings.scaled(Duration::from_millis(settings.first_delivery_delay_ms))
}

/// Sends a refund on its way: it succeeds by itself after the refund delay, if there is one.
pub fn start_refund_timer(simulator: &Simulator, refund: &Refund) {
    let settings = simulator.settings();
    let Some(ms) = settings.refund_delay_ms else { return };
    let job = Job::Settle { out_refund_no: refund.out_refund_no.clone(), round: refund.round };
    simulator.schedule.after(settings.scaled(Duration::from_millis(ms)), job);
}

/// Gives a refund its outcome. `None`: it may not become that (any more).
///
/// # Errors
/// When the keys cannot encrypt the notification.
pub fn settle(
    simulator: &Simulator,
    out_refund_no: &str,
    status: Status,
    round: Option<u32>,
    notify: bool,
) -> anyhow::Result<Option<Refund>> {
    let now = simulator.now();
    let mut world = simulator.world();
    let Some(refund) = world.refund_mut(out_refund_no) else { return Ok(None) };
    // A timer acts on a refund that is still under way in the round it was set in.
    let void = round.is_some_and(|one| one != refund.round || refund.status != Status::Processing);
    if void || !refund.status.may_become(status) {
        return Ok(None);
    }
    refund.status = status;
    refund.succeeded_at = (status == Status::Success).then_some(now);
    let refund = refund.clone();
    if notify {
        notify_refund(simulator, &mut world, &refund)?;
    }
    drop(world);
    let (no, name) = (&refund.out_refund_no, status.name());
    tracing::info!(refund.no = %no, status = name, "refund {no} is {name}");
    Ok(Some(refund))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_takes_a_day_and_four_minutes() {
        let total: Duration = (0..).map_while(|steps| retry_after(steps, 15)).sum();
        assert_eq!(total, Duration::from_mins(24 * 60 + 4));
        assert_eq!(retry_after(15, 15), None);
        assert_eq!(retry_after(0, 0), None);
        assert_eq!(retry_after(2, 3), Some(Duration::from_secs(30)));
    }
}
