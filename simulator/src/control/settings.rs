//! The simulator itself: health, settings, certificates, starting over.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Answered, App, Failure, Input, Reply};
use crate::{
    app::{Settings, Simulator},
    clock::{Clock, china},
    config,
    keys::{Keyring, new_platform_certificate},
    world::World,
};

/// `GET /control/health`
pub async fn health(app: App) -> Answered {
    let (settings, now) = (app.settings(), china(app.now()));
    let world = app.world();
    Ok(Reply::ok(json!({
        "status": "ok",
        "now": now,
        "keyMode": settings.key_mode,
        "pendingNotifications": world.pending_notifications(),
        "totals": world.totals(),
    })))
}

/// `GET /control/settings`
pub async fn show(app: App) -> Answered {
    Ok(Reply::ok(view(&app)))
}

fn view(simulator: &Simulator) -> Value {
    let (settings, keys) = (simulator.settings(), simulator.keys());
    let serials: Vec<&String> = keys.certificates.iter().map(|one| &one.key.serial).collect();
    let mut view = json!(settings);
    view["clockOffsetSeconds"] = json!(simulator.clock.offset_seconds());
    view["appId"] = json!(keys.merchant.app_id);
    view["mchId"] = json!(keys.merchant.mch_id);
    view["merchantSerial"] = json!(keys.merchant.serial);
    view["publicKeyId"] = json!(keys.public_key.serial);
    view["certificateSerials"] = json!(serials);
    view
}

/// `PUT /control/settings`: changes what is named and leaves the rest.
pub async fn change(app: App, Input(body): Input<Map<String, Value>>) -> Answered {
    let mut settings = app.settings();
    let mut offset = app.clock.offset_seconds();
    for (name, value) in &body {
        let changed = match name.as_str() {
            "keyMode" => set(value, &mut settings.key_mode),
            "publicKeyShare" => set(value, &mut settings.public_key_share),
            "clockFactor" => set(value, &mut settings.clock_factor),
            "clockOffsetSeconds" => set(value, &mut offset),
            "firstDeliveryDelayMs" => set(value, &mut settings.first_delivery_delay_ms),
            "refundDelayMs" => refund_delay(value).map(|delay| settings.refund_delay_ms = delay),
            // What `GET` shows besides, so that its answer can be sent back.
            "appId" | "mchId" | "merchantSerial" | "publicKeyId" | "certificateSerials" => Ok(()),
            _ => Err("there is no such setting".to_owned()),
        };
        changed.map_err(|error| Failure::bad(format!("{name}: {error}")))?;
    }
    check(&settings, offset)?;
    app.set_settings(settings);
    app.clock.shift_to(offset);
    let changes = Value::Object(body);
    tracing::info!("settings: {changes}");
    Ok(Reply::ok(view(&app)))
}

fn set<T: serde::de::DeserializeOwned>(value: &Value, to: &mut T) -> Result<(), String> {
    *to = serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
    Ok(())
}

fn refund_delay(value: &Value) -> Result<Option<u64>, String> {
    match value {
        Value::Null => Some(None),
        Value::String(text) if text == "manual" => Some(None),
        Value::Number(number) if number.as_f64().is_some_and(|ms| ms < 0.0) => Some(None),
        Value::Number(number) => number.as_u64().map(Some),
        _ => None,
    }
    .ok_or_else(|| "expected milliseconds, or \"manual\"".to_owned())
}

fn check(settings: &Settings, offset: i64) -> Result<(), Failure> {
    if !config::valid_factor(settings.clock_factor) {
        return Err(Failure::bad("clockFactor: expected a number above 0, at most 1000000"));
    }
    if !(0.0..=1.0).contains(&settings.public_key_share) {
        return Err(Failure::bad("publicKeyShare: expected 0 to 1"));
    }
    if offset.unsigned_abs() > Clock::MAX_OFFSET_SECONDS.unsigned_abs() {
        return Err(Failure::bad("clockOffsetSeconds: at most a hundred years"));
    }
    Ok(())
}

/// How certificates are rotated.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Rotate {
    /// Whether the older ones leave the list at once.
    drop_old: bool,
}

/// `POST /control/certificates/rotate`: a new one, which signs from now on. In memory only.
pub async fn rotate(app: App, Input(rotate): Input<Rotate>) -> Answered {
    let now = app.now();
    let made = tokio::task::spawn_blocking(move || new_platform_certificate(now)).await;
    let new = made.map_err(|error| Failure::from(anyhow::Error::new(error)))??;
    let serial = new.key.serial.clone();
    let keys = app.keys();
    let mut certificates = if rotate.drop_old { Vec::new() } else { keys.certificates.clone() };
    certificates.push(new);
    app.set_keys(Keyring { certificates, ..Keyring::clone(&keys) });
    tracing::info!("a new platform certificate signs: {serial}");
    let mut view = view(&app);
    view["serial"] = json!(serial);
    Ok(Reply::ok(view))
}

/// `POST /control/reset`: no orders, no faults, the settings of the start. Keys stay.
pub async fn reset(app: App) -> Answered {
    *app.world() = World::default();
    app.faults().clear();
    app.set_settings(Settings::of(&app.config));
    app.clock.shift_to(0);
    app.sent.send_replace(0);
    tracing::info!("everything is forgotten");
    Ok(Reply::ok(view(&Arc::clone(&app))))
}
