//! The orders that somebody is watching on this instance, and telling them of changes. What changed is announced over
//! RabbitMQ, by whoever changed it; because an announcement may be lost, everything watched is also looked up now and
//! then. One task reads for all streams: a change costs one row, however many watch it.

use crate::{error::ApiError, orders::OrderBody};
use chrono::{DateTime, Utc};
use shared::{
    orders::{Order, OrderNo, PaymentStatus, sql},
    queue::{Heard, Link},
    users::UserId,
};
use sqlx::PgPool;
use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// Streams that one instance holds open, at about 22 KiB each.
const MAX_STREAMS: usize = 20_000;
/// Streams that one user may have open on one instance.
const MAX_STREAMS_PER_USER: usize = 20;
/// When to come back after that.
const FULL_PAUSE: Duration = Duration::from_secs(10);
/// Orders in one lookup.
const MAX_LOOKUP: usize = 1_000;
/// The pause between two looks at everything that is watched, give or take a quarter: instances must not march in step.
const LOOK_PERIOD: Duration = Duration::from_secs(2);
/// With a broker that is there, only each so-manieth look is taken: for announcements that were lost.
const LOOKS_SKIPPED: u32 = 5;
/// The pause while the database is away.
const OUTAGE_PAUSE: Duration = Duration::from_millis(500);

/// An order as it is sent, at one point of its life. Clones share it.
#[derive(Clone, Debug)]
pub struct Snapshot(Arc<Inside>);

#[derive(Debug)]
struct Inside {
    updated_at: DateTime<Utc>,
    is_final: bool,
    json: String,
}

impl Snapshot {
    /// The order as it is now.
    pub fn of(order: Order) -> Self {
        let (updated_at, is_final) = (order.updated_at, order.status != PaymentStatus::Pending);
        let json = serde_json::to_string(&OrderBody::from(order)).expect("texts, numbers and times are JSON");
        Self(Arc::new(Inside { updated_at, is_final, json }))
    }

    /// Tells this state of the order from its others: when it came about, in microseconds.
    pub fn id(&self) -> i64 {
        self.0.updated_at.timestamp_micros()
    }

    /// Whether a buyer has nothing left to wait for.
    pub fn is_final(&self) -> bool {
        self.0.is_final
    }

    /// The order, as the contract spells it.
    pub fn json(&self) -> &str {
        &self.0.json
    }
}

/// The orders that are watched here. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Live(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    watched: Mutex<Watched>,
    /// Something is unchecked.
    wake: Notify,
}

#[derive(Debug, Default)]
struct Watched {
    orders: HashMap<OrderNo, Entry>,
    users: HashMap<UserId, usize>,
    streams: usize,
    /// Watched orders that may have changed.
    unchecked: BTreeSet<OrderNo>,
    /// The process stops.
    closed: bool,
}

#[derive(Debug)]
struct Entry {
    streams: usize,
    /// The `updated_at` of what everybody who watches has. `None`: nobody knows, so the next lookup tells everybody.
    known: Option<DateTime<Utc>>,
    changes: watch::Sender<Option<Snapshot>>,
}

impl Live {
    /// Watches an order for a user, until the answer is dropped.
    pub fn watch(&self, order_no: OrderNo, user_id: &UserId) -> Result<Watching, ApiError> {
        let mut watched = self.0.lock();
        let own = watched.users.get(user_id).copied().unwrap_or(0);
        if watched.streams >= MAX_STREAMS || own >= MAX_STREAMS_PER_USER {
            return Err(ApiError::RateLimited(FULL_PAUSE));
        }
        let changes = if watched.closed {
            // Its sender is gone: this stream ends after its first event.
            watch::channel(None).1
        } else {
            let new = || Entry { streams: 0, known: None, changes: watch::Sender::new(None) };
            let entry = watched.orders.entry(order_no.clone()).or_insert_with(new);
            entry.streams += 1;
            entry.changes.subscribe()
        };
        watched.streams += 1;
        watched.users.insert(user_id.clone(), own + 1);
        drop(watched);
        Ok(Watching { shared: Arc::clone(&self.0), order_no, user_id: user_id.clone(), changes })
    }

    /// How many streams are open.
    pub fn streams(&self) -> usize {
        self.0.lock().streams
    }

    /// Says that these orders may have changed.
    pub fn changed(&self, order_nos: impl IntoIterator<Item = OrderNo>) {
        let mut watched = self.0.lock();
        for order_no in order_nos {
            if watched.orders.contains_key(&order_no) {
                watched.unchecked.insert(order_no);
            }
        }
        self.0.wake_for(&watched);
    }

    /// Takes in what a listener heard.
    pub fn hear(&self, heard: Heard) {
        match heard {
            Heard::Changed(order_nos) => self.changed(order_nos),
            Heard::Connected => self.doubt_everything(),
        }
    }

    fn doubt_everything(&self) {
        let mut watched = self.0.lock();
        watched.unchecked = watched.orders.keys().cloned().collect();
        self.0.wake_for(&watched);
    }

    /// Looks up what may have changed, and tells those who watch, until `stop`; then all streams end. `link` is that of
    /// the listener, when there is a broker.
    pub async fn run(self, db: PgPool, link: Option<Link>, stop: CancellationToken) {
        stop.run_until_cancelled(self.look_up_for_ever(&db, link.as_ref())).await;
        let mut watched = self.0.lock();
        watched.closed = true;
        watched.orders.clear();
        watched.unchecked.clear();
    }

    async fn look_up_for_ever(&self, db: &PgPool, link: Option<&Link>) {
        let (mut looks, mut away) = (0_u32, false);
        let mut next_look = tokio::time::Instant::now() + jittered(LOOK_PERIOD);
        loop {
            tokio::select! {
                () = self.0.wake.notified() => {}
                () = tokio::time::sleep_until(next_look) => {
                    next_look = tokio::time::Instant::now() + jittered(LOOK_PERIOD);
                    looks = looks.wrapping_add(1);
                    if !link.is_some_and(Link::is_up) || looks.is_multiple_of(LOOKS_SKIPPED) {
                        self.doubt_everything();
                    }
                }
            }
            while let Err(error) = self.look_up(db).await {
                if !away {
                    tracing::warn!("the database is away; live orders wait for it: {error}");
                }
                away = true;
                tokio::time::sleep(OUTAGE_PAUSE).await;
            }
            away = false;
        }
    }

    /// Checks everything that is unchecked.
    async fn look_up(&self, db: &PgPool) -> sqlx::Result<()> {
        loop {
            let (order_nos, known): (Vec<OrderNo>, Vec<Option<DateTime<Utc>>>) = self.0.take_unchecked().unzip();
            if order_nos.is_empty() {
                return Ok(());
            }
            let numbers: Vec<&str> = order_nos.iter().map(OrderNo::as_str).collect();
            match sql::changed(db, &numbers, &known).await {
                Ok(orders) => self.0.tell(orders),
                Err(error) => {
                    self.changed(order_nos);
                    return Err(error);
                }
            }
        }
    }
}

impl Shared {
    /// What is inside is whole after every step, so a panic elsewhere spoils nothing.
    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_for(&self, watched: &Watched) {
        if !watched.unchecked.is_empty() {
            self.wake.notify_one();
        }
    }

    fn take_unchecked(&self) -> impl Iterator<Item = (OrderNo, Option<DateTime<Utc>>)> {
        let mut watched = self.lock();
        let mut taken = Vec::new();
        while taken.len() < MAX_LOOKUP
            && let Some(order_no) = watched.unchecked.pop_first()
        {
            if let Some(entry) = watched.orders.get(&order_no) {
                let known = entry.known;
                taken.push((order_no, known));
            }
        }
        taken.into_iter()
    }

    fn tell(&self, orders: Vec<Order>) {
        let snapshots: Vec<(OrderNo, Snapshot)> =
            orders.into_iter().map(|order| (order.order_no.clone(), Snapshot::of(order))).collect();
        let mut watched = self.lock();
        for (order_no, snapshot) in snapshots {
            if let Some(entry) = watched.orders.get_mut(&order_no) {
                entry.known = Some(snapshot.0.updated_at);
                entry.changes.send_replace(Some(snapshot));
            }
        }
    }
}

/// One stream's place. Gone when dropped.
#[derive(Debug)]
pub struct Watching {
    shared: Arc<Shared>,
    order_no: OrderNo,
    user_id: UserId,
    changes: watch::Receiver<Option<Snapshot>>,
}

impl Watching {
    /// Says what this stream read by itself, after it began to watch. Should others have another state, one of the two is
    /// old: the next lookup tells.
    pub fn has(&self, snapshot: &Snapshot) {
        let mut watched = self.shared.lock();
        let Some(entry) = watched.orders.get_mut(&self.order_no) else { return };
        let own = snapshot.0.updated_at;
        match entry.known {
            None => entry.known = Some(own),
            Some(known) if known == own => {}
            Some(_) => {
                entry.known = None;
                watched.unchecked.insert(self.order_no.clone());
                self.shared.wake_for(&watched);
            }
        }
    }

    /// The next state that is not the one with `id`; `None` when the process stops.
    pub async fn next(&mut self, id: i64) -> Option<Snapshot> {
        loop {
            self.changes.changed().await.ok()?;
            if let Some(snapshot) = &*self.changes.borrow_and_update()
                && snapshot.id() != id
            {
                return Some(snapshot.clone());
            }
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut watched = self.shared.lock();
        watched.streams -= 1;
        if let Some(own) = watched.users.get_mut(&self.user_id) {
            *own -= 1;
            if *own == 0 {
                watched.users.remove(&self.user_id);
            }
        }
        if let Some(entry) = watched.orders.get_mut(&self.order_no) {
            entry.streams -= 1;
            if entry.streams == 0 {
                watched.orders.remove(&self.order_no);
            }
        }
    }
}

fn jittered(period: Duration) -> Duration {
    period.mul_f64(rand::random_range(0.75..1.25))
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::{money::Fen, points::Points};

    fn order(order_no: &OrderNo, status: PaymentStatus, second: i64) -> Order {
        let at = |second| DateTime::from_timestamp(second, 7_000).expect("a time");
        Order {
            order_no: order_no.clone(),
            user_id: user(0),
            package_id: 1.into(),
            package_name: "100 points".into(),
            amount: Fen::ONE,
            currency: "CNY".into(),
            points: Points::try_from(1).expect("points"),
            bonus_points: Points::try_from(0).expect("points"),
            payment_method: "wechat_native".into(),
            status,
            code_url: None,
            transaction_id: None,
            refunded_amount: Fen::ZERO,
            paid_at: None,
            expired_at: at(0),
            created_at: at(0),
            updated_at: at(second),
        }
    }

    fn user(n: usize) -> UserId {
        format!("u{n}").parse().expect("a user id")
    }

    fn unchecked(live: &Live) -> Vec<(OrderNo, Option<i64>)> {
        live.0.take_unchecked().map(|(order_no, known)| (order_no, known.map(|known| known.timestamp()))).collect()
    }

    #[tokio::test]
    async fn everybody_who_watches_an_order_is_told_and_nobody_else() {
        let (live, watched, other) = (Live::default(), OrderNo::generate(), OrderNo::generate());
        let mut first = live.watch(watched.clone(), &user(1)).expect("room");
        let mut second = live.watch(watched.clone(), &user(2)).expect("room");
        let pending = Snapshot::of(order(&watched, PaymentStatus::Pending, 1));
        first.has(&pending);
        second.has(&pending);
        live.changed([watched.clone(), other]);
        assert_eq!(unchecked(&live), [(watched.clone(), Some(1))], "nobody watches the other");

        live.0.tell(vec![order(&watched, PaymentStatus::Paid, 2)]);
        for watching in [&mut first, &mut second] {
            let told = watching.next(pending.id()).await.expect("a change");
            assert!(told.is_final());
            assert_eq!(told.id(), 2_000_007);
            assert!(told.json().contains(r#""paymentStatus":"paid""#));
        }
    }

    #[tokio::test]
    async fn a_state_that_a_stream_has_is_not_told_again() {
        let (live, no) = (Live::default(), OrderNo::generate());
        let mut watching = live.watch(no.clone(), &user(1)).expect("room");
        live.0.tell(vec![order(&no, PaymentStatus::Pending, 1)]);
        live.0.tell(vec![order(&no, PaymentStatus::Pending, 2)]);
        let next = watching.next(1_000_007).await.expect("only the newest is kept");
        assert_eq!(next.id(), 2_000_007);
        let again = Snapshot::of(order(&no, PaymentStatus::Pending, 2));
        live.0.tell(vec![order(&no, PaymentStatus::Pending, 2)]);
        let nothing = tokio::time::timeout(Duration::from_millis(1), watching.next(again.id())).await;
        assert!(nothing.is_err(), "{nothing:?}");
    }

    /// Two read at different times, and the change between them was announced to nobody.
    #[test]
    fn streams_that_disagree_are_looked_up_whatever_is_known() {
        let (live, no) = (Live::default(), OrderNo::generate());
        let (early, late) =
            (live.watch(no.clone(), &user(1)).expect("room"), live.watch(no.clone(), &user(1)).expect("room"));
        late.has(&Snapshot::of(order(&no, PaymentStatus::Paid, 2)));
        assert_eq!(unchecked(&live), []);
        early.has(&Snapshot::of(order(&no, PaymentStatus::Pending, 1)));
        assert_eq!(unchecked(&live), [(no, None)]);
    }

    #[test]
    fn after_a_connection_everything_is_doubted() {
        let (live, no) = (Live::default(), OrderNo::generate());
        let watching = live.watch(no.clone(), &user(1)).expect("room");
        live.hear(Heard::Connected);
        assert_eq!(unchecked(&live), [(no, None)]);
        drop(watching);
        live.hear(Heard::Connected);
        assert_eq!(unchecked(&live), []);
    }

    #[test]
    fn streams_are_counted_per_user_and_in_all_and_leave_nothing_behind() {
        let live = Live::default();
        let no = OrderNo::generate();
        let mut open: Vec<_> =
            (0..MAX_STREAMS_PER_USER).map(|_| live.watch(no.clone(), &user(1)).expect("room")).collect();
        assert!(matches!(live.watch(no.clone(), &user(1)), Err(ApiError::RateLimited(_))));
        open.pop();
        open.push(live.watch(no.clone(), &user(1)).expect("room again"));
        for n in MAX_STREAMS_PER_USER..MAX_STREAMS {
            open.push(live.watch(no.clone(), &user(n)).expect("room"));
        }
        assert!(matches!(live.watch(no, &user(0)), Err(ApiError::RateLimited(_))));
        drop(open);
        let watched = live.0.lock();
        assert_eq!((watched.streams, watched.orders.len(), watched.users.len()), (0, 0, 0));
    }

    #[tokio::test]
    async fn when_the_process_stops_every_stream_ends() {
        let (live, stop) = (Live::default(), CancellationToken::new());
        let db = PgPool::connect_lazy("postgres://127.0.0.1:1/none").expect("a pool");
        let mut before = live.watch(OrderNo::generate(), &user(1)).expect("room");
        stop.cancel();
        live.clone().run(db, None, stop).await;
        assert!(before.next(0).await.is_none());
        let mut after = live.watch(OrderNo::generate(), &user(1)).expect("room");
        assert!(after.next(0).await.is_none());
        drop((before, after));
        assert_eq!(live.0.lock().streams, 0);
    }
}
