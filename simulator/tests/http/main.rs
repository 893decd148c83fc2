//! The simulator from outside, over HTTP.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod faults;
mod merchant;
mod support;
