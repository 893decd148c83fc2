//! The recharge service without its processes: the domain, and the adapters around it.
//!
//! The domain comes first. Every `mod.rs` in it is pure: no `.await`, no SQL, no clock; the `sql.rs` beside it holds the
//! queries. The adapters know the domain, and it knows none of them.

pub mod audit;
pub mod books;
pub mod money;
pub mod notify;
pub mod orders;
pub mod packages;
pub mod payments;
pub mod points;
pub mod refunds;
pub mod statistics;
pub mod users;

pub mod checkout;
pub mod clock;
pub mod config;
pub mod crash;
pub mod db;
pub mod handling;
pub mod health;
pub mod metrics;
pub mod process;
pub mod queue;
pub mod replay;
pub mod telemetry;
pub mod token;
pub mod wechat;

/// The schema's history, forward only. `ops migrate` applies it; tests make a fresh database with it.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");
