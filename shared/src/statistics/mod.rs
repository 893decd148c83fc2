//! Revenue, orders, conversion and refunds: by time, and by package.
//!
//! The database keeps the figures of every hour and package (migration 0009), as exact as the orders themselves. A range is
//! whole hours, read from those figures, and at most two edges shorter than an hour, counted from the orders.

pub mod sql;

use crate::packages::PackageId;
use chrono::{DateTime, TimeDelta, Utc};
use std::ops::Range;

/// How far back a range goes that does not say where it begins.
const DEFAULT_LENGTH: TimeDelta = TimeDelta::days(7);
/// The time in Asia/Shanghai is this much ahead of UTC, all year round.
const SHANGHAI_SECONDS: i64 = 8 * 3600;
const HOUR_SECONDS: i64 = 3600;

/// What the time is cut into. Hours and days are those of Asia/Shanghai.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bucket {
    /// From one full hour to the next.
    Hour,
    /// From midnight to midnight.
    Day,
}

/// The text is no bucket.
#[derive(Debug, thiserror::Error)]
#[error("a bucket is hour or day")]
pub struct BadBucket;

impl std::str::FromStr for Bucket {
    type Err = BadBucket;

    fn from_str(text: &str) -> Result<Self, BadBucket> {
        match text {
            "hour" => Ok(Self::Hour),
            "day" => Ok(Self::Day),
            _ => Err(BadBucket),
        }
    }
}

impl Bucket {
    /// As the contract spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    pub(crate) const fn seconds(self) -> i64 {
        match self {
            Self::Hour => HOUR_SECONDS,
            Self::Day => 24 * HOUR_SECONDS,
        }
    }

    /// When the bucket begins that `at` falls into.
    pub fn start(self, at: DateTime<Utc>) -> DateTime<Utc> {
        let shift = (at.timestamp() + SHANGHAI_SECONDS).rem_euclid(self.seconds());
        DateTime::from_timestamp(at.timestamp() - shift, 0).unwrap_or(at)
    }
}

/// A span of time that figures can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    bucket: Bucket,
}

/// The figures of the span cannot be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSpan {
    /// It does not end after it begins.
    #[error("from must be before to")]
    Empty,
    /// It has more than [`Span::MAX_BUCKETS`].
    #[error("there are more than 400 buckets between from and to")]
    TooLong,
}

impl Span {
    /// The most buckets that one answer has.
    pub const MAX_BUCKETS: i64 = 400;

    /// From `from`, inclusive, to `to`, exclusive. Without `to` it ends with the bucket that `now` falls into; without
    /// `from` it begins seven days before its end.
    ///
    /// # Errors
    /// [`BadSpan`]
    pub fn new(
        from: Option<DateTime<Utc>>,
        to: Option<DateTime<Utc>>,
        bucket: Bucket,
        now: DateTime<Utc>,
    ) -> Result<Self, BadSpan> {
        let length = TimeDelta::seconds(bucket.seconds());
        let to = to.unwrap_or_else(|| bucket.start(now) + length);
        let from = from.unwrap_or_else(|| to - DEFAULT_LENGTH);
        if from >= to {
            return Err(BadSpan::Empty);
        }
        let span = Self { from, to, bucket };
        if span.buckets() > Self::MAX_BUCKETS { Err(BadSpan::TooLong) } else { Ok(span) }
    }

    /// Where it begins, inclusive.
    pub const fn from(&self) -> DateTime<Utc> {
        self.from
    }

    /// Where it ends, exclusive.
    pub const fn to(&self) -> DateTime<Utc> {
        self.to
    }

    /// What it is cut into.
    pub const fn bucket(&self) -> Bucket {
        self.bucket
    }

    /// How many buckets it touches.
    fn buckets(&self) -> i64 {
        let first = self.bucket.start(self.from);
        let seconds = (self.to - first).num_seconds();
        let whole = first + TimeDelta::seconds(seconds) == self.to;
        // A part of a bucket is one too, be it shorter than a second.
        seconds / self.bucket.seconds() + i64::from(!whole || seconds % self.bucket.seconds() != 0)
    }

    /// When each of its buckets begins; the first of them at `from` or before.
    pub fn starts(&self) -> impl Iterator<Item = DateTime<Utc>> {
        let (first, seconds) = (self.bucket.start(self.from), self.bucket.seconds());
        (0..self.buckets()).map(move |n| first + TimeDelta::seconds(n * seconds))
    }

    /// The whole hours in it, and what is left of it at its ends.
    pub(crate) fn parts(&self) -> (Range<DateTime<Utc>>, Vec<Range<DateTime<Utc>>>) {
        let last = Bucket::Hour.start(self.to);
        let first = Bucket::Hour.start(self.from);
        let first = if first == self.from { first } else { first + TimeDelta::hours(1) };
        if first >= last {
            // No whole hour: one piece, around the full hour perhaps.
            return (last..last, vec![self.from..self.to]);
        }
        let edges = [self.from..first, last..self.to];
        (first..last, edges.into_iter().filter(|edge| edge.start < edge.end).collect())
    }
}

/// Sums over some time. Money is in fen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Orders made in that time.
    pub orders: i64,
    /// How many of those were paid, then or later.
    pub converted: i64,
    /// Payments made in that time.
    pub paid_orders: i64,
    /// What they paid.
    pub paid_fen: i64,
    /// The points they bought, bonus included. What refunds took back later is not taken off.
    pub points: i64,
    /// What went back by refunds that succeeded in that time.
    pub refunded_fen: i64,
}

impl Figures {
    /// What was paid, less what went back. Below zero when old payments were refunded.
    pub const fn net_fen(&self) -> i64 {
        self.paid_fen - self.refunded_fen
    }

    /// The share of the orders made in that time that were paid, 0 to 1; `None` when there are no orders.
    #[expect(clippy::cast_precision_loss, reason = "a share, and no count comes near 2^53")]
    pub fn conversion_rate(&self) -> Option<f64> {
        (self.orders > 0).then(|| self.converted as f64 / self.orders as f64)
    }

    fn add(&mut self, other: &Self) {
        self.orders += other.orders;
        self.converted += other.converted;
        self.paid_orders += other.paid_orders;
        self.paid_fen += other.paid_fen;
        self.points += other.points;
        self.refunded_fen += other.refunded_fen;
    }
}

/// The figures of one bucket and one package.
#[derive(Clone, Debug)]
pub struct Cell {
    /// When the bucket begins.
    pub start: DateTime<Utc>,
    /// The package.
    pub package_id: PackageId,
    /// Its name now.
    pub package_name: String,
    /// The sums.
    pub figures: Figures,
}

/// The figures of a span.
#[derive(Clone, Debug)]
pub struct Statistics {
    /// Of all of it.
    pub totals: Figures,
    /// Of the packages with which anything happened, in display order; `start` is the first bucket's.
    pub by_package: Vec<Cell>,
    /// Of every bucket, those in which nothing happened included.
    pub series: Vec<(DateTime<Utc>, Figures)>,
}

impl Statistics {
    /// Adds `cells` up. Those of one package stand together.
    pub fn of(span: &Span, cells: Vec<Cell>) -> Self {
        let mut totals = Figures::default();
        let mut series: Vec<_> = span.starts().map(|start| (start, Figures::default())).collect();
        let mut by_package: Vec<Cell> = Vec::new();
        for cell in cells {
            totals.add(&cell.figures);
            if let Ok(at) = series.binary_search_by_key(&cell.start, |(start, _)| *start) {
                series[at].1.add(&cell.figures);
            }
            match by_package.last_mut() {
                Some(last) if last.package_id == cell.package_id => last.figures.add(&cell.figures),
                _ => by_package.push(cell),
            }
        }
        Self { totals, by_package, series }
    }
}

#[cfg(test)]
mod tests;
