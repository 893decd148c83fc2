//! `ops token`

use anyhow::{Context, bail, ensure};
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
    #[arg(long, default_value = "12h", value_parser = parse_ttl)]
    ttl: TimeDelta,
}

/// Prints the token.
pub fn run(arguments: &Arguments, key: &TokenKey) {
    let role = if arguments.admin { Role::Admin } else { Role::User };
    let identity = Identity { user_id: arguments.user.clone(), role };
    println!("{}", key.issue(&identity, clock::now() + arguments.ttl));
}

fn parse_ttl(text: &str) -> anyhow::Result<TimeDelta> {
    let unit = text.chars().last().context("a number and s, m, h or d, such as 12h")?;
    let number: u32 = text[..text.len() - unit.len_utf8()].parse().context("a number and s, m, h or d, such as 12h")?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => bail!("a number and s, m, h or d, such as 12h"),
    };
    let ttl = TimeDelta::seconds(i64::from(number) * seconds);
    ensure!((TimeDelta::seconds(1)..=TimeDelta::days(3_660)).contains(&ttl), "from 1s to 3660d");
    Ok(ttl)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ttl_is_a_number_and_a_unit() {
        assert_eq!(parse_ttl("12h").expect("hours"), TimeDelta::hours(12));
        assert_eq!(parse_ttl("90s").expect("seconds"), TimeDelta::seconds(90));
        for bad in ["", "h", "12", "-1h", "1.5h", "0s", "12时", "4294967295d"] {
            assert!(parse_ttl(bad).is_err(), "{bad}");
        }
    }
}
