//! The limits' variables: who may ask how often, and whose word for a client's address is taken.

use super::Env;
use ipnet::IpNet;
use std::{net::IpAddr, num::NonZeroU32};

/// The largest budget that can be asked for, in requests per period.
const MAX_BUDGET: u32 = 1_000_000;
/// More pending orders than anybody could want.
const MAX_PENDING: u32 = 10_000;

/// Requests per period; `None` is no limit.
pub type Rate = Option<NonZeroU32>;

/// How much may be asked of `api`.
#[derive(Clone, Debug)]
pub struct LimitsConfig {
    /// New orders in a minute, per user.
    pub create_per_user: Rate,
    /// New orders in a minute, per address.
    pub create_per_ip: Rate,
    /// Everything else under `/api` in a second, per user.
    pub read_per_user: Rate,
    /// Everything else under `/api` in a second, per address.
    pub read_per_ip: Rate,
    /// Callbacks in a second, per address.
    pub callback_per_ip: Rate,
    /// Orders that one user may have waiting for payment; `None` is no limit.
    pub max_pending_orders: Option<NonZeroU32>,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: TrustedProxies,
}

/// The proxies in front of `api`, whose word for a client's address is taken. Usually none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

/// The text is no list of networks.
#[derive(Debug, thiserror::Error)]
#[error("trusted proxies are IP addresses and CIDR ranges, separated by commas")]
pub struct BadProxies;

impl TrustedProxies {
    /// Whether `address` is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

impl std::str::FromStr for TrustedProxies {
    type Err = BadProxies;

    fn from_str(text: &str) -> Result<Self, BadProxies> {
        let network = |text: &str| {
            let text = text.trim();
            let address = text.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical()));
            address.or_else(|_| text.parse()).map_err(|_| BadProxies)
        };
        text.split(',').map(network).collect::<Result<_, _>>().map(Self)
    }
}

/// The limits' variables.
pub fn limits(env: &mut Env) -> Option<LimitsConfig> {
    let a_minute = "requests in a minute, 0 to 1000000; 0 is no limit";
    let a_second = "requests in a second, 0 to 1000000; 0 is no limit";
    let mut budget =
        |name, expects, default| env.number_or(name, expects, default, 0..=MAX_BUDGET).map(NonZeroU32::new);
    let create_per_user = budget("RATE_LIMIT_CREATE_PER_USER", a_minute, 300);
    let create_per_ip = budget("RATE_LIMIT_CREATE_PER_IP", a_minute, 6_000);
    let read_per_user = budget("RATE_LIMIT_READ_PER_USER", a_second, 100);
    let read_per_ip = budget("RATE_LIMIT_READ_PER_IP", a_second, 1_000);
    let callback_per_ip = budget("RATE_LIMIT_CALLBACK_PER_IP", a_second, 0);
    let expects = "orders that one user may have waiting for payment, 0 to 10000; 0 is no limit";
    let max_pending_orders = env.number_or("MAX_PENDING_ORDERS", expects, 5, 0..=MAX_PENDING).map(NonZeroU32::new);
    let expects = "IP addresses and CIDR ranges of the proxies whose X-Forwarded-For is believed, separated by commas";
    let trusted_proxies = env.optional_as("TRUSTED_PROXIES", expects, "none", |text| text.parse().ok());
    Some(LimitsConfig {
        create_per_user: create_per_user?,
        create_per_ip: create_per_ip?,
        read_per_user: read_per_user?,
        read_per_ip: read_per_ip?,
        callback_per_ip: callback_per_ip?,
        max_pending_orders: max_pending_orders?,
        trusted_proxies: trusted_proxies?.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(text: &str) -> TrustedProxies {
        text.parse().expect("a list of networks")
    }

    fn contains(list: &str, address: &str) -> bool {
        proxies(list).contains(address.parse().expect("an address"))
    }

    #[test]
    fn a_proxy_is_trusted_by_its_address_or_its_network() {
        let list = "10.0.0.0/8, 192.168.1.1,fd00::/8 ,::1";
        for inside in ["10.255.0.1", "192.168.1.1", "fd12::9", "::1", "::ffff:10.0.0.1"] {
            assert!(contains(list, inside), "{inside}");
        }
        for outside in ["11.0.0.1", "192.168.1.2", "fe80::1", "::2", "::ffff:11.0.0.1"] {
            assert!(!contains(list, outside), "{outside}");
        }
        assert!(!TrustedProxies::default().contains(IpAddr::from([127, 0, 0, 1])), "nobody is trusted unasked");
    }

    #[test]
    fn what_is_no_list_of_networks_is_refused() {
        for text in
            ["10.0.0.0/33", "10.0.0", "localhost", "10.0.0.1,", ",", "10.0.0.1;10.0.0.2", "::1/129", "10.0.0.1:80"]
        {
            assert!(text.parse::<TrustedProxies>().is_err(), "{text}");
        }
    }

    #[test]
    fn zero_is_no_limit() {
        let read = |env: &mut Env| limits(env).expect("sound");
        let defaults = read(&mut Env::of([]));
        assert_eq!(defaults.create_per_user, NonZeroU32::new(300));
        assert_eq!(defaults.callback_per_ip, None);
        let off = read(&mut Env::of([("RATE_LIMIT_CREATE_PER_USER", "0"), ("MAX_PENDING_ORDERS", "0")]));
        assert_eq!((off.create_per_user, off.max_pending_orders), (None, None));
    }
}
