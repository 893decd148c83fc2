//! What goes wrong on purpose: rates, one-shot faults, and the dice that decide.

mod rules;

use std::collections::{HashMap, VecDeque};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};

pub use rules::{Rule, Rules};

/// The calls of the API that can be made to fail, by the names the control API uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Endpoint {
    /// `POST /v3/pay/transactions/native`
    Native,
    /// Both order queries.
    Query,
    /// `POST …/close`
    Close,
    /// Applying for a refund, and for an abnormal one.
    Refund,
    /// `GET /v3/refund/domestic/refunds/{out_refund_no}`
    RefundQuery,
    /// `GET /v3/certificates`
    Certificates,
}

/// Everything that can be made to go wrong, by the names the control API uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Fault {
    /// A delivery is not sent.
    Drop,
    /// A delivery is sent twice, about a second apart.
    Duplicate,
    /// A delivery is sent later.
    Delay,
    /// A delivery is held until a later notification has been sent.
    Reorder,
    /// Signed with a key that is not WeChat Pay's, under a serial that is.
    Forge,
    /// Signed with an unknown key under an unknown serial.
    UnknownSerial,
    /// Carries a probe instead of a signature.
    Probe,
    /// Signed correctly, with a timestamp older than 5 minutes.
    Stale,
    /// A changed amount, signed correctly.
    WrongAmount,
    /// Another currency, signed correctly.
    WrongCurrency,
    /// Another `appid`, signed correctly.
    WrongAppid,
    /// Another `mchid`, signed correctly.
    WrongMchid,
    /// Encrypted under another APIv3 key, signed correctly.
    BadCiphertext,
    /// 500 before anything is executed.
    ApiError,
    /// 500 after execution.
    ApiErrorAfter,
    /// 429 before anything is executed.
    #[serde(rename = "api429")]
    Api429,
    /// The answer comes late.
    ApiSlow,
    /// Executes, then closes the connection without an answer.
    ApiReset,
    /// The answer has no signature.
    ApiUnsigned,
    /// The answer's signature is of another key.
    ApiBadSignature,
    /// The answer carries a probe instead of a signature.
    ApiProbe,
    /// The answer's timestamp is older than 5 minutes.
    ApiStale,
    /// The connection closes in the middle of the answer's body.
    ApiTruncated,
    /// 403 `NOT_ENOUGH`, signed, before anything is executed.
    ApiNotEnough,
    /// Any refusal, before anything is executed. Of the next answers only: it has no rate.
    Error,
}

/// A refusal that is asked for word by word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// HTTP status, 400 to 599.
    pub status: u16,
    /// `code`
    pub code: String,
    /// `message`
    pub message: String,
    /// Whether the answer is signed, as those of the business are and those of the gateway are not.
    pub signed: bool,
}

/// Faults that make one delivery a lie; each strikes a notification at most once, so that the
/// truth follows.
const LIES: [Fault; 9] = [
    Fault::Forge,
    Fault::UnknownSerial,
    Fault::Probe,
    Fault::Stale,
    Fault::WrongAmount,
    Fault::WrongCurrency,
    Fault::WrongAppid,
    Fault::WrongMchid,
    Fault::BadCiphertext,
];

const API: [Fault; 10] = [
    Fault::ApiError,
    Fault::ApiErrorAfter,
    Fault::Api429,
    Fault::ApiReset,
    Fault::ApiUnsigned,
    Fault::ApiBadSignature,
    Fault::ApiProbe,
    Fault::ApiStale,
    Fault::ApiTruncated,
    Fault::ApiNotEnough,
];

impl Fault {
    /// Whether the fault belongs to API answers, not to callbacks.
    pub fn is_of_api(self) -> bool {
        matches!(self, Self::ApiSlow | Self::Error) || API.contains(&self)
    }
}

/// What happens to one delivery of a callback.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeliveryPlan {
    /// Do not send it.
    pub drop: bool,
    /// Send it twice.
    pub duplicate: bool,
    /// Wait so many milliseconds first.
    pub delay_ms: u64,
    /// Hold it until a later one has been sent, at most so many milliseconds.
    pub hold_ms: Option<u64>,
    /// Send this lie instead of the truth.
    pub lie: Option<Fault>,
}

/// What happens to one answer of the API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerPlan {
    /// Wait so many milliseconds before answering.
    pub slow_ms: u64,
    /// The fault, one of those of the API.
    pub fault: Option<Fault>,
    /// What is answered when that is [`Fault::Error`].
    pub refused: Option<Refused>,
}

/// A fault of one answer.
#[derive(Clone, Debug)]
pub struct OneShot {
    /// Which.
    pub fault: Fault,
    /// How long [`Fault::ApiSlow`] takes, milliseconds; without it, its rule says.
    pub ms: Option<u64>,
    /// What [`Fault::Error`] answers.
    pub refused: Option<Refused>,
}

/// The faults in force and the dice.
#[derive(Debug)]
pub struct Faults {
    /// Rates for everything that has none of its own.
    pub rules: Rules,
    next: HashMap<Endpoint, VecDeque<OneShot>>,
    dice: StdRng,
}

impl Faults {
    /// No faults; with a seed, the same dice every time.
    pub fn new(seed: Option<u64>) -> Self {
        let dice = StdRng::seed_from_u64(seed.unwrap_or_else(|| rand::rng().random()));
        Self { rules: Rules::default(), next: HashMap::new(), dice }
    }

    /// Makes the next `count` answers of `endpoint` fail, after those already asked for.
    pub fn add_next(&mut self, endpoint: Endpoint, one: OneShot, count: usize) {
        self.next.entry(endpoint).or_default().extend(std::iter::repeat_n(one, count));
    }

    /// The one-shot faults still to come, by endpoint.
    pub fn upcoming(&self) -> Vec<(Endpoint, Vec<Fault>)> {
        let filled = self.next.iter().filter(|(_, faults)| !faults.is_empty());
        let mut all: Vec<_> =
            filled.map(|(endpoint, faults)| (*endpoint, faults.iter().map(|one| one.fault).collect())).collect();
        all.sort();
        all
    }

    /// Forgets rates and one-shot faults.
    pub fn clear(&mut self) {
        self.rules = Rules::default();
        self.next.clear();
    }

    /// Decides on one answer of `endpoint`. One-shot faults go before rates.
    pub fn for_answer(&mut self, endpoint: Endpoint) -> AnswerPlan {
        if let Some(OneShot { fault, ms, refused }) = self.next.get_mut(&endpoint).and_then(VecDeque::pop_front) {
            if fault == Fault::ApiSlow {
                let slow_ms = ms.unwrap_or_else(|| self.within(Fault::ApiSlow));
                return AnswerPlan { slow_ms, ..AnswerPlan::default() };
            }
            return AnswerPlan { slow_ms: 0, fault: Some(fault), refused };
        }
        let slow = self.strikes(None, Fault::ApiSlow, Some(endpoint));
        let slow_ms = if slow { self.within(Fault::ApiSlow) } else { 0 };
        let fault = API.into_iter().find(|fault| self.strikes(None, *fault, Some(endpoint)));
        AnswerPlan { slow_ms, fault, refused: None }
    }

    /// Decides on one delivery. `own` rules replace the global ones; `excluded` are lies that
    /// this notification has been the victim of, or cannot be.
    pub fn for_delivery(&mut self, own: Option<&Rules>, excluded: &[Fault]) -> DeliveryPlan {
        let delay = self.strikes(own, Fault::Delay, None);
        let hold = self.strikes(own, Fault::Reorder, None);
        let rules = own.unwrap_or(&self.rules);
        let (delay_rule, hold_rule) = (rules.get(Fault::Delay), rules.get(Fault::Reorder));
        DeliveryPlan {
            delay_ms: if delay { self.pick(&delay_rule) } else { 0 },
            hold_ms: hold.then(|| hold_rule.max_ms()),
            drop: self.strikes(own, Fault::Drop, None),
            duplicate: self.strikes(own, Fault::Duplicate, None),
            lie: LIES.into_iter().find(|lie| !excluded.contains(lie) && self.strikes(own, *lie, None)),
        }
    }

    /// A number in `[0, 1)` of the same dice, for choices that are no faults.
    pub fn roll(&mut self) -> f64 {
        self.dice.random()
    }

    fn strikes(&mut self, own: Option<&Rules>, fault: Fault, endpoint: Option<Endpoint>) -> bool {
        let rate = own.unwrap_or(&self.rules).get(fault).rate_at(endpoint);
        // No roll for what cannot happen, so that adding a fault leaves the rest of a run alone.
        rate > 0.0 && self.dice.random::<f64>() < rate
    }

    fn within(&mut self, fault: Fault) -> u64 {
        let rule = self.rules.get(fault);
        self.pick(&rule)
    }

    fn pick(&mut self, rule: &Rule) -> u64 {
        self.dice.random_range(rule.min_ms()..=rule.max_ms())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Rules {
        Rules::parse(&serde_json::from_str(text).unwrap()).unwrap()
    }

    #[test]
    fn a_certain_lie_is_told_once_and_then_the_truth_follows() {
        let mut faults = Faults::new(Some(1));
        let own = rules(r#"{"probe":1}"#);
        assert_eq!(faults.for_delivery(Some(&own), &[]).lie, Some(Fault::Probe));
        assert_eq!(faults.for_delivery(Some(&own), &[Fault::Probe]), DeliveryPlan::default());
    }

    #[test]
    fn an_order_s_own_rules_replace_the_global_ones() {
        let mut faults = Faults::new(Some(1));
        faults.rules = rules(r#"{"drop":1}"#);
        assert!(faults.for_delivery(None, &[]).drop);
        assert!(!faults.for_delivery(Some(&Rules::default()), &[]).drop);
    }

    #[test]
    fn one_shot_faults_come_first_and_run_out() {
        let mut faults = Faults::new(Some(1));
        faults.add_next(Endpoint::Native, OneShot { fault: Fault::ApiReset, ms: None, refused: None }, 1);
        assert_eq!(faults.for_answer(Endpoint::Query).fault, None);
        assert_eq!(faults.for_answer(Endpoint::Native).fault, Some(Fault::ApiReset));
        assert_eq!(faults.for_answer(Endpoint::Native).fault, None);
    }

    #[test]
    fn an_endpoint_s_rate_leaves_the_others_alone() {
        let mut faults = Faults::new(Some(1));
        faults.rules = rules(r#"{"apiError":{"rate":1,"endpoints":["refund"]}}"#);
        assert_eq!(faults.for_answer(Endpoint::Refund).fault, Some(Fault::ApiError));
        assert_eq!(faults.for_answer(Endpoint::Native).fault, None);
    }

    #[test]
    fn the_same_seed_repeats_and_half_is_about_half() {
        let run = |seed| {
            let mut faults = Faults::new(Some(seed));
            faults.rules = rules(r#"{"drop":0.5}"#);
            (0..1000).map(|_| faults.for_delivery(None, &[]).drop).collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        let dropped = run(7).into_iter().filter(|drop| *drop).count();
        assert!((400..600).contains(&dropped), "{dropped}");
    }
}
