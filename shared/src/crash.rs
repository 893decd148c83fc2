//! Points at which a test can kill the process: one between every two steps that outlive it. In debug builds only: a release
//! has none of it.
//!
//! `RECHARGE_CRASH_AT` names one: `point`, `point:subject` for one order or refund, `point#2` for the second pass.

/// All there are, along the life of an order, a notification and a refund.
pub const POINTS: [&str; 27] = [
    // An order is placed: our row is stored, WeChat Pay has answered, its code is stored.
    "order stored",
    "order placed",
    "order coded",
    // It is asked about: WeChat Pay has answered, the payment is applied, and committed; and nothing is noted of that yet.
    "order asked",
    "payment applied",
    "payment committed",
    "order checked",
    // It is ended: closed at WeChat Pay, marked here.
    "order closed",
    "order ended",
    // A callback is in the log, and nobody knows.
    "intake stored",
    // A set of notifications: its rows are locked, said to be held, one is opened; all is applied, written, committed, acked.
    "claimed",
    "held",
    "opened",
    "applied",
    "written",
    "committed",
    "acked",
    // Notifications that come back: by the ladder, by hand, because a setting was mended.
    "retry committed",
    "retry stored",
    "amended",
    // A refund: stored with its points, claimed, called or asked about; the answer is applied, committed, acked.
    "refund stored",
    "refund claimed",
    "refund called",
    "refund applied",
    "refund committed",
    "refund acked",
    // It did not get on, and comes back.
    "refund put off",
];

/// Ends the process at once, like `kill -9`, when `RECHARGE_CRASH_AT` names this pass of this point.
#[cfg(debug_assertions)]
pub fn point(name: &str, subject: &str) {
    debug_assert!(POINTS.contains(&name), "{name} is not in the list of crash points");
    if let Some(wanted) = &*armed::WANTED
        && wanted.is_here(name, subject)
    {
        eprintln!("RECHARGE_CRASH_AT={}: the process ends here", wanted.text);
        std::process::abort();
    }
}

/// Reads `RECHARGE_CRASH_AT`; ends the process with a word about it when it names no point.
#[cfg(debug_assertions)]
pub fn arm() {
    std::sync::LazyLock::force(&armed::WANTED);
}

/// Nothing, in a release.
#[cfg(not(debug_assertions))]
pub const fn point(_: &str, _: &str) {}

/// Nothing, in a release.
#[cfg(not(debug_assertions))]
pub const fn arm() {}

#[cfg(debug_assertions)]
mod armed {
    use super::POINTS;
    use std::sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering},
    };

    pub static WANTED: LazyLock<Option<Wanted>> = LazyLock::new(|| {
        let wanted = read()?.parse().unwrap_or_else(|fault| {
            eprintln!("RECHARGE_CRASH_AT {fault}");
            std::process::exit(2)
        });
        Some(wanted)
    });

    #[expect(clippy::disallowed_methods, reason = "a hook for tests is no configuration")]
    fn read() -> Option<String> {
        std::env::var("RECHARGE_CRASH_AT").ok()
    }

    /// Where the process is to end.
    #[derive(Debug)]
    pub struct Wanted {
        pub text: String,
        point: String,
        subject: Option<String>,
        pass: usize,
        passed: AtomicUsize,
    }

    impl Wanted {
        pub fn is_here(&self, point: &str, subject: &str) -> bool {
            self.point == point
                && self.subject.as_ref().is_none_or(|wanted| wanted == subject)
                && self.passed.fetch_add(1, Ordering::Relaxed) + 1 == self.pass
        }
    }

    impl std::str::FromStr for Wanted {
        type Err = String;

        fn from_str(text: &str) -> Result<Self, String> {
            let (place, pass) = text.split_once('#').unwrap_or((text, "1"));
            let (point, subject) =
                place.split_once(':').map_or((place, None), |(point, of)| (point, Some(of.to_owned())));
            if !POINTS.contains(&point) {
                return Err(format!("names no crash point: {point}. There are: {}", POINTS.join(", ")));
            }
            let pass = pass.parse().ok().filter(|pass| *pass > 0);
            let pass = pass.ok_or_else(|| format!("counts passes from 1: {text}"))?;
            Ok(Self { text: text.to_owned(), point: point.to_owned(), subject, pass, passed: AtomicUsize::new(0) })
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_point_is_passed_by_name_subject_and_count() {
            let wanted = |text: &str| text.parse::<Wanted>();
            assert!(wanted("opened").expect("a point").is_here("opened", "ORDER1"));
            let second: Wanted = wanted("refund called:R1#2").expect("a point");
            let passes = [("refund called", "R1"), ("refund called", "R2"), ("opened", "R1"), ("refund called", "R1")];
            assert_eq!(passes.map(|(point, subject)| second.is_here(point, subject)), [false, false, false, true]);
            assert!(!second.is_here("refund called", "R1"), "once");
            for wrong in ["", "opend", "opened#0", "opened#x", ":R1", "opened #1"] {
                assert!(wanted(wrong).is_err(), "{wrong}");
            }
        }

        #[test]
        fn each_point_is_listed_once() {
            let names: std::collections::BTreeSet<_> = POINTS.iter().collect();
            assert_eq!(names.len(), POINTS.len());
            assert!(POINTS.iter().all(|name| !name.contains([':', '#', ','])));
        }
    }
}
