//! Fault rates as the control API writes them.
//!
//! A rule is a rate (`0.1`), or an object: `{"rate": 0.1, "minMs": 100, "maxMs": 500}` for faults
//! that take time, and `"endpoints"` for those of the API, either a list that the rate is meant
//! for (`["native"]`) or a rate for each (`{"native": 1}`).

use std::collections::BTreeMap;

use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Value};

use super::{Endpoint, Fault};

/// How often one fault strikes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    rate: f64,
    endpoints: BTreeMap<Endpoint, f64>,
    min_ms: Option<u64>,
    max_ms: Option<u64>,
}

impl Rule {
    /// The longest time that a rule may take, milliseconds.
    pub const MAX_MS: u64 = 3_600_000;
    /// Used when a rule that takes time names none.
    const DEFAULT_MS: u64 = 2_000;

    /// The rate, 0 to 1, for `endpoint`.
    pub fn rate_at(&self, endpoint: Option<Endpoint>) -> f64 {
        endpoint.and_then(|one| self.endpoints.get(&one)).copied().unwrap_or(self.rate)
    }

    /// Shortest time, milliseconds.
    pub fn min_ms(&self) -> u64 {
        self.min_ms.unwrap_or(0).min(self.max_ms())
    }

    /// Longest time, milliseconds.
    pub fn max_ms(&self) -> u64 {
        self.max_ms.or(self.min_ms).unwrap_or(Self::DEFAULT_MS)
    }

    fn parse(fault: Fault, value: &Value) -> Result<Self, String> {
        match value {
            Value::Number(_) => Ok(Self { rate: rate(value)?, ..Self::default() }),
            Value::Bool(on) => Ok(Self { rate: f64::from(u8::from(*on)), ..Self::default() }),
            Value::Object(object) => Self::parse_object(fault, object),
            _ => Err("expected a rate from 0 to 1, or an object with `rate`".to_owned()),
        }
    }

    fn parse_object(fault: Fault, object: &Map<String, Value>) -> Result<Self, String> {
        let mut rule = Self { rate: object.get("rate").map_or(Ok(0.0), rate)?, ..Self::default() };
        for (key, value) in object {
            match key.as_str() {
                "rate" => {}
                "minMs" => rule.min_ms = Some(milliseconds(value)?),
                "maxMs" => rule.max_ms = Some(milliseconds(value)?),
                "ms" => (rule.min_ms, rule.max_ms) = (Some(milliseconds(value)?), None),
                "endpoint" | "endpoints" if fault.is_of_api() => rule.limit_to(value)?,
                name => {
                    let endpoint = endpoint(&Value::from(name))
                        .ok()
                        .filter(|_| fault.is_of_api())
                        .ok_or_else(|| format!("unknown member `{name}`"))?;
                    rule.endpoints.insert(endpoint, rate(value)?);
                }
            }
        }
        if let (Some(min), Some(max)) = (rule.min_ms, rule.max_ms)
            && min > max
        {
            return Err("`minMs` is above `maxMs`".to_owned());
        }
        Ok(rule)
    }

    /// Takes `endpoints`: the rate moves from everywhere to those named.
    fn limit_to(&mut self, value: &Value) -> Result<(), String> {
        match value {
            Value::Object(rates) => {
                for (name, value) in rates {
                    self.endpoints.insert(endpoint(&Value::from(name.as_str()))?, rate(value)?);
                }
            }
            Value::Array(names) => {
                for name in names {
                    self.endpoints.insert(endpoint(name)?, self.rate);
                }
                self.rate = 0.0;
            }
            name => {
                self.endpoints.insert(endpoint(name)?, self.rate);
                self.rate = 0.0;
            }
        }
        Ok(())
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.endpoints.is_empty() && self.min_ms.is_none() && self.max_ms.is_none() {
            return serializer.serialize_f64(self.rate);
        }
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("rate", &self.rate)?;
        if !self.endpoints.is_empty() {
            map.serialize_entry("endpoints", &self.endpoints)?;
        }
        if let Some(ms) = self.min_ms {
            map.serialize_entry("minMs", &ms)?;
        }
        if let Some(ms) = self.max_ms {
            map.serialize_entry("maxMs", &ms)?;
        }
        map.end()
    }
}

/// The rates of all faults; what is not named does not happen.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Rules(BTreeMap<Fault, Rule>);

impl Rules {
    /// Reads a whole set of rules.
    ///
    /// # Errors
    /// A text for the person who wrote it, naming the fault.
    pub fn parse(value: &Value) -> Result<Self, String> {
        let Value::Object(object) = value else {
            return Err("expected an object of fault names and rates".to_owned());
        };
        let rules = object.iter().map(|(name, value)| {
            let fault: Fault = serde_json::from_value(Value::from(name.as_str()))
                .map_err(|_| format!("there is no fault `{name}`"))?;
            if fault == Fault::Error {
                return Err("error: it has no rate; ask for it as the next answer of an endpoint".to_owned());
            }
            let rule = Rule::parse(fault, value).map_err(|error| format!("{name}: {error}"))?;
            Ok((fault, rule))
        });
        rules.collect::<Result<_, String>>().map(Self)
    }

    /// The faults that have a rule.
    pub fn names(&self) -> impl Iterator<Item = Fault> {
        self.0.keys().copied()
    }

    /// The rule of one fault; rate 0 when there is none.
    pub fn get(&self, fault: Fault) -> Rule {
        self.0.get(&fault).cloned().unwrap_or_default()
    }
}

fn rate(value: &Value) -> Result<f64, String> {
    let rate = value.as_f64().filter(|rate| (0.0..=1.0).contains(rate));
    rate.ok_or_else(|| format!("expected a rate from 0 to 1, not {value}"))
}

fn milliseconds(value: &Value) -> Result<u64, String> {
    let ms = value.as_u64().filter(|ms| *ms <= Rule::MAX_MS);
    ms.ok_or_else(|| format!("expected milliseconds, at most {}, not {value}", Rule::MAX_MS))
}

fn endpoint(value: &Value) -> Result<Endpoint, String> {
    const NAMES: &str = "native, query, close, refund, refundQuery, certificates";
    serde_json::from_value(value.clone()).map_err(|_| format!("there is no endpoint {value}; there are {NAMES}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Rules, String> {
        Rules::parse(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn rates_times_and_endpoints_are_read_and_written_back() {
        let text = r#"{"delay":{"rate":0.2,"minMs":100,"maxMs":500},"drop":0.05,"api429":{"native":1}}"#;
        let rules = parse(text).unwrap();
        assert_eq!(rules.get(Fault::Delay).max_ms(), 500);
        assert!((rules.get(Fault::Drop).rate_at(None) - 0.05).abs() < 1e-9);
        assert!(rules.get(Fault::Api429).rate_at(Some(Endpoint::Native)) > 0.99);
        assert!(rules.get(Fault::Api429).rate_at(Some(Endpoint::Close)) < 0.01);
        assert_eq!(parse(&serde_json::to_string(&rules).unwrap()).unwrap(), rules);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            (r#"{"dorp":0.1}"#, "no fault `dorp`"),
            (r#"{"error":0.1}"#, "it has no rate"),
            (r#"{"drop":2}"#, "drop: expected a rate"),
            (r#"{"drop":{"rate":0.1,"native":1}}"#, "unknown member `native`"),
            (r#"{"apiError":{"rate":1,"endpoints":["pay"]}}"#, "no endpoint \"pay\""),
            (r#"{"delay":{"rate":1,"minMs":9,"maxMs":1}}"#, "above"),
            ("[]", "expected an object"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
