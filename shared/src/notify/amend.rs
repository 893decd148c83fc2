//! What failed because of the configuration, and is tried again by itself when that changes: the keys, the `APIv3` key, the
//! merchant's ids. Only digests of them are kept.

use super::retry;
use crate::{
    crash, db,
    users::UserId,
    wechat::{KeyRing, Merchant},
};
use aws_lc_rs::digest::{SHA256, digest};
use sqlx::PgPool;

/// Something that notifications are read with, as this process has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    subject: &'static str,
    /// Says in a log what is different.
    name: &'static str,
    codes: &'static [&'static str],
    digest: [u8; 32],
}

/// All there are.
pub fn settings(merchant: &Merchant, keys: &KeyRing) -> [Setting; 3] {
    let ids = format!("{}\n{}", merchant.app_id, merchant.mch_id);
    let setting = |subject, name, codes, material: &[u8]| {
        let digest = digest(&SHA256, material);
        Setting { subject, name, codes, digest: digest.as_ref().try_into().expect("SHA-256 has 32 bytes") }
    };
    [
        setting("api_key", "the APIv3 key", &["decrypt_failed"], &merchant.api_key.fingerprint()),
        setting("ids", "the merchant's or the app's id", &["mchid_mismatch", "appid_mismatch"], ids.as_bytes()),
        setting("keys", "WeChat Pay's keys", &["key_unavailable", "signature_invalid"], &keys.fingerprint()),
    ]
}

/// Lets what failed for `setting` be tried again, `per_second` rows in a second, if it looked different when a worker last
/// said so; answers how many rows. Several workers at once take turns.
///
/// # Errors
/// What PostgreSQL says; then asking again takes up what is left.
pub async fn amend(db: &PgPool, setting: &Setting, actor: &UserId, per_second: u32) -> sqlx::Result<usize> {
    let mut tx = db::begin(db).await?;
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended('configuration ' || $1, 0))", setting.subject)
        .execute(&mut *tx)
        .await?;
    let known = sqlx::query_scalar!("select digest from configuration_marks where subject = $1", setting.subject)
        .fetch_optional(&mut *tx)
        .await?;
    if known.as_deref() == Some(&setting.digest[..]) {
        return Ok(0);
    }
    let reason = format!("{} changed", setting.name);
    let retried = retry::retry_cause(db, setting.codes, actor, &reason, per_second).await?.len();
    crash::point("amended", "");
    // Last: should this process die before, the next one does it again, which is harmless.
    sqlx::query!(
        r#"
        insert into configuration_marks (subject, digest) values ($1, $2)
        on conflict (subject) do update set digest = excluded.digest, seen_at = now()
        "#,
        setting.subject,
        &setting.digest[..],
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    if retried > 0 {
        tracing::warn!(rows = retried, "{reason}: {retried} notifications that failed for it are tried again");
    }
    Ok(retried)
}
