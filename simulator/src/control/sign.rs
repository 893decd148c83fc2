//! Callbacks made to order, not sent: true ones, altered ones, forged ones.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{Answered, App, Failure, Input, Reply};
use crate::{
    app::Simulator,
    callbacks::{self, Letter, Plaintext, SignedBy},
    config::KeyMode,
};

/// What to make.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Wanted {
    /// `id`; a new one unless given.
    id: Option<Uuid>,
    /// `event_type`; what belongs to the plaintext unless given.
    event_type: Option<String>,
    /// `original_type` and associated data; what belongs to the plaintext unless given.
    original_type: Option<String>,
    /// `summary`
    summary: Option<String>,
    /// The plaintext itself: an object, or a text that need not be JSON.
    plaintext: Option<Value>,
    /// The plaintext of this paid order.
    out_trade_no: Option<String>,
    /// The plaintext of this refund, as it stands.
    out_refund_no: Option<String>,
    /// Merged into the plaintext as RFC 7386 has it: `null` removes.
    overrides: Option<Value>,
    /// Added to the timestamp.
    timestamp_offset_seconds: i64,
    /// Who signs; whoever signs callbacks now unless given.
    key: Option<SignedBy>,
    /// Encrypts with this key instead.
    api_v3_key: Option<String>,
    /// Signs exactly these bytes instead of an envelope.
    raw_body: Option<String>,
}

/// `POST /control/sign`
pub async fn sign(app: App, Input(wanted): Input<Wanted>) -> Answered {
    let body = match &wanted.raw_body {
        Some(body) => body.clone(),
        None => envelope(&app, &wanted)?,
    };
    let truly = match app.settings().key_mode {
        KeyMode::Certificate => SignedBy::Certificate,
        KeyMode::PublicKey | KeyMode::Mixed => SignedBy::PublicKey,
    };
    let by = wanted.key.unwrap_or(truly);
    let timestamp = app.now().timestamp().saturating_add(wanted.timestamp_offset_seconds);
    let signed = callbacks::sign(&app.keys(), by, truly, timestamp, body.as_bytes())?;
    let mut headers: BTreeMap<&str, String> = signed.into_iter().collect();
    headers.insert("Content-Type", "application/json".to_owned());
    headers.insert("Request-ID", callbacks::request_id(0));
    Ok(Reply::ok(json!({"headers": headers, "body": body})))
}

fn envelope(simulator: &Simulator, wanted: &Wanted) -> Result<String, Failure> {
    let (mut plaintext, event, summary, original) = plaintext(simulator, wanted)?;
    if let Some(overrides) = &wanted.overrides {
        merge(&mut plaintext, overrides);
    }
    let text = match &plaintext {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let keys = simulator.keys();
    let letter = Letter {
        id: wanted.id.unwrap_or_else(callbacks::new_id),
        created_at: simulator.now(),
        event_type: wanted.event_type.as_deref().unwrap_or(event),
        summary: wanted.summary.as_deref().unwrap_or(summary),
        original_type: wanted.original_type.as_deref().unwrap_or(original),
        plaintext: &text,
    };
    let api_key = wanted.api_v3_key.as_deref().unwrap_or(&keys.merchant.api_key);
    letter.seal(api_key).map_err(|error| Failure::bad(format!("{error:#}")))
}

type Known = (Value, &'static str, &'static str, &'static str);

fn plaintext(simulator: &Simulator, wanted: &Wanted) -> Result<Known, Failure> {
    let world = simulator.world();
    let known = match wanted {
        Wanted { plaintext: Some(value), .. } => {
            return Ok((value.clone(), "TRANSACTION.SUCCESS", "支付成功", "transaction"));
        }
        Wanted { out_refund_no: Some(no), .. } => {
            let refund = world.refund(no).ok_or_else(|| Failure::no_refund(no))?;
            Plaintext::of_refund(refund, &simulator.keys().merchant)
        }
        Wanted { out_trade_no: Some(no), .. } => {
            let paid = world.order_as_left(no).ok_or_else(|| Failure::no_order(no))?;
            let payment = paid.payment.as_ref();
            let payment = payment.ok_or_else(|| Failure::conflict("the order is not paid"))?;
            Plaintext::of_payment(paid, payment)
        }
        _ => {
            let message = "one of plaintext, outTradeNo, outRefundNo or rawBody is needed";
            return Err(Failure::bad(message));
        }
    };
    let (event, summary) = known.event();
    Ok((json!(known), event, summary, known.original_type()))
}

/// JSON merge patch, RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    for (name, value) in patch {
        if value.is_null() {
            target.as_object_mut().map(|object| object.remove(name));
        } else {
            merge(&mut target[name], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_merge_and_null_removes() {
        let mut value = json!({"a": {"b": 1, "c": 2}, "d": 3});
        merge(&mut value, &json!({"a": {"b": 9, "x": {"y": 1}}, "d": null}));
        assert_eq!(value, json!({"a": {"b": 9, "c": 2, "x": {"y": 1}}}));
    }
}
