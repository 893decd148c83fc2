//! `GET /v3/certificates` (section 2.4 of the protocol reference).

use serde_json::{Value, json};

use super::{Request, answer::Answer};
use crate::{
    app::Simulator,
    clock::china,
    config::KeyMode,
    crypto,
    keys::{Keyring, PlatformCertificate},
    world::Refusal,
};

pub(super) fn list(simulator: &Simulator, request: &Request) -> Result<Answer, Answer> {
    if simulator.settings().key_mode == KeyMode::PublicKey {
        let message = "无可用的平台证书，请在商户平台-API安全申请使用微信支付公钥。";
        return Err(Refusal::new(404, "RESOURCE_NOT_EXISTS", message, 268_435_461).into());
    }
    match request.query("algorithm_type").as_deref() {
        None | Some("RSA" | "ALL") => {}
        // The merchant has no certificate of the SM algorithms.
        Some("SM2") => return Ok(Answer::ok(json!({"data": []}))),
        Some(other) => {
            let detail = json!({"location": "query", "value": other});
            return Err(Answer::refused(400, "PARAM_ERROR", "参数错误", 268_435_461).with_detail(detail));
        }
    }
    let keys = simulator.keys();
    let data: anyhow::Result<Vec<Value>> = keys.certificates.iter().map(|one| entry(&keys, one)).collect();
    match data {
        Ok(data) => Ok(Answer::ok(json!({"data": data}))),
        Err(error) => {
            tracing::error!("the certificates cannot be encrypted: {error:#}");
            Err(Answer::refused(500, "SYSTEM_ERROR", "系统异常，请稍后重试", 268_435_464))
        }
    }
}

fn entry(keys: &Keyring, certificate: &PlatformCertificate) -> anyhow::Result<Value> {
    let sealed = crypto::seal(&keys.merchant.api_key, "certificate", certificate.pem.as_bytes())?;
    Ok(json!({
        "effective_time": china(certificate.effective_at),
        "encrypt_certificate": sealed,
        "expire_time": china(certificate.expires_at),
        "serial_no": certificate.key.serial,
    }))
}
