//! `ops token`

use crate::duration;
use chrono::TimeDelta;
use shared::{
    clock,
    token::{Identity, Role, TokenKey},
    users::UserId,
};

/// For whom, with which rights, and for how long.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The user's id: 1 to 64 of A-Z, a-z, 0-9, _ and -
    #[arg(long)]
    user: UserId,
    /// With the role admin
    #[arg(long)]
    admin: bool,
    /// How long it is valid: a number and s, m, h or d
    #[arg(long, default_value = "12h", value_parser = duration::parse)]
    ttl: TimeDelta,
}

/// Prints the token.
pub fn run(arguments: &Arguments, key: &TokenKey) {
    let role = if arguments.admin { Role::Admin } else { Role::User };
    let identity = Identity { user_id: arguments.user.clone(), role };
    println!("{}", key.issue(&identity, clock::now() + arguments.ttl));
}
