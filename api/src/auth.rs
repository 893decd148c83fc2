//! Who is calling. An extractor proves what it names.

use crate::{app::App, error::ApiError};
use axum::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    http::{HeaderMap, header, request::Parts},
};
use shared::{
    orders::sql::Scope,
    token::{Identity, Role},
    users::UserId,
};
use std::sync::Arc;

/// An authenticated caller.
#[derive(Debug)]
pub struct User(Identity);

impl User {
    /// Who it is.
    pub const fn id(&self) -> &UserId {
        &self.0.user_id
    }

    /// Whose orders they may see.
    pub const fn scope(&self) -> Scope<'_> {
        match self.0.role {
            Role::Admin => Scope::All,
            Role::User => Scope::Own(&self.0.user_id),
        }
    }
}

impl FromRequestParts<Arc<App>> for User {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        identify(app, &parts.headers).map(Self)
    }
}

/// Whom the bearer token proves the caller to be.
pub fn identify(app: &App, headers: &HeaderMap) -> Result<Identity, ApiError> {
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (scheme, token) = header.and_then(|header| header.split_once(' ')).ok_or(ApiError::Unauthorized)?;
    if !scheme.eq_ignore_ascii_case("Bearer") {
        return Err(ApiError::Unauthorized);
    }
    app.tokens.verify(token.trim()).map_err(|_| ApiError::Unauthorized)
}

/// A caller who need not say who they are; but what they say must be true.
impl OptionalFromRequestParts<Arc<App>> for User {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Option<Self>, ApiError> {
        if !parts.headers.contains_key(header::AUTHORIZATION) {
            return Ok(None);
        }
        <Self as FromRequestParts<Arc<App>>>::from_request_parts(parts, app).await.map(Some)
    }
}

/// An authenticated caller with the role admin.
#[derive(Debug)]
pub struct Admin(pub User);

impl FromRequestParts<Arc<App>> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let user = <User as FromRequestParts<Arc<App>>>::from_request_parts(parts, app).await?;
        if user.0.role == Role::Admin { Ok(Self(user)) } else { Err(ApiError::Forbidden) }
    }
}
