//! Watching notifications that were given back to the workers, until each has come to an end.

use crate::table;
use indicatif::{ProgressBar, ProgressStyle};
use shared::{
    db,
    notify::{NotifyId, ProcessStatus, progress},
};
use sqlx::PgPool;
use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};
use tokio::time::Instant;

/// Between two looks; longer where a look takes long.
const PAUSE: Duration = Duration::from_millis(250);
/// Between two lines where there is no terminal.
const LINE_PAUSE: Duration = Duration::from_secs(2);
/// When nothing has moved for so long, it is asked why.
const PATIENCE: Duration = Duration::from_secs(30);

/// A status, the error code that goes with it (or nothing), and how many have come to that.
type Tally = BTreeMap<(&'static str, String), usize>;

/// What is watched, and what became of it.
#[derive(Debug)]
pub struct Watch {
    /// Not ended yet.
    left: Vec<NotifyId>,
    all: usize,
    ended: Tally,
    /// Tried, and tried again by itself.
    retrying: Tally,
    /// The last failure, in words.
    failure: Option<String>,
    bar: ProgressBar,
    /// The last line, where there is no bar, and when it was written.
    said: Option<(Instant, String)>,
    warned: Option<String>,
    moved: Instant,
}

impl Watch {
    /// Watches nothing yet.
    pub fn new() -> Self {
        // Hidden by itself where standard error is no terminal.
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("{bar:40} {pos} of {len}{msg}, {eta} left");
        bar.set_style(style.expect("the template is right"));
        Self {
            left: Vec::new(),
            all: 0,
            ended: Tally::new(),
            retrying: Tally::new(),
            failure: None,
            bar,
            said: None,
            warned: None,
            moved: Instant::now(),
        }
    }

    /// Watches these too.
    pub fn follow(&mut self, ids: Vec<NotifyId>) {
        self.all += ids.len();
        self.left.extend(ids);
        self.bar.set_length(self.all as u64);
    }

    /// Waits until all have ended, or the next attempt of what is left is more than a minute off. A database that is away is
    /// waited for.
    pub async fn wait(&mut self, db: &PgPool) -> sqlx::Result<()> {
        while !self.left.is_empty() {
            let begun = Instant::now();
            match self.look(db).await {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) if db::is_outage(&error) => self.warn(format!("the database is away ({error})")),
                Err(error) => return Err(error),
            }
            tokio::time::sleep(PAUSE.max(begun.elapsed() * 3)).await;
        }
        Ok(())
    }

    /// Takes the bar off the terminal.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }

    /// Whether there is nothing to wait for any more.
    async fn look(&mut self, db: &PgPool) -> sqlx::Result<bool> {
        let tried = progress::tried(db, &self.left).await?;
        let mut done = HashSet::new();
        let mut put_off = 0;
        self.retrying.clear();
        for tried in tried {
            let key = (tried.status.as_str(), tried.error_code.unwrap_or_default());
            if let Some(message) = tried.error_message {
                self.failure = Some(format!("{}: {message}", key.1));
            }
            if tried.status == ProcessStatus::Retrying {
                put_off += usize::from(tried.put_off);
                *self.retrying.entry(key).or_default() += 1;
            } else {
                *self.ended.entry(key).or_default() += 1;
                done.insert(tried.id);
            }
        }
        self.left.retain(|id| !done.contains(id));
        if !done.is_empty() {
            (self.moved, self.warned) = (Instant::now(), None);
        } else if self.moved.elapsed() > PATIENCE {
            self.moved = Instant::now();
            let overdue = progress::overdue(db, &self.left).await?;
            if overdue > 0 {
                self.warn(format!(
                    "{overdue} have been due for half a minute, and nobody takes them: is a worker running?"
                ));
            }
        }
        self.show();
        Ok(put_off == self.left.len())
    }

    fn show(&mut self) {
        let counts: Vec<_> = by_status(&self.counts()).iter().map(|(status, n)| format!("{n} {status}")).collect();
        let so_far = if counts.is_empty() { String::new() } else { format!(": {}", counts.join(", ")) };
        self.bar.set_position((self.all - self.left.len()) as u64);
        self.bar.set_message(so_far.clone());
        let line = format!("{} of {}{so_far}", self.all - self.left.len(), self.all);
        let is_new = self.said.as_ref().is_none_or(|(_, said)| *said != line);
        let is_due = self.said.as_ref().is_none_or(|(at, _)| at.elapsed() >= LINE_PAUSE) || self.left.is_empty();
        if self.bar.is_hidden() && is_new && is_due {
            eprintln!("{line}");
            self.said = Some((Instant::now(), line));
        }
    }

    /// Says why nothing moves; once, until something does.
    fn warn(&mut self, warning: String) {
        if self.warned.as_ref() != Some(&warning) {
            self.bar.suspend(|| eprintln!("{warning}"));
            self.warned = Some(warning);
        }
    }

    fn counts(&self) -> Tally {
        self.ended.iter().chain(&self.retrying).map(|(key, count)| (key.clone(), *count)).collect()
    }

    /// How many have come to `status`.
    pub fn count(&self, status: ProcessStatus) -> usize {
        by_status(&self.counts()).get(status.as_str()).copied().unwrap_or(0)
    }

    /// How many have not ended, of how many.
    pub const fn left(&self) -> (usize, usize) {
        (self.left.len(), self.all)
    }

    /// Why the last one that failed did.
    pub fn failure(&self) -> &str {
        self.failure.as_deref().unwrap_or("no reason is known")
    }

    /// Prints what became of them.
    pub fn print(&self) {
        let rows: Vec<_> = self
            .counts()
            .into_iter()
            .map(|((status, code), count)| {
                [status.into(), if code.is_empty() { "-".into() } else { code }, count.to_string()]
            })
            .collect();
        table::print(["OUTCOME", "ERROR CODE", "HOW MANY"], &rows);
    }
}

fn by_status(tally: &Tally) -> BTreeMap<&'static str, usize> {
    let mut by_status = BTreeMap::new();
    for ((status, _), count) in tally {
        *by_status.entry(*status).or_default() += count;
    }
    by_status
}
