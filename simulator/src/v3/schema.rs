//! The schema layer: what a body may look like, checked field by field before any business rule.
//!
//! The messages and details are those of section 9.4 of the protocol reference; where none has
//! been observed (unknown members, broken JSON, characters beyond the BMP) the wording is ours.

pub mod tables;

use serde_json::{Map, Value, json};

use super::answer::Answer;

/// Internal code of a parameter that breaks the schema.
const INVALID: u32 = 268_435_461;
/// Internal code of a member that does not belong there.
const EXTRA: u32 = 270_924_358;

/// One member of an object.
#[derive(Debug)]
pub struct Field {
    /// Name in the JSON.
    pub name: &'static str,
    /// Name in messages.
    pub label: &'static str,
    /// Whether it must be there.
    pub required: bool,
    /// What it must be.
    pub kind: Kind,
}

/// What a value must be.
#[derive(Debug)]
pub enum Kind {
    /// A string with limits in bytes.
    Text {
        /// Fewest bytes.
        min: usize,
        /// Most bytes.
        max: usize,
        /// What else it must match.
        pattern: Option<&'static Pattern>,
    },
    /// One of these strings.
    Enum(&'static [&'static str]),
    /// A 64-bit integer.
    Integer {
        /// Smallest value.
        min: i64,
    },
    /// `true` or `false`.
    Bool,
    /// An object with these members and no others.
    Object(&'static [Field]),
    /// A list.
    Array {
        /// Fewest items.
        min: usize,
        /// Most items.
        max: usize,
        /// What each item is.
        items: &'static Kind,
    },
}

/// A pattern: its text for the message, and the function that decides.
#[derive(Debug)]
pub struct Pattern {
    /// The regular expression as the gateway prints it.
    pub text: &'static str,
    /// Whether a string matches it.
    pub matches: fn(&str) -> bool,
}

/// Reads a body as an object of `fields`.
///
/// # Errors
/// `400 PARAM_ERROR`, unsigned, about the first thing that is wrong.
pub fn read(body: &[u8], fields: &'static [Field]) -> Result<Map<String, Value>, Answer> {
    let text = std::str::from_utf8(body).map_err(|_| broken("请求体不是合法的UTF-8文本"))?;
    let value: Value = serde_json::from_str(text).map_err(|_| broken("请求体不是合法的JSON，无法解析"))?;
    if let Some(found) = beyond_bmp(&value) {
        let message = "请求参数中含有不支持的字符，仅支持1至3字节的UTF-8字符";
        return Err(invalid(Place::BODY, &json!(found), message));
    }
    check_object(&value, fields, "", "请求体")?;
    match value {
        Value::Object(object) => Ok(object),
        _ => Err(broken("请求体不是合法的JSON，无法解析")),
    }
}

/// Checks a part of the path.
///
/// # Errors
/// `400 PARAM_ERROR`, as for a body.
pub fn check_path(value: &str, field: &'static Field) -> Result<(), Answer> {
    let place = Place { source: "uri_template", path: format!("/{}", field.name) };
    check_kind(&json!(value), &field.kind, &place, field.label)
}

/// The refusal for a required parameter that is missing: `source` is `body`, `query` or
/// `uri_template`.
pub fn missing(source: &'static str, path: &str, label: &str) -> Answer {
    let message = format!("输入源“/{source}{path}”映射到字段“{label}”必填性规则校验失败，此字段为必填项");
    invalid(source, &json!(""), &message)
}

/// `CNY` is the only currency (sample of section 9.1).
///
/// # Errors
/// `400 PARAM_ERROR` for any other.
pub fn check_currency(amount: Option<&Value>) -> Result<(), Answer> {
    match amount.and_then(|amount| amount.get("currency")) {
        None => Ok(()),
        Some(currency) if currency == "CNY" => Ok(()),
        Some(currency) => Err(Answer::refused(400, "PARAM_ERROR", "参数错误", INVALID).with_detail(json!({
            "field": "/amount/currency",
            "issue": "Currency code is invalid",
            "location": "body",
            "value": currency,
        }))),
    }
}

/// Refuses a value that is a string of the right form, but means nothing.
pub fn meaningless(path: &str, label: &str, value: &str, wanted: &str) -> Answer {
    let message = format!("输入源“/body{path}”映射到值字段“{label}”字符串规则校验失败，{wanted}");
    invalid(Place::BODY, &json!(value), &message)
}

/// Where a value stands.
struct Place {
    source: &'static str,
    path: String,
}

impl Place {
    const BODY: &'static str = "body";
}

fn check_object(value: &Value, fields: &'static [Field], path: &str, label: &str) -> Result<(), Answer> {
    let Value::Object(object) = value else {
        return Err(mistyped(path, label, value, "一个合法的 Json 对象"));
    };
    for field in fields {
        let place = Place { source: Place::BODY, path: format!("{path}/{}", field.name) };
        match object.get(field.name) {
            Some(value) => check_kind(value, &field.kind, &place, field.label)?,
            None if field.required => return Err(missing(place.source, &place.path, field.label)),
            None => {}
        }
    }
    let known = |name: &str| fields.iter().any(|field| field.name == name);
    match object.iter().find(|(name, _)| !known(name)) {
        Some((name, value)) => {
            let message = format!("输入源“/body{path}/{name}”为多余的参数，不在接口定义的字段中");
            let detail = json!({"location": "body", "value": value});
            Err(Answer::refused(400, "PARAM_ERROR", &message, EXTRA).with_detail(detail))
        }
        None => Ok(()),
    }
}

fn check_kind(value: &Value, kind: &'static Kind, place: &Place, label: &str) -> Result<(), Answer> {
    let path = &place.path;
    match kind {
        Kind::Text { min, max, pattern } => {
            let Value::String(text) = value else {
                return Err(mistyped(path, label, value, "一个 string 类型的 Json 值"));
            };
            check_text(text, (*min, *max), *pattern, place, label)
        }
        Kind::Enum(allowed) => match value {
            Value::String(text) if allowed.contains(&text.as_str()) => Ok(()),
            Value::String(text) => {
                let wanted = format!("取值必须为“{}”之一", allowed.join("|"));
                Err(meaningless(path, label, text, &wanted))
            }
            _ => Err(mistyped(path, label, value, "一个 string 类型的 Json 值")),
        },
        Kind::Integer { min } => match value.as_i64() {
            None => Err(mistyped(path, label, value, "一个合法的 64 位有符号整数")),
            Some(number) if number < *min => {
                let message = format!("输入源“/body{path}”映射到数值字段“{label}”规则校验失败，值低于最小值 {min}");
                Err(invalid(Place::BODY, &json!(number), &message))
            }
            Some(_) => Ok(()),
        },
        Kind::Bool if value.is_boolean() => Ok(()),
        Kind::Bool => Err(mistyped(path, label, value, "一个 bool 类型的 Json 值")),
        Kind::Object(fields) => check_object(value, fields, path, label),
        Kind::Array { min, max, items } => {
            let Value::Array(list) = value else {
                return Err(mistyped(path, label, value, "一个合法的 Json 数组"));
            };
            if !(*min..=*max).contains(&list.len()) {
                let message = format!(
                    "输入源“/body{path}”映射到数组字段“{label}”规则校验失败，元素个数 {}，必须在 {min} 到 {max} 之间",
                    list.len()
                );
                return Err(invalid(Place::BODY, &json!(list.len()), &message));
            }
            list.iter().enumerate().try_for_each(|(index, item)| {
                let place = Place { source: place.source, path: format!("{path}/{index}") };
                check_kind(item, items, &place, label)
            })
        }
    }
}

fn check_text(
    text: &str,
    (min, max): (usize, usize),
    pattern: Option<&'static Pattern>,
    place: &Place,
    label: &str,
) -> Result<(), Answer> {
    let (source, bytes) = (place.source, text.len());
    let refuse = |value: Value, rule: &str| {
        let path = &place.path;
        let message = format!("输入源“/{source}{path}”映射到值字段“{label}”字符串规则校验失败，{rule}");
        Err(invalid(source, &value, &message))
    };
    if bytes < min {
        return refuse(json!(bytes), &format!("字节数 {bytes}，小于最小值 {min}"));
    }
    if bytes > max {
        return refuse(json!(bytes), &format!("字节数 {bytes}，大于最大值 {max}"));
    }
    match pattern {
        Some(pattern) if !(pattern.matches)(text) => {
            refuse(json!(text), &format!("字符串必须匹配正则表达式“{}”", pattern.text))
        }
        _ => Ok(()),
    }
}

fn mistyped(path: &str, label: &str, value: &Value, wanted: &str) -> Answer {
    let message = format!("无法将 JSON 输入源“/body{path}”映射到目标字段“{label}”中，此字段需要{wanted}");
    invalid(Place::BODY, value, &message)
}

fn broken(message: &str) -> Answer {
    invalid(Place::BODY, &json!(""), message)
}

fn invalid(location: &str, value: &Value, message: &str) -> Answer {
    let detail = json!({"location": location, "value": value});
    Answer::refused(400, "PARAM_ERROR", message, INVALID).with_detail(detail)
}

/// The first string with a character of more than 3 UTF-8 bytes, in members' names too.
fn beyond_bmp(value: &Value) -> Option<&str> {
    let wide = |text: &&str| text.chars().any(|c| c.len_utf8() > 3);
    match value {
        Value::String(text) => Some(text.as_str()).filter(wide),
        Value::Array(items) => items.iter().find_map(beyond_bmp),
        Value::Object(object) => {
            object.iter().find_map(|(key, value)| Some(key.as_str()).filter(wide).or_else(|| beyond_bmp(value)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
