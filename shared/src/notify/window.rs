//! Which ids the notifications of a span of time can have. An id begins with the time at which it was made (`UUIDv7`), so a
//! span of time is a stretch of the primary key, and needs no index of its own.

use super::NotifyId;
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

/// How far the clock that made an id may be from the database's, which set the row's time. The door takes nothing when its
/// clock is further off than that from WeChat Pay's.
const MAX_CLOCK_OFFSET: TimeDelta = TimeDelta::minutes(5);

/// The ids from `first` on and before `end`: at least those of the span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub first: Uuid,
    pub end: Uuid,
}

impl Window {
    /// The span begins at `from` and ends before `to`; without one of them it is open there.
    pub fn of(from: Option<DateTime<Utc>>, to: Option<DateTime<Utc>>) -> Self {
        let first = from.and_then(|from| from.checked_sub_signed(MAX_CLOCK_OFFSET)).map_or(Uuid::nil(), floor);
        let end = to.and_then(|to| to.checked_add_signed(MAX_CLOCK_OFFSET)).map_or(Uuid::max(), floor);
        Self { first, end }
    }

    /// What of it is behind `id`, on the way up.
    pub fn behind(self, id: Option<NotifyId>) -> Self {
        let next = id.map_or(Uuid::nil(), |id| Uuid::from_u128(id.get().as_u128().saturating_add(1)));
        Self { first: self.first.max(next), ..self }
    }

    /// What of it is before `id`, on the way down.
    pub fn before(self, id: Option<NotifyId>) -> Self {
        Self { end: self.end.min(id.map_or(Uuid::max(), NotifyId::get)), ..self }
    }
}

/// The smallest `UUIDv7` of an instant, as the migration's `uuid_v7_floor` has it.
fn floor(at: DateTime<Utc>) -> Uuid {
    const LATEST: u64 = (1 << 48) - 1;
    let milliseconds = u64::try_from(at.timestamp_millis()).unwrap_or(0).min(LATEST);
    Uuid::from_u128(u128::from(milliseconds) << 80)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Option<DateTime<Utc>> {
        text.parse().ok()
    }

    #[test]
    fn a_span_is_a_stretch_of_ids_with_room_for_clocks() {
        let window = Window::of(at("2026-06-01T00:05:00Z"), at("2026-06-01T00:05:00Z"));
        assert_eq!(window.first.to_string(), "019e807a-ec00-0000-0000-000000000000", "midnight");
        assert_eq!(window.end.as_u128() - window.first.as_u128(), 600_000 << 80, "ten minutes");
    }

    #[test]
    fn a_walk_leaves_behind_what_it_has_met() {
        let [low, met, high] = [1, 5, 9].map(Uuid::from_u128);
        let window = Window { first: low, end: high };
        assert_eq!(window.behind(Some(NotifyId(met))), Window { first: Uuid::from_u128(6), end: high });
        assert_eq!(window.before(Some(NotifyId(met))), Window { first: low, end: met });
        let beside = Window { first: met, end: met };
        assert_eq!((beside.behind(Some(NotifyId(low))), beside.before(Some(NotifyId(high)))), (beside, beside));
        assert_eq!((window.behind(None), window.before(None)), (window, window));
    }

    #[test]
    fn an_open_end_takes_every_id() {
        assert_eq!(Window::of(None, None), Window { first: Uuid::nil(), end: Uuid::max() });
        let early = Window::of(at("1900-01-01T00:00:00Z"), at("1900-01-02T00:00:00Z"));
        assert_eq!(early, Window { first: Uuid::nil(), end: Uuid::nil() });
        let late = Window::of(Some(DateTime::<Utc>::MIN_UTC), Some(DateTime::<Utc>::MAX_UTC));
        assert_eq!(late, Window { first: Uuid::nil(), end: Uuid::max() });
        assert!(Window::of(at("9999-12-31T00:00:00Z"), None).first < Uuid::max());
    }
}
