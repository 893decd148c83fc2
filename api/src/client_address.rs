//! Where a request comes from: the peer, or whom a trusted proxy names. For limits and for the notify log.

use crate::app::App;
use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::{HeaderMap, request::Parts},
};
use shared::config::TrustedProxies;
use std::{
    convert::Infallible,
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

const FORWARDED_FOR: &str = "x-forwarded-for";
/// Proxies in a row that are followed.
const MAX_PROXIES: usize = 16;

/// The client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(IpAddr);

impl ClientAddress {
    /// The peer, unless it is a trusted proxy: then the rightmost address in `X-Forwarded-For` that is none. What stands
    /// to the left of that one was written by whoever it belongs to, and proves nothing. When a trusted proxy names
    /// nobody whom we can read, the peer it is.
    fn of(peer: IpAddr, headers: &HeaderMap, trusted: &TrustedProxies) -> Self {
        let peer = peer.to_canonical();
        if !trusted.contains(peer) {
            return Self(peer);
        }
        let lines = headers.get_all(FORWARDED_FOR).iter().rev();
        let hops = lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(','));
        let client = hops.take(MAX_PROXIES).map(read).find(|hop| hop.is_none_or(|address| !trusted.contains(address)));
        Self(client.flatten().unwrap_or(peer))
    }

    #[cfg(test)]
    pub fn from_text(address: &str) -> Self {
        Self(address.parse().expect("an address"))
    }

    /// What limits count by. Whoever has one IPv6 address usually has the /64 around it.
    pub const fn network(self) -> IpAddr {
        match self.0 {
            IpAddr::V4(_) => self.0,
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
        }
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One entry: an address, with or without a port, IPv6 with or without brackets.
fn read(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let bare = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']')).unwrap_or(hop);
    let address = bare.parse().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|address| address.ip()))?;
    Some(IpAddr::to_canonical(&address))
}

impl FromRequestParts<Arc<App>> for ClientAddress {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().expect("the server tells who has connected");
        Ok(Self::of(peer.0.ip(), &parts.headers, app.limits.trusted_proxies()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn client(peer: &str, lines: &[&str], trusted: &str) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, HeaderValue::from_bytes(line.as_bytes()).expect("a header"));
        }
        let trusted = if trusted.is_empty() { TrustedProxies::default() } else { trusted.parse().expect("networks") };
        ClientAddress::of(peer.parse().expect("an address"), &headers, &trusted).to_string()
    }

    #[test]
    fn nobody_is_believed_unasked() {
        assert_eq!(client("192.0.2.1", &["198.51.100.7"], ""), "192.0.2.1");
        assert_eq!(client("192.0.2.1", &["198.51.100.7"], "10.0.0.0/8"), "192.0.2.1");
    }

    #[test]
    fn a_trusted_proxy_names_the_client() {
        let trusted = "10.0.0.0/8,::1";
        for (lines, expected) in [
            (&["198.51.100.7"][..], "198.51.100.7"),
            (&["203.0.113.9, 198.51.100.7"], "198.51.100.7"),
            (&["203.0.113.9, 198.51.100.7, 10.1.2.3"], "198.51.100.7"),
            (&["203.0.113.9", "198.51.100.7", "10.1.2.3,10.1.2.4"], "198.51.100.7"),
            (&["198.51.100.7:4711"], "198.51.100.7"),
            (&["2001:db8::7"], "2001:db8::7"),
            (&["[2001:db8::7]"], "2001:db8::7"),
            (&["[2001:db8::7]:4711"], "2001:db8::7"),
            (&["::ffff:198.51.100.7"], "198.51.100.7"),
            (&["nonsense, 198.51.100.7"], "198.51.100.7"),
        ] {
            assert_eq!(client("10.0.0.1", lines, trusted), expected, "{lines:?}");
            assert_eq!(client("::ffff:10.0.0.1", lines, trusted), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_proxy_that_names_nobody_is_the_client_itself() {
        for lines in [
            &[][..],
            &[""],
            &["unknown"],
            &["198.51.100.7, unknown"],
            &["198.51.100.7,"],
            &["198.51.100.7", "_hidden, 10.0.0.2"],
            &["10.0.0.3, 10.0.0.2"],
            &["198.51.100.7:x"],
            &["198.51.100.7", "\u{e9}"],
            &["fe80::1%eth0"],
        ] {
            assert_eq!(client("10.0.0.1", lines, "10.0.0.0/8"), "10.0.0.1", "{lines:?}");
        }
        let endless = vec!["10.0.0.2"; MAX_PROXIES].join(",");
        assert_eq!(client("10.0.0.1", &["198.51.100.7", &endless], "10.0.0.0/8"), "10.0.0.1");
    }

    #[test]
    fn a_network_of_ipv6_is_one_caller() {
        let network = |address: &str| ClientAddress::from_text(address).network().to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("198.51.100.7"), "198.51.100.7");
    }
}
