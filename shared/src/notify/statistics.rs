//! Figures of the notify log: how many came, what became of them, and how long it took.
//!
//! The database keeps the figures of what has ended by the hour of its arrival (migration 0010), as exact as the rows. A
//! range is whole hours, read from those figures, at most two edges shorter than an hour, counted from the rows, and what
//! has not ended, counted from an index that holds nothing else. Each notification counts once, under the state it has now.

pub mod sql;

use super::{NotifyType, ProcessStatus};
use crate::statistics::Span;
use chrono::{DateTime, Utc};

/// How many notifications are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Stored, not yet handled.
    pub received: i64,
    /// They changed our state.
    pub processed: i64,
    /// Nothing was left to change.
    pub duplicate: i64,
    /// Tried again by themselves.
    pub retrying: i64,
    /// Given up.
    pub dead: i64,
    /// Not from WeChat Pay, or not for us.
    pub rejected: i64,
}

impl Counts {
    /// All of them.
    pub const fn all(&self) -> i64 {
        self.received + self.processed + self.duplicate + self.retrying + self.dead + self.rejected
    }

    /// The share of those that were for us that had the effect they should have, 0 to 1; `None` when there are none.
    #[expect(clippy::cast_precision_loss, reason = "a share, and no count comes near 2^53")]
    pub fn success_rate(&self) -> Option<f64> {
        let ours = self.all() - self.rejected;
        (ours > 0).then(|| (self.processed + self.duplicate) as f64 / ours as f64)
    }

    const fn of(&mut self, status: ProcessStatus) -> &mut i64 {
        match status {
            ProcessStatus::Received => &mut self.received,
            ProcessStatus::Processed => &mut self.processed,
            ProcessStatus::Duplicate => &mut self.duplicate,
            ProcessStatus::Retrying => &mut self.retrying,
            ProcessStatus::Dead => &mut self.dead,
            ProcessStatus::Rejected => &mut self.rejected,
        }
    }
}

/// The notifications of one bucket, one family and one state.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// When the bucket begins.
    pub start: DateTime<Utc>,
    /// The family.
    pub notify_type: NotifyType,
    /// The state.
    pub status: ProcessStatus,
    /// How many.
    pub notifications: i64,
    /// How often those were tried again.
    pub retries: i64,
    /// When the first of them arrived, if they have not ended.
    pub waiting_since: Option<DateTime<Utc>>,
}

/// How many took about as long.
#[derive(Clone, Copy, Debug)]
pub struct TimeClass {
    /// From arrival to end, in milliseconds, to some 2 %.
    pub time_ms: f64,
    /// How many.
    pub notifications: i64,
}

/// The time within which a share of the notifications ended, in whole milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessTimes {
    /// Half of them.
    pub p50_ms: i64,
    /// 95 of 100.
    pub p95_ms: i64,
    /// 99 of 100.
    pub p99_ms: i64,
}

impl ProcessTimes {
    /// Of `classes`, in any order; `None` when nothing is in them.
    fn of(mut classes: Vec<TimeClass>) -> Option<Self> {
        classes.sort_unstable_by(|a, b| a.time_ms.total_cmp(&b.time_ms));
        let within = |percent| time_within(&classes, percent);
        Some(Self { p50_ms: within(50)?, p95_ms: within(95)?, p99_ms: within(99)? })
    }
}

/// The time of the notification at which `percent` of all are reached (the nearest rank).
fn time_within(classes: &[TimeClass], percent: i64) -> Option<i64> {
    let all: i64 = classes.iter().map(|class| class.notifications).sum();
    // At least one: of nothing there is no time.
    let mut left = Some((all * percent + 99) / 100).filter(|rank| *rank > 0)?;
    for class in classes {
        left -= class.notifications;
        if left <= 0 {
            #[expect(clippy::cast_possible_truncation, reason = "milliseconds between two instants")]
            return Some(class.time_ms.round() as i64);
        }
    }
    None
}

/// The figures of a span.
#[derive(Clone, Debug)]
pub struct Statistics {
    /// Of all of it.
    pub totals: Counts,
    /// Of each family.
    pub by_type: [(NotifyType, Counts); 2],
    /// How often those of the span were tried again, by themselves and by hand.
    pub retries: i64,
    /// How long those took that had an effect, or none left to have.
    pub process_times: Option<ProcessTimes>,
    /// When the first of those arrived that have not ended.
    pub oldest_unfinished_at: Option<DateTime<Utc>>,
    /// Of each family in every bucket, those in which nothing arrived included.
    pub series: Vec<(DateTime<Utc>, [Counts; 2])>,
}

impl Statistics {
    /// Adds up.
    pub fn of(span: &Span, cells: &[Cell], classes: Vec<TimeClass>) -> Self {
        let mut sums = [Counts::default(); 2];
        let mut series: Vec<_> = span.starts().map(|start| (start, [Counts::default(); 2])).collect();
        for cell in cells {
            let family = usize::from(cell.notify_type == NotifyType::Refund);
            *sums[family].of(cell.status) += cell.notifications;
            if let Ok(at) = series.binary_search_by_key(&cell.start, |(start, _)| *start) {
                *series[at].1[family].of(cell.status) += cell.notifications;
            }
        }
        Self {
            totals: sum(&sums),
            by_type: [(NotifyType::Payment, sums[0]), (NotifyType::Refund, sums[1])],
            retries: cells.iter().map(|cell| cell.retries).sum(),
            process_times: ProcessTimes::of(classes),
            oldest_unfinished_at: cells.iter().filter_map(|cell| cell.waiting_since).min(),
            series,
        }
    }
}

/// Both families together.
pub fn sum([payment, refund]: &[Counts; 2]) -> Counts {
    Counts {
        received: payment.received + refund.received,
        processed: payment.processed + refund.processed,
        duplicate: payment.duplicate + refund.duplicate,
        retrying: payment.retrying + refund.retrying,
        dead: payment.dead + refund.dead,
        rejected: payment.rejected + refund.rejected,
    }
}

#[cfg(test)]
mod tests;
