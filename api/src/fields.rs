//! The fields of a request, read so that all faults come out together and each names its field.

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// As the caller wrote it; empty for the whole body.
    pub field: String,
    /// What it expects.
    pub message: String,
}

/// A request that is made of named fields: a body's members, or a query's parameters.
pub trait FromFields: Sized {
    /// Takes what it needs. `None` only after a fault was noted.
    fn from_fields(fields: &mut Fields) -> Option<Self>;
}

/// The fields that were sent, and the faults found so far.
#[derive(Debug)]
pub struct Fields {
    values: Map<String, Value>,
    errors: Vec<FieldError>,
}

impl Fields {
    /// Reads a `T` out of `values`; a field that is left over is unknown, and refused.
    pub fn read<T: FromFields>(values: Map<String, Value>) -> Result<T, Vec<FieldError>> {
        let mut fields = Self { values, errors: Vec::new() };
        let value = T::from_fields(&mut fields);
        let unknown: Vec<String> = fields.values.keys().cloned().collect();
        for field in unknown {
            fields.fault(field, "is not known here".into());
        }
        match value {
            Some(value) if fields.errors.is_empty() => Ok(value),
            _ => Err(fields.errors),
        }
    }

    /// A field that must be there. `read` answers `None` for what breaks its rule.
    pub fn required<T>(&mut self, name: &str, expects: &str, read: impl FnOnce(&Value) -> Option<T>) -> Option<T> {
        let value = self.values.remove(name);
        if value.is_none() {
            self.fault(name.into(), format!("is required: {expects}"));
        }
        self.parse(name, expects, &value?, read)
    }

    /// A field with a default.
    pub fn or<T>(
        &mut self,
        name: &str,
        expects: &str,
        default: T,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        match self.values.remove(name) {
            Some(value) => self.parse(name, expects, &value, read),
            None => Some(default),
        }
    }

    fn parse<T>(
        &mut self,
        name: &str,
        expects: &str,
        value: &Value,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let value = read(value);
        if value.is_none() {
            self.fault(name.into(), format!("must be {expects}"));
        }
        value
    }

    /// Notes a fault that only several fields together show.
    pub fn fault(&mut self, field: String, message: String) {
        self.errors.push(FieldError { field, message });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Debug, PartialEq)]
    struct Pair(i64, String);

    impl FromFields for Pair {
        fn from_fields(fields: &mut Fields) -> Option<Self> {
            let number = fields.required("number", "an integer", Value::as_i64);
            let text = fields.or("text", "a text", "none".into(), |value| value.as_str().map(str::to_owned));
            Some(Self(number?, text?))
        }
    }

    fn read(value: &Value) -> Result<Pair, Vec<String>> {
        let values = value.as_object().expect("an object").clone();
        Fields::read(values)
            .map_err(|errors| errors.into_iter().map(|error| error.field + " " + &error.message).collect())
    }

    #[test]
    fn sound_fields_are_read() {
        assert_eq!(read(&json!({"number": 1, "text": "x"})), Ok(Pair(1, "x".into())));
        assert_eq!(read(&json!({"number": 1})), Ok(Pair(1, "none".into())));
    }

    #[test]
    fn all_faults_come_out_together() {
        let faults = ["number is required: an integer", "text must be a text", "Text is not known here"];
        assert_eq!(read(&json!({"text": null, "Text": 1})), Err(faults.map(String::from).into()));
    }

    #[test]
    fn an_integer_is_not_a_text_nor_a_fraction() {
        for number in [json!("1"), json!(1.5), json!(1.0), json!(true), json!(null), json!([1]), json!(1e30)] {
            assert_eq!(read(&json!({"number": number})), Err(vec!["number must be an integer".into()]));
        }
    }
}
