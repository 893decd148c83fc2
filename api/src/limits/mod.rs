//! How often a caller may ask: budgets per user and per address, for new orders, for everything else, and for callbacks.
//! Judged before anything that costs. `/healthz` and its like are never limited.

mod store;

use crate::{app::App, client_address::ClientAddress, error::ApiError, notify};
use axum::{
    extract::{FromRequestParts, Request},
    http::{HeaderName, HeaderValue, Method, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::StateInformationMiddleware,
};
use shared::{
    config::{LimitsConfig, TrustedProxies},
    users::UserId,
};
use std::{hash::Hash, net::IpAddr, num::NonZeroU32, sync::Arc, time::Duration};
use store::Store;
use tokio_util::sync::CancellationToken;

/// How often callers who have not asked for a while are forgotten.
const UPKEEP_PERIOD: Duration = Duration::from_mins(1);
const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// All budgets of this process, and the configuration that they come from.
#[derive(Debug)]
pub struct Limits {
    create: Budgets,
    read: Budgets,
    callback: Option<Budget<IpAddr>>,
    config: LimitsConfig,
}

#[derive(Debug)]
struct Budgets {
    per_ip: Option<Budget<IpAddr>>,
    per_user: Option<Budget<UserId>>,
}

/// A budget for each `K`.
#[derive(Debug)]
struct Budget<K: Hash + Eq + Clone>(RateLimiter<K, Store<K>, DefaultClock, StateInformationMiddleware>);

/// How one caller stands with one budget, after this request.
#[derive(Clone, Copy, Debug)]
struct Standing {
    limit: u32,
    remaining: u32,
    /// Until the whole budget is there again, at the latest.
    reset: Duration,
    /// Set when this request was too much: until the next one is not.
    over: Option<Duration>,
}

/// What a request counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Create,
    Read,
    Callback,
}

impl Class {
    /// `None` is not limited.
    fn of(method: &Method, path: &str) -> Option<Self> {
        match path {
            "/api/payment/orders" if method == Method::POST => Some(Self::Create),
            _ if path.starts_with("/api/payment/notify/") => Some(Self::Callback),
            _ if path.starts_with("/api/") => Some(Self::Read),
            _ => None,
        }
    }
}

impl Limits {
    /// Full budgets.
    pub fn new(config: LimitsConfig) -> Self {
        let (minute, second) = (Quota::per_minute, Quota::per_second);
        Self {
            create: Budgets {
                per_ip: Budget::new(config.create_per_ip, minute),
                per_user: Budget::new(config.create_per_user, minute),
            },
            read: Budgets {
                per_ip: Budget::new(config.read_per_ip, second),
                per_user: Budget::new(config.read_per_user, second),
            },
            callback: Budget::new(config.callback_per_ip, second),
            config,
        }
    }

    /// Whose `X-Forwarded-For` is believed.
    pub const fn trusted_proxies(&self) -> &TrustedProxies {
        &self.config.trusted_proxies
    }

    /// Orders that one user may have waiting for payment; `None` is no limit.
    pub const fn max_pending_orders(&self) -> Option<NonZeroU32> {
        self.config.max_pending_orders
    }

    /// Counts the request, and answers how its caller stands with the tightest budget; `None` when there is none. `user` is
    /// asked for only when the address has not used up its budget.
    fn judge(&self, class: Class, client: ClientAddress, user: impl FnOnce() -> Option<UserId>) -> Option<Standing> {
        let (per_ip, per_user) = match class {
            Class::Create => (&self.create.per_ip, self.create.per_user.as_ref()),
            Class::Read => (&self.read.per_ip, self.read.per_user.as_ref()),
            Class::Callback => (&self.callback, None),
        };
        let by_ip = per_ip.as_ref().map(|budget| budget.take(&client.network()));
        if by_ip.is_some_and(|standing| standing.over.is_some()) {
            return by_ip;
        }
        let by_user = per_user.and_then(|budget| user().map(|user| budget.take(&user)));
        [by_user, by_ip].into_iter().flatten().min_by_key(|standing| (standing.over.is_none(), standing.remaining))
    }

    /// Forgets callers who have not asked for a while, until `stop`.
    pub async fn upkeep(app: Arc<App>, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(UPKEEP_PERIOD)).await.is_some() {
            app.limits.forget_idle();
        }
    }

    fn forget_idle(&self) {
        for budget in [&self.create.per_ip, &self.read.per_ip, &self.callback].into_iter().flatten() {
            budget.0.retain_recent();
        }
        for budget in [&self.create.per_user, &self.read.per_user].into_iter().flatten() {
            budget.0.retain_recent();
        }
    }
}

impl<K: Hash + Eq + Clone> Budget<K> {
    fn new(rate: Option<NonZeroU32>, quota: impl FnOnce(NonZeroU32) -> Quota) -> Option<Self> {
        rate.map(|rate| Self(RateLimiter::new(quota(rate), Store::default(), DefaultClock::default())))
    }

    fn take(&self, key: &K) -> Standing {
        let (quota, remaining, over) = match self.0.check_key(key) {
            Ok(state) => (state.quota(), state.remaining_burst_capacity(), None),
            Err(until) => (until.quota(), 0, Some(until.wait_time_from(self.0.clock().now()))),
        };
        let limit = quota.burst_size().get();
        Standing { limit, remaining, reset: quota.replenish_interval() * (limit - remaining), over }
    }
}

/// Counts every request under `/api`, and refuses what is too much.
pub async fn limited(app: &Arc<App>, request: Request, next: Next) -> Response {
    let Some(class) = Class::of(request.method(), request.uri().path()) else { return next.run(request).await };
    let (mut parts, body) = request.into_parts();
    let Ok(client) = ClientAddress::from_request_parts(&mut parts, app).await;
    let standing = app.limits.judge(class, client, || user(app, &parts));
    let over = standing.and_then(|standing| standing.over);
    let mut response = match over {
        None => next.run(Request::from_parts(parts, body)).await,
        Some(_) if class == Class::Callback => notify::Answered::rate_limited().into_response(),
        Some(wait) => ApiError::RateLimited(wait).into_response(),
    };
    if let Some(standing) = standing {
        for (name, value) in [
            (LIMIT, standing.limit.into()),
            (REMAINING, standing.remaining.into()),
            (RESET, whole_seconds(standing.reset)),
        ] {
            response.headers_mut().insert(name, HeaderValue::from(value));
        }
    }
    if let Some(wait) = over {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait).max(1)));
    }
    response
}

/// Whose budget it is: nobody's, when they do not prove who they are.
fn user(app: &App, parts: &Parts) -> Option<UserId> {
    crate::auth::identify(app, &parts.headers).ok().map(|identity| identity.user_id)
}

/// Rounded up: who comes back after that is not too early.
pub fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests;
