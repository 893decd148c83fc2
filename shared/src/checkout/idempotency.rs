//! `Idempotency-Key`: a caller that repeats a request gets what the first one made. Kept for 24 hours.

use crate::users::UserId;
use aws_lc_rs::digest::{SHA256, digest};
use sqlx::{PgExecutor, PgTransaction};

/// What a key may stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A new order; the subject is its number.
    CreateOrder,
    /// A new refund; the subject is its number.
    CreateRefund,
}

impl Operation {
    const fn as_str(self) -> &'static str {
        match self {
            Self::CreateOrder => "order.create",
            Self::CreateRefund => "refund.create",
        }
    }
}

/// A key, and the request it came with.
#[derive(Clone, Debug)]
pub struct Key {
    /// Whose. Keys of different users never meet.
    pub user_id: UserId,
    /// For what.
    pub operation: Operation,
    /// 1 to 64 visible ASCII characters.
    pub key: String,
    request: Vec<u8>,
}

/// What a key stands for already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nothing: it stands for the new subject now.
    New,
    /// What an equal request made.
    Same(String),
    /// Another request's.
    Conflict,
}

/// Whether `text` can be a key.
pub fn is_key(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

impl Key {
    /// A key with the request it came with, in a form in which equal requests are equal.
    pub fn new(user_id: UserId, operation: Operation, key: String, request: &str) -> Self {
        Self { user_id, operation, key, request: digest(&SHA256, request.as_bytes()).as_ref().to_vec() }
    }

    /// Lets the key stand for `subject`, unless it stands for something already. Two at once: the second waits here until
    /// the first one's transaction has ended.
    pub async fn claim(&self, tx: &mut PgTransaction<'_>, subject: &str) -> sqlx::Result<Claim> {
        let claimed = sqlx::query_scalar!(
            r#"
            insert into idempotency_keys as k (user_id, operation, key, request, subject) values ($1, $2, $3, $4, $5)
            on conflict (user_id, operation, key) do update
                set request = excluded.request, subject = excluded.subject, created_at = excluded.created_at
                where k.created_at < now() - interval '24 hours'
            returning subject
            "#,
            self.user_id as _,
            self.operation.as_str(),
            self.key,
            self.request,
            subject,
        )
        .fetch_optional(&mut **tx)
        .await?;
        if claimed.is_some() {
            return Ok(Claim::New);
        }
        self.standing(&mut **tx).await
    }

    /// What the key stands for; [`Claim::New`] for nothing yet.
    pub async fn standing(&self, db: impl PgExecutor<'_>) -> sqlx::Result<Claim> {
        let standing = sqlx::query!(
            r#"
            select request, subject from idempotency_keys
            where user_id = $1 and operation = $2 and key = $3 and created_at >= now() - interval '24 hours'
            "#,
            self.user_id as _,
            self.operation.as_str(),
            self.key,
        )
        .fetch_optional(db)
        .await?;
        Ok(match standing {
            None => Claim::New,
            Some(standing) if standing.request == self.request => Claim::Same(standing.subject),
            Some(_) => Claim::Conflict,
        })
    }

    /// Lets the key stand for `new` instead of `old`, which came to nothing. False when somebody else was faster.
    pub async fn replace(&self, tx: &mut PgTransaction<'_>, old: &str, new: &str) -> sqlx::Result<bool> {
        let done = sqlx::query!(
            "update idempotency_keys set subject = $5 where user_id = $1 and operation = $2 and key = $3 and subject = $4",
            self.user_id as _,
            self.operation.as_str(),
            self.key,
            old,
            new,
        )
        .execute(&mut **tx)
        .await?;
        Ok(done.rows_affected() == 1)
    }
}

/// Forgets keys that are over 24 hours old.
pub async fn forget_old(db: impl PgExecutor<'_>) -> sqlx::Result<u64> {
    let done =
        sqlx::query!("delete from idempotency_keys where created_at < now() - interval '24 hours'").execute(db).await?;
    Ok(done.rows_affected())
}

#[cfg(test)]
mod tests {
    use super::is_key;

    #[test]
    fn a_key_is_visible_ascii_of_1_to_64() {
        for good in ["a", "!~", &"x".repeat(64)] {
            assert!(is_key(good), "{good}");
        }
        for bad in ["", "a b", "\u{7f}", "键", &"x".repeat(65)] {
            assert!(!is_key(bad), "{bad}");
        }
    }
}
