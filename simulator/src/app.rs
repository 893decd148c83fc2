//! What every part of the simulator shares: keys, clock, settings, the world and the schedule.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use anyhow::Context;
use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio::sync::{Semaphore, watch};

use crate::{
    clock::Clock,
    config::{Config, KeyMode},
    delivery::Schedule,
    faults::Faults,
    keys::Keyring,
    world::World,
};

/// What can be changed while the simulator runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// How answers and callbacks are signed.
    pub key_mode: KeyMode,
    /// Share of callbacks signed with the public key in `mixed` mode, 0 to 1.
    pub public_key_share: f64,
    /// How much faster than real time schedules run.
    pub clock_factor: f64,
    /// Until a refund succeeds by itself, milliseconds; `None`: never.
    pub refund_delay_ms: Option<u64>,
    /// From a payment to the first delivery, milliseconds.
    pub first_delivery_delay_ms: u64,
}

impl Settings {
    /// As the command line has them.
    pub fn of(config: &Config) -> Self {
        Self {
            key_mode: config.key_mode,
            public_key_share: 0.5,
            clock_factor: config.clock_factor,
            refund_delay_ms: config.refund_delay_ms.into(),
            first_delivery_delay_ms: config.first_delivery_delay_ms,
        }
    }

    /// `duration` of WeChat's time in real time.
    pub fn scaled(&self, duration: Duration) -> Duration {
        const LONGEST: Duration = Duration::from_hours(10 * 366 * 24);
        let seconds = duration.as_secs_f64() / self.clock_factor;
        Duration::try_from_secs_f64(seconds).map_or(LONGEST, |scaled| scaled.min(LONGEST))
    }
}

/// One running simulator.
#[derive(Debug)]
pub struct Simulator {
    /// What it was started with.
    pub config: Config,
    /// What time it is.
    pub clock: Clock,
    /// What is to be sent when.
    pub schedule: Schedule,
    /// Sends callbacks.
    pub http: reqwest::Client,
    /// Deliveries that may be under way at the same time.
    pub permits: Semaphore,
    /// The highest sequence number of a notification that has been sent.
    pub sent: watch::Sender<u64>,
    keys: RwLock<Arc<Keyring>>,
    settings: Mutex<Settings>,
    world: Mutex<World>,
    faults: Mutex<Faults>,
}

impl Simulator {
    /// A simulator with an empty world. Whoever makes it runs the jobs of `schedule`.
    pub fn new(config: Config, keys: Keyring, schedule: Schedule) -> anyhow::Result<Self> {
        const ANSWER_WITHIN: Duration = Duration::from_secs(5);
        /// Shorter than servers wait, so that a callback seldom meets a closing connection.
        const IDLE: Duration = Duration::from_secs(3);
        let http = reqwest::Client::builder()
            .user_agent("Mozilla/4.0")
            .redirect(reqwest::redirect::Policy::none())
            .timeout(ANSWER_WITHIN)
            .pool_idle_timeout(IDLE)
            .no_proxy()
            .no_gzip()
            .build()
            .context("cannot make an HTTP client")?;
        Ok(Self {
            clock: Clock::default(),
            schedule,
            http,
            permits: Semaphore::new(config.delivery_concurrency as usize),
            sent: watch::Sender::new(0),
            keys: RwLock::new(Arc::new(keys)),
            settings: Mutex::new(Settings::of(&config)),
            world: Mutex::default(),
            faults: Mutex::new(Faults::new(config.seed)),
            config,
        })
    }

    /// What time it is at WeChat Pay.
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// The keys as they are now.
    pub fn keys(&self) -> Arc<Keyring> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts other keys in force.
    pub fn set_keys(&self, keys: Keyring) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }

    /// The settings as they are now.
    pub fn settings(&self) -> Settings {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts other settings in force.
    pub fn set_settings(&self, settings: Settings) {
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    /// The world, locked. Never held across an await.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The faults, locked. Never held across an await, nor together with the world.
    pub fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
