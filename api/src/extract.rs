//! Extractors that refuse in our words.

use crate::{
    body::{self, BodyError},
    error::ApiError,
    fields::{FieldError, Fields, FromFields},
};
use axum::{
    extract::{FromRequest, FromRequestParts, Request},
    http::{header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use shared::checkout::idempotency::is_key;

/// A JSON body, in or out.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: FromFields, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        if !says_json(&request) {
            return Err(NOT_SAID_TO_BE_JSON);
        }
        parse(&read(request).await?).map(Self)
    }
}

/// A JSON body that may be left out: then all of its fields are.
#[derive(Debug)]
pub struct OptionalJson<T>(pub T);

impl<T: FromFields, S: Send + Sync> FromRequest<S> for OptionalJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let says_json = says_json(&request);
        let body = read(request).await?;
        match body.as_slice() {
            [] => parse(b"{}").map(Self),
            body if says_json => parse(body).map(Self),
            _ => Err(NOT_SAID_TO_BE_JSON),
        }
    }
}

const NOT_SAID_TO_BE_JSON: ApiError = ApiError::Malformed("Content-Type must be application/json");

fn says_json(request: &Request) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(is_json)
}

async fn read(request: Request) -> Result<Vec<u8>, ApiError> {
    body::read(request.into_body()).await.map_err(|error| match error {
        BodyError::TooLarge => ApiError::TooLarge,
        BodyError::TooSlow => ApiError::Malformed("the body did not come in time"),
        BodyError::Broken => ApiError::Malformed("the body cannot be read"),
    })
}

fn parse<T: FromFields>(body: &[u8]) -> Result<T, ApiError> {
    let value = serde_json::from_slice(body).map_err(|_| ApiError::Malformed("the body is not JSON"))?;
    let Value::Object(values) = value else {
        let message = "must be an object".to_owned();
        return Err(ApiError::Validation(vec![FieldError { field: String::new(), message }]));
    };
    Fields::read(values).map_err(ApiError::Validation)
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
            Err(error) => {
                tracing::error!(%error, "an answer cannot be written as JSON");
                ApiError::Panic.into_response()
            }
        }
    }
}

/// A query's parameters.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: FromFields, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = parts.uri.query().unwrap_or_default();
        let mut values = Map::new();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            if values.insert(name.clone().into_owned(), value.into_owned().into()).is_some() {
                let message = "is given more than once".to_owned();
                return Err(ApiError::Validation(vec![FieldError { field: name.into_owned(), message }]));
            }
        }
        Fields::read(values).map(Self).map_err(ApiError::Validation)
    }
}

/// A query without parameters: any that is sent is refused.
#[derive(Debug)]
pub struct Nothing;

impl FromFields for Nothing {
    fn from_fields(_: &mut Fields) -> Option<Self> {
        Some(Self)
    }
}

/// A path's parameter. One that cannot exist is not found, like one that does not.
#[derive(Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    #[expect(clippy::disallowed_types, reason = "this is the substitute that clippy.toml names")]
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(_) => Err(ApiError::NotFound("page")),
        }
    }
}

/// The header `Idempotency-Key`, when it was sent.
#[derive(Debug)]
pub struct IdempotencyKey(pub Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let Some(value) = parts.headers.get("idempotency-key") else { return Ok(Self(None)) };
        let key = value.to_str().ok().filter(|key| is_key(key)).map(str::to_owned);
        key.map(|key| Self(Some(key))).ok_or_else(|| {
            let message = "must be 1 to 64 visible ASCII characters".to_owned();
            ApiError::Validation(vec![FieldError { field: "Idempotency-Key".into(), message }])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::is_json;

    #[test]
    fn json_is_known_with_and_without_its_charset() {
        for good in ["application/json", "application/json; charset=utf-8", "Application/JSON"] {
            assert!(is_json(good), "{good}");
        }
        for bad in ["", "text/plain", "application/jsonp", "application/x-www-form-urlencoded"] {
            assert!(!is_json(bad), "{bad}");
        }
    }
}
