//! Tokens: who a caller is. JWT (RFC 7519), HS256 only.

use crate::users::UserId;
use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

/// What a caller may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// See and change what is their own.
    #[default]
    User,
    /// See and change everything.
    Admin,
}

/// A caller who has proved who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Who.
    pub user_id: UserId,
    /// With which rights.
    pub role: Role,
}

/// The token proves nothing. Why is not told apart, so that nothing can be learned from trying.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token is missing, malformed, expired, or not signed by us")]
pub struct BadToken;

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    #[serde(default)]
    role: Role,
    exp: i64,
}

/// The key that signs and verifies tokens (`JWT_SECRET`).
pub struct TokenKey {
    encoding: EncodingKey,
    decoding: DecodingKey,
}

/// The key is too short.
#[derive(Debug, thiserror::Error)]
#[error("an HS256 key needs at least 32 bytes")]
pub struct ShortKey;

impl std::str::FromStr for TokenKey {
    type Err = ShortKey;

    fn from_str(secret: &str) -> Result<Self, ShortKey> {
        let secret = secret.as_bytes();
        if secret.len() < 32 {
            return Err(ShortKey);
        }
        Ok(Self { encoding: EncodingKey::from_secret(secret), decoding: DecodingKey::from_secret(secret) })
    }
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey(…)")
    }
}

impl TokenKey {
    /// A token for `identity` that ends at `expires_at`.
    pub fn issue(&self, identity: &Identity, expires_at: DateTime<Utc>) -> String {
        let claims = Claims { sub: identity.user_id.to_string(), role: identity.role, exp: expires_at.timestamp() };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)
            .expect("a secret signs any claims with HS256")
    }

    /// Whom the token stands for.
    ///
    /// # Errors
    /// [`BadToken`], whatever is wrong with it.
    pub fn verify(&self, token: &str) -> Result<Identity, BadToken> {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = 0;
        validation.validate_aud = false;
        validation.set_required_spec_claims(&["exp", "sub"]);
        let claims = jsonwebtoken::decode::<Claims>(token, &self.decoding, &validation).map_err(|_| BadToken)?.claims;
        Ok(Identity { user_id: claims.sub.parse().map_err(|_| BadToken)?, role: claims.role })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use chrono::TimeDelta;
    use serde_json::{Value, json};

    const SECRET: &str = "an HS256 secret of thirty-two bytes or more";

    fn key() -> TokenKey {
        SECRET.parse().expect("a key")
    }

    fn signed(header: &Header, claims: &Value, key: &EncodingKey) -> String {
        jsonwebtoken::encode(header, claims, key).expect("a token")
    }

    fn soon() -> i64 {
        (clock::now() + TimeDelta::hours(1)).timestamp()
    }

    fn hs256(claims: &Value) -> String {
        signed(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(SECRET.as_bytes()))
    }

    #[test]
    fn what_was_issued_is_recognised() {
        for role in [Role::User, Role::Admin] {
            let identity = Identity { user_id: "alice".parse().expect("a user id"), role };
            let token = key().issue(&identity, clock::now() + TimeDelta::minutes(1));
            assert_eq!(key().verify(&token), Ok(identity));
        }
    }

    #[test]
    fn the_role_is_user_unless_it_says_otherwise() {
        let token = hs256(&json!({"sub": "bob", "exp": soon()}));
        assert_eq!(key().verify(&token).map(|identity| identity.role), Ok(Role::User));
    }

    #[test]
    fn what_proves_nothing_is_refused() {
        let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiJib2IiLCJleHAiOjk5OTk5OTk5OTl9.";
        let other_key = EncodingKey::from_secret(b"another secret of thirty-two bytes or more");
        let good = json!({"sub": "bob", "exp": soon()});
        for (why, token) in [
            ("empty", String::new()),
            ("no token", "nonsense".into()),
            ("alg none", none.into()),
            ("HS512", signed(&Header::new(Algorithm::HS512), &good, &EncodingKey::from_secret(SECRET.as_bytes()))),
            ("another key", signed(&Header::new(Algorithm::HS256), &good, &other_key)),
            ("expired", hs256(&json!({"sub": "bob", "exp": soon() - 3_601}))),
            ("no exp", hs256(&json!({"sub": "bob"}))),
            ("exp a text", hs256(&json!({"sub": "bob", "exp": "tomorrow"}))),
            ("no sub", hs256(&json!({"exp": soon()}))),
            ("empty sub", hs256(&json!({"sub": "", "exp": soon()}))),
            ("overlong sub", hs256(&json!({"sub": "x".repeat(65), "exp": soon()}))),
            ("sub out of its alphabet", hs256(&json!({"sub": "a b", "exp": soon()}))),
            ("unknown role", hs256(&json!({"sub": "bob", "role": "root", "exp": soon()}))),
        ] {
            assert_eq!(key().verify(&token), Err(BadToken), "{why}");
        }
    }

    #[test]
    fn a_short_secret_is_refused() {
        assert!("x".repeat(31).parse::<TokenKey>().is_err());
        assert!("x".repeat(32).parse::<TokenKey>().is_ok());
    }
}
