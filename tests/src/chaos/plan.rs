//! What will be bought and what will break, and when. Pure: the same seed and length give the same plan.

use super::dice::Dice;
use std::{collections::BTreeMap, fmt, time::Duration};

/// How many processes there are.
pub const APIS: usize = 2;
/// How many processes there are.
pub const WORKERS: usize = 3;
/// Who buys.
pub const USERS: usize = 24;
/// What `ops seed` sells.
pub const PACKAGES: usize = 4;
/// From one kill to the next, on average.
const KILL_EVERY_MS: u64 = 4_300;
/// From one other fault to the next, on average.
const FAULT_EVERY_MS: u64 = 5_000;
/// Nothing breaks before.
const FIRST_MS: u64 = 2_000;

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Who buys what, in order of time.
    pub purchases: Vec<Purchase>,
    /// What breaks, in order of time.
    pub strikes: Vec<Strike>,
}

/// Somebody buys something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purchase {
    /// From the start.
    pub at: Duration,
    /// Who, of [`USERS`].
    pub user: usize,
    /// What, of [`PACKAGES`].
    pub package: usize,
    /// What becomes of it.
    pub fate: Fate,
    /// How long after the order, or the money, it does.
    pub after: Duration,
}

/// What becomes of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is paid; then these go back, one after the other.
    Paid(Vec<Refund>),
    /// It is cancelled.
    Cancelled,
    /// It is paid and cancelled at once.
    PaidAndCancelled,
    /// Nobody cares for it any more.
    Left,
}

/// Money that goes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refund {
    /// After the payment, or the refund before.
    pub after: Duration,
    /// In WeChat Pay's console, instead of here.
    pub in_console: bool,
    /// Of the order's amount; `None` for all that is left.
    pub percent: Option<u64>,
    /// What WeChat Pay makes of it.
    pub outcome: Outcome,
}

/// What WeChat Pay makes of a refund.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The money goes back.
    Success,
    /// It does not.
    Closed,
    /// It is stuck, then somebody helps.
    StuckThenSuccess,
}

/// Something breaks, and is put right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strike {
    /// From the start.
    pub at: Duration,
    /// Until it is put right.
    pub length: Duration,
    /// What.
    pub target: Target,
    /// How.
    pub kind: Kind,
}

/// What can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// One of [`APIS`].
    Api(usize),
    /// One of [`WORKERS`].
    Worker(usize),
    /// The server.
    Postgres,
    /// The server.
    RabbitMq,
    /// The network before it.
    PostgresPath,
    /// The network before it.
    RabbitMqPath,
    /// The network between WeChat Pay and us.
    CallbackPath,
}

/// How things break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `kill -9`, and started again.
    Kill,
    /// SIGSTOP, and SIGCONT.
    Stop,
    /// Connections are refused, and the standing ones closed.
    Cut,
    /// Connections hang, and go on.
    Stall,
    /// Standing connections are dead without a word; new ones work.
    Freeze,
    /// Its clock is so many seconds off, from a restart to the next.
    Skew(i64),
    /// SIGTERM, and started again from another binary.
    Upgrade,
}

impl Target {
    /// All names.
    pub const NAMES: [&str; 7] =
        ["api", "worker", "PostgreSQL", "RabbitMQ", "path to PostgreSQL", "path to RabbitMQ", "path of the callbacks"];

    /// Its name, whichever of its kind it is.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Api(_) => "api",
            Self::Worker(_) => "worker",
            Self::Postgres => "PostgreSQL",
            Self::RabbitMq => "RabbitMQ",
            Self::PostgresPath => "path to PostgreSQL",
            Self::RabbitMqPath => "path to RabbitMQ",
            Self::CallbackPath => "path of the callbacks",
        }
    }

    /// How long after it was put right it is left alone: as long as it usually takes to be of use again.
    const fn rest(self) -> Duration {
        match self {
            Self::Api(_) | Self::Worker(_) => Duration::from_secs(3),
            Self::Postgres => Duration::from_secs(6),
            Self::RabbitMq => Duration::from_secs(30),
            Self::PostgresPath | Self::RabbitMqPath | Self::CallbackPath => Duration::from_secs(4),
        }
    }

    /// All of its kind.
    fn alike(self) -> Vec<Self> {
        match self {
            Self::Api(_) => (0..APIS).map(Self::Api).collect(),
            Self::Worker(_) => (0..WORKERS).map(Self::Worker).collect(),
            one => vec![one],
        }
    }
}

impl Kind {
    /// All there are; the skew stands for any.
    pub const ALL: [Self; 7] =
        [Self::Kill, Self::Stop, Self::Cut, Self::Stall, Self::Freeze, Self::Skew(0), Self::Upgrade];

    /// Its name, whatever it is done to.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill -9",
            Self::Stop => "stop",
            Self::Cut => "cut",
            Self::Stall => "stall",
            Self::Freeze => "freeze",
            Self::Skew(_) => "clock skew",
            Self::Upgrade => "new binary",
        }
    }

    fn length(self, dice: &mut Dice) -> Duration {
        let (from, to) = match self {
            Self::Kill => (300, 3_000),
            Self::Stop => (1_000, 8_000),
            Self::Cut => (500, 4_000),
            Self::Stall => (1_000, 6_000),
            Self::Freeze => (20_000, 30_000),
            // Two graceful restarts have their place in it.
            Self::Skew(_) => (14_000, 25_000),
            Self::Upgrade => (10_000, 10_000),
        };
        Duration::from_millis(dice.within(from, to))
    }
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (target, kind) = (self.target.name(), self.kind.name());
        match self.target {
            Target::Api(n) | Target::Worker(n) => write!(f, "{kind} {target} {n}")?,
            _ => write!(f, "{kind} {target}")?,
        }
        if let Kind::Skew(seconds) = self.kind {
            write!(f, " by {seconds} s")?;
        }
        Ok(())
    }
}

impl Plan {
    /// The plan for a seed. `pace` is how many purchases are begun in a second.
    pub fn new(seed: u64, length: Duration, pace: f64) -> Self {
        let mut strikes = Vec::new();
        let mut busy = Busy::default();
        deal(&mut Dice::new(seed, 1), length, KILL_EVERY_MS, kills, &mut busy, &mut strikes);
        deal(&mut Dice::new(seed, 2), length, FAULT_EVERY_MS, other_faults, &mut busy, &mut strikes);
        strikes.sort_by_key(|strike| strike.at);
        Self { purchases: purchases(&mut Dice::new(seed, 3), length, pace), strikes }
    }

    /// How many kills there are.
    pub fn kills(&self) -> usize {
        self.strikes.iter().filter(|strike| strike.kind == Kind::Kill).count()
    }
}

/// What is killed, as often as it lies in this deck.
fn kills(_: &mut Dice) -> Vec<(Target, Kind)> {
    let deck = [(Target::Worker(0), 7), (Target::Api(0), 6), (Target::Postgres, 3), (Target::RabbitMq, 1)];
    deck.into_iter().flat_map(|(target, times)| vec![(target, Kind::Kill); times]).collect()
}

fn other_faults(dice: &mut Dice) -> Vec<(Target, Kind)> {
    use {Kind as K, Target as T};
    // WeChat Pay and we accept five minutes from each other.
    let mut skew = |limit: u64| {
        let seconds = i64::try_from(dice.within(60, limit)).expect("minutes");
        K::Skew(if dice.percent(50) { seconds } else { -seconds })
    };
    vec![
        (T::Api(0), K::Stop),
        (T::Worker(0), K::Stop),
        (T::Worker(0), K::Stop),
        (T::RabbitMq, K::Stop),
        (T::PostgresPath, K::Cut),
        (T::RabbitMqPath, K::Cut),
        (T::CallbackPath, K::Cut),
        (T::CallbackPath, K::Cut),
        (T::PostgresPath, K::Stall),
        (T::RabbitMqPath, K::Stall),
        (T::CallbackPath, K::Stall),
        (T::PostgresPath, K::Freeze),
        (T::Api(0), skew(240)),
        (T::Worker(0), skew(240)),
        (if dice.percent(50) { T::Api(0) } else { T::Worker(0) }, K::Skew(if dice.percent(50) { 540 } else { -540 })),
        (T::Api(0), K::Upgrade),
        (T::Worker(0), K::Upgrade),
    ]
}

/// When each target is in trouble.
#[derive(Debug, Default)]
struct Busy(BTreeMap<Target, Vec<(Duration, Duration)>>);

impl Busy {
    fn is_free(&self, target: Target, from: Duration, to: Duration) -> bool {
        self.0.get(&target).is_none_or(|spans| spans.iter().all(|(begin, end)| to <= *begin || from >= *end))
    }
}

/// Deals cards from shuffled decks, one in each stretch of time, to targets that are free then.
fn deal(
    dice: &mut Dice,
    length: Duration,
    every_ms: u64,
    deck: fn(&mut Dice) -> Vec<(Target, Kind)>,
    busy: &mut Busy,
    strikes: &mut Vec<Strike>,
) {
    let end_ms = u64::try_from(length.as_millis()).expect("hours");
    let mut cards: Vec<(Target, Kind)> = Vec::new();
    for stretch in 0.. {
        let begin = FIRST_MS + stretch * every_ms;
        if begin + every_ms > end_ms {
            return;
        }
        if cards.len() < 4 {
            let mut fresh = deck(dice);
            dice.shuffle(&mut fresh);
            fresh.append(&mut cards);
            cards = fresh;
        }
        let at = Duration::from_millis(begin + dice.within(0, every_ms - 1));
        // From the top; a card that cannot be played now stays.
        for place in (0..cards.len()).rev() {
            let (card, kind) = cards[place];
            let (length, mut targets) = (kind.length(dice), card.alike());
            dice.shuffle(&mut targets);
            let until = at + length + card.rest();
            if let Some(target) = targets.into_iter().find(|target| busy.is_free(*target, at, until)) {
                busy.0.entry(target).or_default().push((at, until));
                strikes.push(Strike { at, length, target, kind });
                cards.remove(place);
                break;
            }
        }
    }
}

fn purchases(dice: &mut Dice, length: Duration, pace: f64) -> Vec<Purchase> {
    let mut purchases = Vec::new();
    for nth in 0_u32.. {
        let at = Duration::from_secs_f64((f64::from(nth) + 0.5) / pace);
        if at >= length {
            break;
        }
        let fate = match dice.within(0, 99) {
            0..86 => Fate::Paid(refunds(dice)),
            86..91 => Fate::Cancelled,
            91..95 => Fate::PaidAndCancelled,
            _ => Fate::Left,
        };
        let after = Duration::from_millis(dice.within(50, 2_500));
        purchases.push(Purchase { at, user: dice.index(USERS), package: dice.index(PACKAGES), fate, after });
    }
    purchases
}

fn refunds(dice: &mut Dice) -> Vec<Refund> {
    if !dice.percent(16) {
        return Vec::new();
    }
    let mixed = dice.percent(15);
    let in_console = dice.percent(30);
    let parts = dice.within(1, 3);
    let mut refunds: Vec<Refund> = (0..parts)
        .map(|_| Refund {
            after: Duration::from_millis(dice.within(300, 6_000)),
            in_console: if mixed { dice.percent(50) } else { in_console },
            percent: Some(dice.within(10, 33)),
            outcome: match dice.within(0, 99) {
                0..84 => Outcome::Success,
                84..93 => Outcome::Closed,
                _ => Outcome::StuckThenSuccess,
            },
        })
        .collect();
    if dice.percent(50)
        && let Some(last) = refunds.last_mut()
    {
        last.percent = None;
    }
    refunds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::Settings;
    use std::collections::BTreeSet;

    #[test]
    fn a_seed_repeats_its_plan_and_another_has_another() {
        let plan = |seed| Plan::new(seed, Duration::from_secs(150), 10.0);
        assert_eq!(plan(1), plan(1));
        assert_ne!(plan(1), plan(2));
    }

    #[test]
    fn a_short_run_has_thirty_kills_and_something_of_everything() {
        for seed in 0..200 {
            let Settings { length, pace, .. } = Settings::short(seed);
            let plan = Plan::new(seed, length, pace);
            assert!(plan.kills() >= 30, "seed {seed}: {} kills", plan.kills());
            let killed: BTreeSet<_> =
                plan.strikes.iter().filter(|one| one.kind == Kind::Kill).map(|one| one.target.name()).collect();
            assert_eq!(killed.len(), 4, "seed {seed}: {killed:?}");
            let kinds: BTreeSet<_> = plan.strikes.iter().map(|one| one.kind.name()).collect();
            assert_eq!(kinds.len(), 7, "seed {seed}: {kinds:?}");
            let paid = plan.purchases.iter().filter(|one| matches!(one.fate, Fate::Paid(_))).count();
            // A sixth more than there must be: some callers give up, and the last ones come too late.
            assert!((2_350..=2_550).contains(&paid), "seed {seed}: {paid} of {}", plan.purchases.len());
        }
    }

    #[test]
    fn nothing_is_struck_while_it_is_down() {
        let plan = Plan::new(3, Duration::from_hours(1), 1.0);
        let mut until: BTreeMap<Target, Duration> = BTreeMap::new();
        for strike in &plan.strikes {
            let free = until.insert(strike.target, strike.at + strike.length);
            assert!(free.is_none_or(|free| free <= strike.at), "{strike:?}");
        }
    }
}
