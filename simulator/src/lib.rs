//! WeChat Pay's stand-in for development, tests and staging: API v3 of a direct merchant, Native.
//!
//! It shares no code with the service it is used against, so that one misreading of the protocol
//! cannot cancel itself out. State is in memory, keys are on disk. In reading order:
//! [`config`] and [`server`] start it, [`v3`] is what merchants call, [`callbacks`] and
//! [`delivery`] call them back, [`faults`] spoils both, [`control`] and [`page`] are for people
//! and tests, [`world`] is what all of it is about.

pub mod app;
pub mod callbacks;
pub mod clock;
pub mod config;
pub mod control;
pub mod crypto;
pub mod delivery;
pub mod faults;
pub mod keys;
pub mod page;
pub mod server;
pub mod v3;
pub mod world;
