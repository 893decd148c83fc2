//! What the handlers share, and the configuration it is made from.

use crate::{intake::Intake, limits::Limits, live::Live, notify::Sampler};
use chrono::TimeDelta;
use shared::{
    checkout::budget::Budget,
    config::{self, Env, Faults, LimitsConfig, ProcessConfig},
    health::Needs,
    metrics::Metrics,
    notify::NotifyId,
    orders::OrderNo,
    queue::{Announcer, Line, Publisher},
    token::TokenKey,
    wechat::{Client, KeyRing, Merchant},
};
use sqlx::PgPool;
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

/// What the handlers share.
#[derive(Debug)]
pub struct App {
    /// PostgreSQL.
    pub db: PgPool,
    /// WeChat Pay.
    pub wechat: Client,
    /// WeChat Pay's keys, for the door.
    pub keys: Arc<KeyRing>,
    /// Recognises callers.
    pub tokens: TokenKey,
    /// How long an order can be paid.
    pub order_ttl: TimeDelta,
    /// How fast WeChat Pay may be asked about orders.
    pub budget: Budget,
    /// Names work to the workers at once; `None` without a broker, where they find it.
    pub publisher: Option<Publisher>,
    /// Stores callbacks.
    pub intake: Intake,
    /// How many refused callbacks are kept.
    pub rejected: Sampler,
    /// How often callers may ask.
    pub limits: Limits,
    /// The orders that are watched here.
    pub live: Live,
    /// Tells the other processes which orders have changed.
    pub announcer: Announcer,
    /// How many rows of the notify log retries in bulk let come due in a second.
    pub retries_per_second: u32,
    /// For `/readyz`.
    pub needs: Needs,
    /// For `/metrics`.
    pub metrics: Metrics,
}

impl App {
    /// Says that these orders have changed, here and to the other processes. After the commit.
    pub fn announce(&self, order_nos: Vec<OrderNo>) {
        self.live.changed(order_nos.iter().cloned());
        self.announcer.announce(order_nos);
    }

    /// Hands a notification to the workers at once. After the commit; without it the rescue loop finds the row.
    pub fn publish(&self, id: NotifyId) {
        if let Some(publisher) = &self.publisher {
            publisher.publish(Line::Notify, &[id]);
        }
    }
}

/// `api`'s configuration.
#[derive(Debug)]
pub struct Config {
    /// What every process has.
    pub process: ProcessConfig,
    /// `API_LISTEN`
    pub listen: SocketAddr,
    /// `JWT_SECRET`
    pub tokens: TokenKey,
    /// Who we are to WeChat Pay.
    pub merchant: Merchant,
    /// The key of public-key mode, when there is one.
    pub keys: KeyRing,
    /// `ORDER_TTL_MINUTES`
    pub order_ttl: TimeDelta,
    /// `WECHAT_PAY_QUERIES_PER_SECOND`
    pub queries_per_second: u32,
    /// `NOTIFY_RETRY_PER_SECOND`
    pub retries_per_second: u32,
    /// How often callers may ask.
    pub limits: LimitsConfig,
}

/// Reads it.
pub fn load(env: &mut Env) -> Result<Config, Faults> {
    let process = config::process(env);
    let listen = config::listen(env, "API_LISTEN", SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)));
    let tokens = config::jwt_secret(env);
    let merchant = config::merchant(env);
    let data_key = config::data_encryption_key(env);
    let limits = config::limits(env);
    let (order_ttl, queries) = (config::order_ttl(env), config::queries_per_second(env));
    let retries = config::retries_per_second(env);
    // One fault is enough to stop; by here all of them are known.
    let read = || {
        let (merchant, keys) = merchant?;
        data_key?;
        Some(Config {
            process: process?,
            listen: listen?,
            tokens: tokens?,
            merchant,
            keys,
            order_ttl: order_ttl?,
            queries_per_second: queries?,
            retries_per_second: retries?,
            limits: limits?,
        })
    };
    read().filter(|_| env.is_sound()).ok_or_else(|| env.faults())
}
