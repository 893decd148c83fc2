//! What the handlers share, and the configuration it is made from.

use crate::{intake::Intake, notify::Sampler};
use chrono::TimeDelta;
use shared::{
    config::{self, Env, Faults, ProcessConfig},
    health::Needs,
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
    /// Stores callbacks.
    pub intake: Intake,
    /// How many refused callbacks are kept.
    pub rejected: Sampler,
    /// For `/readyz`.
    pub needs: Needs,
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
}

/// Reads it.
pub fn load(env: &mut Env) -> Result<Config, Faults> {
    let process = config::process(env);
    let listen = config::listen(env, "API_LISTEN", SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)));
    let tokens = config::jwt_secret(env);
    let merchant = config::merchant(env);
    let data_key = config::data_encryption_key(env);
    let order_ttl = config::order_ttl(env);
    match (process, listen, tokens, merchant, data_key, order_ttl) {
        (Some(process), Some(listen), Some(tokens), Some((merchant, keys)), Some(_), Some(order_ttl))
            if env.is_sound() =>
        {
            Ok(Config { process, listen, tokens, merchant, keys, order_ttl })
        }
        _ => Err(env.faults()),
    }
}
