//! The intake: group commit for callbacks. While one insert is in flight the next group gathers, so one alone waits for
//! nobody, and a thousand at once share a commit.
//!
//! Everything is bounded. When the database is away the queue fills, and whoever comes then is refused at once.

use shared::{
    crash, db, metrics,
    notify::{NewNotify, NotifyId, sql},
    process::Parts,
    queue::{Line, Publisher},
};
use sqlx::PgPool;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// Tasks that write, each on its own connection. More were slower: they only make the groups smaller.
const WRITERS: usize = 2;
/// Connections for the writers: one each, and one for the time in which a dead one is replaced.
pub const CONNECTIONS: u32 = 3;
/// Rows in one insert.
const MAX_GROUP: usize = 256;
/// Callbacks that may wait.
const MAX_WAITING: usize = 8_192;
/// Bytes of bodies that may wait. Bodies of 64 KiB are allowed, so a count alone is no bound.
const MAX_WAITING_BYTES: usize = 8 * 1024 * 1024;
/// What a waiting row takes beside its body: headers, bookkeeping.
const ROW_BYTES: usize = 1_024;
/// How long a callback waits for its commit. WeChat Pay waits 5 s.
const STORE_TIMEOUT: Duration = Duration::from_secs(4);
/// For one insert. A database that is stuck must not hold the writers.
const WRITE_TIMEOUT: Duration = Duration::from_secs(4);

/// The callback is not in the log; WeChat Pay must send it again.
#[derive(Debug, PartialEq, Eq)]
pub enum NotStored {
    /// Too many were waiting already.
    QueueFull,
    /// The database has not taken it in time.
    InTime,
}

/// Where callbacks wait for their commit.
#[derive(Debug)]
pub struct Intake {
    queue: mpsc::Sender<Waiting>,
    bytes: Arc<Semaphore>,
}

#[derive(Debug)]
struct Waiting {
    notify: NewNotify,
    /// Nobody waits for a refused one.
    stored: Option<oneshot::Sender<()>>,
    _bytes: OwnedSemaphorePermit,
}

/// Starts the writers. They end when `stop` is cancelled and everything that waits is written.
pub fn start(db: &PgPool, publisher: Option<Publisher>, parts: &Parts, stop: &CancellationToken) -> Intake {
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    let writer = Writer { db: db.clone(), publisher, queue: Arc::new(Mutex::new(receiver)) };
    for _ in 0..WRITERS {
        parts.spawn("storing callbacks", writer.clone().run(stop.clone()));
    }
    Intake { queue: sender, bytes: Arc::new(Semaphore::new(MAX_WAITING_BYTES)) }
}

impl Intake {
    /// Stores the callback and waits for its commit. Refuses at once when too many wait.
    pub async fn store(&self, notify: NewNotify) -> Result<(), NotStored> {
        let (sender, receiver) = oneshot::channel();
        self.enqueue(notify, Some(sender))?;
        match tokio::time::timeout(STORE_TIMEOUT, receiver).await {
            Ok(Ok(())) => Ok(()),
            // It may be stored all the same. Then WeChat Pay's repeat is a duplicate, which is harmless.
            Ok(Err(_)) | Err(_) => Err(NotStored::InTime),
        }
    }

    /// How many callbacks wait, for `/metrics`.
    pub fn waiting(&self) -> impl Fn() -> usize + Send + Sync + 'static {
        let queue = self.queue.clone();
        move || queue.max_capacity() - queue.capacity()
    }

    /// Keeps a refused callback, if there is room.
    pub fn keep(&self, notify: NewNotify) {
        let _ = self.enqueue(notify, None);
    }

    fn enqueue(&self, notify: NewNotify, stored: Option<oneshot::Sender<()>>) -> Result<(), NotStored> {
        let bytes = u32::try_from(notify.body.len() + ROW_BYTES).map_err(|_| NotStored::QueueFull)?;
        let permit = Arc::clone(&self.bytes).try_acquire_many_owned(bytes).map_err(|_| NotStored::QueueFull)?;
        self.queue.try_send(Waiting { notify, stored, _bytes: permit }).map_err(|_| NotStored::QueueFull)
    }
}

#[derive(Clone)]
struct Writer {
    db: PgPool,
    publisher: Option<Publisher>,
    queue: Arc<Mutex<mpsc::Receiver<Waiting>>>,
}

impl Writer {
    async fn run(self, stop: CancellationToken) {
        loop {
            let mut group = Vec::new();
            {
                let mut queue = self.queue.lock().await;
                tokio::select! {
                    biased;
                    _ = queue.recv_many(&mut group, MAX_GROUP) => {}
                    () = stop.cancelled() => {
                        queue.close();
                        queue.recv_many(&mut group, MAX_GROUP).await;
                    }
                }
            }
            if group.is_empty() {
                return;
            }
            // Whoever gave up waiting has been told to come again; writing it would only make a duplicate.
            group.retain(|waiting| waiting.stored.as_ref().is_none_or(|stored| !stored.is_closed()));
            if !group.is_empty() {
                self.write(group).await;
            }
        }
    }

    /// Writes the group. One that the database refuses is split, so that a bad row takes no other with it.
    async fn write(&self, group: Vec<Waiting>) {
        let mut groups = vec![group];
        while let Some(mut group) = groups.pop() {
            let rows: Vec<&NewNotify> = group.iter().map(|waiting| &waiting.notify).collect();
            let begun = Instant::now();
            let inserted = self.insert(&rows).await;
            metrics::intake_inserted(rows.len(), begun.elapsed(), inserted.is_ok());
            match inserted {
                Ok(()) => {
                    crash::point("intake stored", "");
                    self.publish(&rows);
                    for stored in group.into_iter().filter_map(|waiting| waiting.stored) {
                        let _ = stored.send(());
                    }
                }
                Err(error) if group.len() > 1 && !db::is_outage(&error) => {
                    let half = group.split_off(group.len() / 2);
                    groups.extend([half, group]);
                }
                // Dropping the group tells everybody in it.
                Err(error) => {
                    tracing::error!(rows = group.len(), "callbacks cannot be stored: {error}");
                }
            }
        }
    }

    async fn insert(&self, rows: &[&NewNotify]) -> sqlx::Result<()> {
        let mut connection = self.db.acquire().await?;
        let inserted = tokio::time::timeout(WRITE_TIMEOUT, sql::insert(&mut *connection, rows)).await;
        let inserted = inserted.unwrap_or(Err(sqlx::Error::PoolTimedOut));
        if inserted.as_ref().is_err_and(db::is_outage) {
            // It may be half-way through a statement, or its server gone without a word: not to be used again.
            connection.close_on_drop();
        }
        inserted
    }

    fn publish(&self, rows: &[&NewNotify]) {
        let ids: Vec<NotifyId> = rows.iter().filter(|row| row.rejected.is_none()).map(|row| row.id).collect();
        if let Some(publisher) = &self.publisher {
            publisher.publish(Line::Notify, &ids);
        }
    }
}
