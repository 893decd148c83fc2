//! One delivery of a notification: what goes wrong with it, what is sent, what came of it.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{Job, retry_after};
use crate::{
    app::Simulator,
    callbacks::{self, Letter, Plaintext, SignedBy},
    config::KeyMode,
    crypto,
    faults::{DeliveryPlan, Fault},
    world::notifications::{Attempt, Delivery, Notification},
};

/// Between the two copies of a doubled delivery, in WeChat's time.
const DUPLICATE_AFTER: Duration = Duration::from_secs(1);
/// How old a stale delivery's timestamp is; the limit is 5 minutes.
const STALE_SECONDS: i64 = 600;

/// Lies about the content. A refund's notification has no currency and no `appid` to lie about.
const IN_CONTENT: [Fault; 4] = [Fault::WrongAmount, Fault::WrongCurrency, Fault::WrongAppid, Fault::WrongMchid];

/// Real time, which schedules run on; the clock of the simulator may be shifted.
pub(super) fn real_now() -> DateTime<Utc> {
    SystemTime::now().into()
}

/// Delivers a notification that is due, with all that may go wrong, and plans what follows.
pub(super) async fn deliver(simulator: Arc<Simulator>, id: Uuid) {
    let Some(plan) = plan(&simulator, id) else { return };
    if plan.drop {
        let attempt = failed(&simulator, Some(Fault::Drop), "not sent".to_owned());
        conclude(&simulator, id, attempt, true);
        return;
    }
    wait(&simulator, id, plan).await;
    if plan.duplicate {
        let simulator = Arc::clone(&simulator);
        tokio::spawn(async move {
            tokio::time::sleep(simulator.settings().scaled(DUPLICATE_AFTER)).await;
            let fault = plan.lie.or(Some(Fault::Duplicate));
            if let Some(attempt) = send(&simulator, id, plan.lie, fault).await {
                conclude(&simulator, id, attempt, false);
            }
        });
    }
    if let Some(attempt) = send(&simulator, id, plan.lie, plan.lie).await {
        conclude(&simulator, id, attempt, true);
    }
}

/// Delivers a notification at once and truly, whatever its state. `scheduled`: this is the first
/// delivery of its schedule, not one besides. `None`: there is no such notification.
pub async fn deliver_now(simulator: &Arc<Simulator>, id: Uuid, scheduled: bool) -> Option<Attempt> {
    let attempt = send(simulator, id, None, None).await?;
    conclude(simulator, id, attempt, scheduled)
}

fn plan(simulator: &Simulator, id: Uuid) -> Option<DeliveryPlan> {
    let (own, told, plaintext) = {
        let world = simulator.world();
        let notification = world.notifications.get(&id).filter(|one| one.is_pending())?;
        let own = world.order_as_left(&notification.out_trade_no).and_then(|order| order.faults.clone());
        (own, notification.lies.clone(), notification.plaintext.clone())
    };
    let impossible = IN_CONTENT.into_iter().filter(|lie| plaintext.lied(*lie).is_none());
    let excluded: Vec<Fault> = told.into_iter().chain(impossible).collect();
    let plan = simulator.faults().for_delivery(own.as_ref(), &excluded);
    if let (Some(lie), false) = (plan.lie, plan.drop)
        && let Some(notification) = simulator.world().notifications.get_mut(&id)
    {
        notification.lies.push(lie);
    }
    Some(plan)
}

async fn wait(simulator: &Simulator, id: Uuid, plan: DeliveryPlan) {
    tokio::time::sleep(Duration::from_millis(plan.delay_ms)).await;
    let Some(hold_ms) = plan.hold_ms else { return };
    let sequence = simulator.world().notifications.get(&id).map_or(0, |one| one.sequence);
    let mut sent = simulator.sent.subscribe();
    let later = sent.wait_for(|latest| *latest > sequence);
    // When the time is up it goes out of order with nobody.
    let _ = tokio::time::timeout(Duration::from_millis(hold_ms), later).await;
}

async fn send(simulator: &Arc<Simulator>, id: Uuid, lie: Option<Fault>, fault: Option<Fault>) -> Option<Attempt> {
    let permit = simulator.permits.acquire().await;
    let notification = simulator.world().notifications.get(&id).cloned()?;
    let attempt = match build(simulator, &notification, lie) {
        Ok((headers, body)) => post(simulator, &notification.url, headers, body, fault).await,
        Err(error) => failed(simulator, fault, format!("{error:#}")),
    };
    drop(permit);
    simulator.sent.send_if_modified(|latest| {
        let later = notification.sequence > *latest;
        *latest = notification.sequence.max(*latest);
        later
    });
    Some(attempt)
}

/// Headers and body of one delivery, freshly signed.
///
/// # Errors
/// When the keys cannot sign or encrypt.
pub fn build(
    simulator: &Simulator,
    notification: &Notification,
    lie: Option<Fault>,
) -> anyhow::Result<(Vec<(&'static str, String)>, String)> {
    let body = match lie {
        Some(Fault::BadCiphertext) => {
            reseal(simulator, notification, &notification.plaintext, &crypto::alphanumeric(32))?
        }
        Some(lie) => match notification.plaintext.lied(lie) {
            Some(lied) => reseal(simulator, notification, &lied, &simulator.keys().merchant.api_key)?,
            None => notification.body.clone(),
        },
        None => notification.body.clone(),
    };
    let truly = signer_now(simulator);
    let by = match lie {
        Some(Fault::Forge) => SignedBy::Forged,
        Some(Fault::UnknownSerial) => SignedBy::UnknownSerial,
        Some(Fault::Probe) => SignedBy::Probe,
        _ => truly,
    };
    let age = if lie == Some(Fault::Stale) { STALE_SECONDS } else { 0 };
    let timestamp = simulator.now().timestamp() - age;
    let headers = callbacks::sign(&simulator.keys(), by, truly, timestamp, body.as_bytes())?;
    Ok((headers, body))
}

/// A lie about the content goes under an id of its own, so that the truth stays a new thing.
fn reseal(
    simulator: &Simulator,
    notification: &Notification,
    plaintext: &Plaintext,
    api_key: &str,
) -> anyhow::Result<String> {
    let (event_type, summary) = plaintext.event();
    let letter = Letter {
        id: callbacks::new_id(),
        created_at: simulator.now().min(notification.created_at + TimeDelta::days(2)),
        event_type,
        summary,
        original_type: plaintext.original_type(),
        plaintext: &serde_json::to_string(plaintext)?,
    };
    letter.seal(api_key)
}

/// Who signs callbacks now: in migration, by share (section 2.3).
fn signer_now(simulator: &Simulator) -> SignedBy {
    let settings = simulator.settings();
    match settings.key_mode {
        KeyMode::PublicKey => SignedBy::PublicKey,
        KeyMode::Mixed if simulator.faults().roll() < settings.public_key_share => SignedBy::PublicKey,
        KeyMode::Certificate | KeyMode::Mixed => SignedBy::Certificate,
    }
}

async fn post(
    simulator: &Simulator,
    url: &str,
    headers: Vec<(&'static str, String)>,
    body: String,
    fault: Option<Fault>,
) -> Attempt {
    let started = Instant::now();
    let mut request = simulator
        .http
        .post(url)
        .header("Content-Type", "application/json")
        .header("Accept", "*/*")
        .header("Pragma", "no-cache")
        .header("Request-ID", callbacks::request_id(0));
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let mut attempt = failed(simulator, fault, String::new());
    let answer = async {
        let response = request.body(body).send().await?;
        let status = response.status().as_u16();
        // The deadline is for the whole answer, so its body counts.
        Ok::<_, reqwest::Error>((status, response.text().await?))
    };
    match answer.await {
        Ok((status, text)) => {
            attempt.error = None;
            attempt.status = Some(status);
            attempt.answer = text.chars().take(200).collect();
        }
        Err(error) if error.is_timeout() => {
            attempt.error = Some("no complete answer within 5 seconds".to_owned());
        }
        Err(error) => attempt.error = Some(format!("{:#}", anyhow::Error::new(error))),
    }
    attempt.duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    attempt
}

fn failed(simulator: &Simulator, fault: Option<Fault>, error: String) -> Attempt {
    Attempt {
        number: 0,
        at: simulator.now(),
        fault,
        status: None,
        error: Some(error),
        answer: String::new(),
        duration_ms: 0,
    }
}

/// Records an attempt; one that belongs to the schedule plans the next. A lie that was taken
/// does not count: the merchant has yet to hear the truth.
fn conclude(simulator: &Simulator, id: Uuid, attempt: Attempt, scheduled: bool) -> Option<Attempt> {
    let settings = simulator.settings();
    let mut world = simulator.world();
    let notification = world.notifications.get_mut(&id)?;
    let truth = matches!(attempt.fault, None | Some(Fault::Duplicate));
    let attempt = notification.record(attempt);
    let mut next = None;
    if truth && attempt.was_taken() {
        notification.delivery = Delivery::Delivered;
        notification.next_at = None;
    } else if scheduled && notification.is_pending() {
        next = retry_after(notification.steps, simulator.config.retries).map(|delay| settings.scaled(delay));
        notification.steps += 1;
        notification.next_at = next.map(|delay| real_now() + delay);
        if next.is_none() {
            notification.delivery = Delivery::GivenUp;
        }
    }
    log(notification, &attempt, next);
    drop(world);
    if let Some(delay) = next {
        simulator.schedule.after(delay, Job::Deliver(id));
    }
    Some(attempt)
}

fn log(notification: &Notification, attempt: &Attempt, next: Option<Duration>) {
    let about = notification.out_refund_no.as_ref().unwrap_or(&notification.out_trade_no);
    let (event, number) = (notification.event_type, attempt.number);
    let answer = match (attempt.status, &attempt.error) {
        (Some(status), _) => format!("answered {status} in {} ms", attempt.duration_ms),
        (None, error) => error.clone().unwrap_or_default(),
    };
    let fault = attempt.fault.map(|fault| format!(" ({fault:?})")).unwrap_or_default();
    let then = match (notification.delivery, next) {
        (_, Some(delay)) => format!("; next in {delay:.1?}"),
        (Delivery::GivenUp, None) => "; given up".to_owned(),
        _ => String::new(),
    };
    tracing::info!(
        notification.id = %notification.id,
        "{event} of {about}, delivery {number}{fault}: {answer}{then}"
    );
}
