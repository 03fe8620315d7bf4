//! Who is at the other end of a connection, as far as shares of connections go. Pure.

use std::net::{IpAddr, Ipv6Addr};

/// An address, or whoever has one network's addresses. `None`: a unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Peer(Option<IpAddr>);

/// The bits of an IPv6 address that are one host's to choose: it has a whole /64.
const HOST_BITS: u32 = 64;

impl Peer {
    /// The peer of that address.
    pub(super) fn of(address: Option<IpAddr>) -> Self {
        Self(address.map(|address| match address.to_canonical() {
            IpAddr::V6(v6) => {
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> HOST_BITS << HOST_BITS))
            }
            v4 @ IpAddr::V4(_) => v4,
        }))
    }

    /// Whether it is on this host: a reverse proxy, as a rule, with many clients behind it.
    pub(super) fn is_local(address: Option<IpAddr>) -> bool {
        address.is_none_or(|address| address.to_canonical().is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_ipv6_is_one_peer_and_an_address_of_ipv4_is() {
        let peer = |text: &str| Peer::of(Some(text.parse().unwrap()));
        assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff:1"));
        assert_ne!(peer("2001:db8::1"), peer("2001:db8:0:1::1"));
        assert_eq!(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
        assert_ne!(peer("192.0.2.1"), peer("192.0.2.2"));
        assert!(Peer::is_local(None) && Peer::is_local(Some("::1".parse().unwrap())));
        assert!(!Peer::is_local(Some("192.0.2.1".parse().unwrap())));
    }
}
