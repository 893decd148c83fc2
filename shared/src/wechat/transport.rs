//! One request and its answer: signed on the way out, verified on the way in, and sorted by what may be concluded.

use super::{
    BACKUP_BASE_URL, Merchant, OFFICIAL_BASE_URL,
    error::{Error, Refusal, Unknown},
    keys::KeyRing,
    signature::Signed,
};
use crate::{clock, notify::Fault};
use reqwest::{
    Method, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap},
};
use serde::Deserialize;
use std::time::Duration;
use url::Url;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// For one attempt, the connection included.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
/// WeChat Pay drops connections that were idle for 8 s (wechatpay-v3.md §1.1).
const IDLE_TIMEOUT: Duration = Duration::from_secs(7);
/// The largest answer that is read. A list of certificates is the largest there is.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// An answer: status, headers and the decoded body.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

#[derive(Deserialize)]
struct ErrorBody {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// The HTTP client and the hosts it may turn to, best first.
#[derive(Clone, Debug)]
pub(super) struct Transport {
    http: reqwest::Client,
    hosts: Vec<Url>,
}

impl Transport {
    pub(super) fn new(base_url: &Url) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("recharge/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ATTEMPT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        let official = Url::parse(OFFICIAL_BASE_URL).is_ok_and(|official| official == *base_url);
        let backup = Url::parse(BACKUP_BASE_URL).ok().filter(|_| official);
        Ok(Self { http, hosts: std::iter::once(base_url.clone()).chain(backup).collect() })
    }

    /// Sends one signed request. `attempt` counts from 0; a repeat goes to the next host.
    pub(super) async fn send(
        &self,
        merchant: &Merchant,
        attempt: usize,
        method: &Method,
        target: &str,
        body: &str,
    ) -> Result<Answer, Error> {
        let url = self.hosts[attempt % self.hosts.len()]
            .join(target)
            .map_err(|error| Error::Unknown(Unknown::Unreadable(error.to_string())))?;
        // The very bytes that go on the wire are signed.
        let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let authorization = merchant.signer.authorization(method.as_str(), target, body.as_bytes(), clock::now());
        let mut request = self
            .http
            .request(method.clone(), url.clone())
            .header(ACCEPT, "application/json")
            .header(AUTHORIZATION, authorization);
        if let Some(id) = &merchant.public_key_id {
            request = request.header("Wechatpay-Serial", id);
        }
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_owned());
        }
        let no_answer = |error: reqwest::Error| Error::Unknown(Unknown::NoAnswer(error.without_url()));
        let mut response = request.send().await.map_err(no_answer)?;
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(no_answer)? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(Error::Unknown(Unknown::Unreadable("it is too long".into())));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, headers, body })
    }
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body, when the answer is a success that was truly signed; else what may be concluded. Funds may have moved: a
    /// success that cannot be verified is neither a success nor a failure.
    pub(super) fn trusted(self, keys: &KeyRing) -> Result<Vec<u8>, Error> {
        let signature = self.verify(keys);
        match self.status.as_u16() {
            429 | 202 | 500.. => Err(Error::Unknown(Unknown::Busy(self.refusal()))),
            200 | 204 => signature.map(|()| self.body).map_err(|error| Error::Unknown(error.unwrap_or(NO_SIGNATURE))),
            400..=499 => Err(match signature {
                Ok(()) => Error::Rejected(self.refusal()),
                Err(None) => Error::NotAuthenticated(self.refusal()),
                Err(Some(unverified)) => Error::Unknown(unverified),
            }),
            _ => Err(Error::Unknown(Unknown::Unreadable(format!("its status is {}", self.status)))),
        }
    }

    /// Fails with `None` when there is no signature at all.
    fn verify(&self, keys: &KeyRing) -> Result<(), Option<Unknown>> {
        let header = |name| self.header(name).ok_or(None);
        let (timestamp, nonce) = (header("Wechatpay-Timestamp")?, header("Wechatpay-Nonce")?);
        let (signature, serial) = (header("Wechatpay-Signature")?, header("Wechatpay-Serial")?);
        let signed = Signed { timestamp, nonce, signature };
        if !signed.is_fresh(clock::now()) {
            return Err(Some(Unknown::Unverified("its timestamp is over 5 minutes off; check this machine's clock")));
        }
        keys.verify(serial, &signed, &self.body).map_err(|fault| {
            Some(match fault {
                Fault::KeyUnavailable => Unknown::KeyMissing(serial.to_owned()),
                Fault::SignatureProbe => Unknown::Unverified("its signature is a probe"),
                _ => Unknown::Unverified("its signature is wrong"),
            })
        })
    }

    fn refusal(&self) -> Refusal {
        let body: ErrorBody = serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| ErrorBody { code: String::new(), message: "the body is not the protocol's".into() });
        let request_id = self.header("Request-ID").unwrap_or("none").to_owned();
        Refusal { status: self.status.as_u16(), code: body.code, message: body.message, request_id }
    }
}

const NO_SIGNATURE: Unknown = Unknown::Unverified("it has no signature");
