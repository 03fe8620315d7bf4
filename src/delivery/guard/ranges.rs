//! Which addresses are public. From the IANA special-purpose registries and the two deny lists of
//! the field (Svix's and smokescreen's): their union.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// What is not public in IPv4, and why.
const NOT_PUBLIC_V4: [([u8; 4], u8, &str); 17] = [
    ([0, 0, 0, 0], 8, "this network"),
    ([10, 0, 0, 0], 8, "private"),
    ([100, 64, 0, 0], 10, "carrier-grade NAT"),
    ([127, 0, 0, 0], 8, "loopback"),
    ([169, 254, 0, 0], 16, "link-local"),
    ([172, 16, 0, 0], 12, "private"),
    ([192, 0, 0, 0], 24, "protocol assignments"),
    ([192, 0, 2, 0], 24, "documentation"),
    ([192, 31, 196, 0], 24, "AS112"),
    ([192, 52, 193, 0], 24, "AMT"),
    ([192, 88, 99, 0], 24, "6to4 relay"),
    ([192, 168, 0, 0], 16, "private"),
    ([198, 18, 0, 0], 15, "benchmarking"),
    ([198, 51, 100, 0], 24, "documentation"),
    ([203, 0, 113, 0], 24, "documentation"),
    ([224, 0, 0, 0], 4, "multicast"),
    ([240, 0, 0, 0], 4, "reserved"),
];

/// What is not public in IPv6, and why. Whatever is outside `2000::/3`, the only global unicast
/// range there is (RFC 4291), is refused without being listed; it is listed for its name.
const NOT_PUBLIC_V6: [([u16; 8], u8, &str); 15] = [
    ([0, 0, 0, 0, 0, 0, 0, 0], 128, "unspecified"),
    ([0, 0, 0, 0, 0, 0, 0, 1], 128, "loopback"),
    ([0, 0, 0, 0, 0, 0, 0, 0], 96, "IPv4-compatible"),
    ([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48, "local NAT64"),
    ([0x100, 0, 0, 0, 0, 0, 0, 0], 64, "discard-only"),
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 32, "Teredo"),
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, "protocol assignments"),
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, "documentation"),
    ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16, "6to4"),
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, "documentation"),
    ([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16, "segment routing"),
    ([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, "unique local"),
    ([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, "link-local"),
    ([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10, "site-local"),
    ([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, "multicast"),
];

/// Ranges that belong to whoever runs the machine: allowing one of them allows plain http in it.
const OURS: [([u16; 8], u8); 9] = [
    mapped(10, 0, 8),
    mapped(100, 64, 10),
    mapped(127, 0, 8),
    mapped(169, 254, 16),
    mapped(172, 16, 12),
    mapped(192, 168, 16),
    ([0, 0, 0, 0, 0, 0, 0, 1], 128),
    ([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7),
    ([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10),
];

/// An IPv4 range as IPv6 writes it.
const fn mapped(first: u8, second: u8, length: u8) -> ([u16; 8], u8) {
    ([0, 0, 0, 0, 0, 0xffff, u16::from_be_bytes([first, second]), 0], 96 + length)
}

/// Why this address is not public; `None` if it is. Addresses that carry an IPv4 address to which
/// the network would translate them (v4-mapped, NAT64) are judged by that one.
pub(super) fn why_not_public(address: IpAddr) -> Option<&'static str> {
    match address.to_canonical() {
        IpAddr::V4(v4) => why_not_public_v4(v4),
        IpAddr::V6(v6) => match v6.segments() {
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
                let [a, b] = high.to_be_bytes();
                let [c, d] = low.to_be_bytes();
                why_not_public_v4(Ipv4Addr::new(a, b, c, d))
            }
            _ => why_not_public_v6(v6),
        },
    }
}

fn why_not_public_v4(address: Ipv4Addr) -> Option<&'static str> {
    NOT_PUBLIC_V4.into_iter().find_map(|(net, length, why)| {
        let net = u32::from(Ipv4Addr::from(net));
        ((u32::from(address) ^ net) >> (32 - length) == 0).then_some(why)
    })
}

fn why_not_public_v6(address: Ipv6Addr) -> Option<&'static str> {
    let listed = NOT_PUBLIC_V6
        .into_iter()
        .find_map(|(net, length, why)| covers(net, length, address).then_some(why));
    listed.or((address.segments()[0] >> 13 != 1).then_some("not global unicast"))
}

fn covers(net: [u16; 8], length: u8, address: Ipv6Addr) -> bool {
    (u128::from(address) ^ u128::from(Ipv6Addr::from(net))) >> (128 - length) == 0
}

/// Whether the whole of `net` is loopback or private range.
pub(super) fn is_ours(net: &IpNet) -> bool {
    let (address, length) = match net {
        IpNet::V4(v4) => (v4.network().to_ipv6_mapped(), v4.prefix_len() + 96),
        IpNet::V6(v6) => (v6.network(), v6.prefix_len()),
    };
    OURS.into_iter()
        .any(|(ours, ours_length)| length >= ours_length && covers(ours, ours_length, address))
}
