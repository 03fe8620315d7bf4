//! May we call this URL, and this address? A registration must not turn the daemon into somebody's
//! hand inside the network it runs in (SSRF).
//!
//! The rule is: public https only. What lifts it is the client's `callback_allow`:
//!
//! | entry | lifts |
//! |---|---|
//! | a CIDR | the address rule for addresses in it |
//! | a CIDR wholly inside a loopback or private range | and the https rule: for literals in it, and for names *all* of whose addresses are in it |
//! | a host | the address rule for that host, whatever it resolves to |
//! | an `http://` origin | the https rule for it, and nothing else |
//!
//! So `http://127.0.0.1` alone does not open loopback, since that is the address rule's business;
//! `127.0.0.0/8` does, for http as well. An origin without a port is that of port 80, as everywhere.
//! Nothing lifts the rule that the daemon does
//! not call itself.
//!
//! Hosts are judged as the `url` crate canonicalised them, so `0x7f.1`, `2130706433` and full-width
//! digits are 127.0.0.1 here as they would be on the wire. A deny list of names alone would be
//! worthless: [`judge_addresses`] is asked again for every connection, with what is about to be
//! dialled.

mod ranges;

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use url::{Host, Url};

use crate::config::CallbackAllow;

/// The longest callback URL, in bytes (the contract's 2 KiB).
pub const URL_BYTES_MAX: usize = 2048;

/// Why a callback is not called, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Over [`URL_BYTES_MAX`].
    #[error("the URL is longer than {URL_BYTES_MAX} bytes: shorten it")]
    TooLong,
    /// Neither https nor http.
    #[error("the scheme `{0}` is not supported: use https")]
    Scheme(String),
    /// `user:password@`
    #[error("the URL carries a user or password: remove it, callbacks are signed instead")]
    Userinfo,
    /// `#…`
    #[error("the URL has a fragment, which is never sent: remove it")]
    Fragment,
    /// No host, or one with empty labels or a trailing dot.
    #[error("the host is not a plain name or address: write it without a trailing dot")]
    Host,
    /// `:0`
    #[error("port 0 cannot be called: name the receiver's port")]
    PortZero,
    /// Plain http without leave.
    #[error("plain http is refused: use https, or add `{0}` to the client's callback_allow")]
    Http(String),
    /// A name that always means this machine.
    #[error(
        "`{0}` is this machine: use a public host, or add 127.0.0.0/8 to the client's callback_allow"
    )]
    Localhost(String),
    /// An address that is not public.
    #[error(
        "{address} is not a public address ({why}): use a public one, or add a range that holds it \
         to the client's callback_allow"
    )]
    Address {
        /// Which.
        address: IpAddr,
        /// What it is instead.
        why: &'static str,
    },
    /// Our own listener.
    #[error("{0} is this daemon itself: register the receiver's own address")]
    OwnListener(SocketAddr),
    /// The name has no address at all.
    #[error("the host has no address: check its DNS records")]
    NoAddress,
}

/// Judges a URL by what is written in it. Call it when a callback is registered and before every
/// attempt, since the configuration may have changed in between.
pub fn judge_url(url: &Url, allow: &[CallbackAllow]) -> Result<(), Refusal> {
    if url.as_str().len() > URL_BYTES_MAX {
        return Err(Refusal::TooLong);
    }
    if !matches!(url.scheme(), "https" | "http") {
        return Err(Refusal::Scheme(url.scheme().to_owned()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Refusal::Userinfo);
    }
    if url.fragment().is_some() {
        return Err(Refusal::Fragment);
    }
    if url.port() == Some(0) {
        return Err(Refusal::PortZero);
    }
    match url.host() {
        Some(Host::Ipv4(address)) => judge_literal(url, address.into(), allow),
        Some(Host::Ipv6(address)) => judge_literal(url, address.into(), allow),
        Some(Host::Domain(name)) => judge_name(url, name, allow),
        None => Err(Refusal::Host),
    }
}

fn judge_literal(url: &Url, address: IpAddr, allow: &[CallbackAllow]) -> Result<(), Refusal> {
    judge_addresses(url, &[address], allow, &[]).map(drop)
}

fn judge_name(url: &Url, name: &str, allow: &[CallbackAllow]) -> Result<(), Refusal> {
    if name.split('.').any(str::is_empty) {
        return Err(Refusal::Host);
    }
    let loopback_allowed = || nets(allow).any(|net| is_loopback(net.network()));
    if is_localhost(name) && !host_allowed(url, allow) && !loopback_allowed() {
        return Err(Refusal::Localhost(name.to_owned()));
    }
    // With a private range allowed, only the addresses can tell whether plain http is.
    if url.scheme() == "https" || http_allowed(url, allow) || nets(allow).any(ranges::is_ours) {
        return Ok(());
    }
    Err(Refusal::Http(url.origin().ascii_serialization()))
}

/// Judges every address that `url`'s host resolved to, and returns those that may be dialled. One
/// bad address refuses the whole name: a name that mixes public and private ones is an attack, or
/// a mistake that would fail every other time.
///
/// `own_listeners` are the addresses this daemon itself listens on; one with an unspecified
/// address stands for every loopback address.
pub fn judge_addresses(
    url: &Url,
    addresses: &[IpAddr],
    allow: &[CallbackAllow],
    own_listeners: &[SocketAddr],
) -> Result<Vec<IpAddr>, Refusal> {
    let localhost = url.host_str().is_some_and(is_localhost);
    let mut vetted = Vec::with_capacity(addresses.len());
    for address in addresses.iter().map(IpAddr::to_canonical) {
        if localhost && is_loopback(address) && !address_allowed(url, address, allow) {
            // A name for both ::1 and 127.0.0.1: whoever allows one of them means that one.
            continue;
        }
        judge_address(url, address, allow)?;
        let port = url.port_or_known_default().unwrap_or_default();
        if own_listeners.iter().any(|own| own.port() == port && is_own(own.ip(), address)) {
            return Err(Refusal::OwnListener(SocketAddr::new(address, port)));
        }
        vetted.push(address);
    }
    match (vetted.is_empty(), addresses.first()) {
        (false, _) => Ok(vetted),
        (true, Some(_)) => Err(Refusal::Localhost(url.host_str().unwrap_or_default().to_owned())),
        (true, None) => Err(Refusal::NoAddress),
    }
}

fn judge_address(url: &Url, address: IpAddr, allow: &[CallbackAllow]) -> Result<(), Refusal> {
    if let Some(why) = ranges::why_not_public(address)
        && !address_allowed(url, address, allow)
    {
        return Err(Refusal::Address { address, why });
    }
    let in_our_range = || nets(allow).any(|net| ranges::is_ours(net) && net.contains(&address));
    if url.scheme() == "https" || http_allowed(url, allow) || in_our_range() {
        return Ok(());
    }
    Err(Refusal::Http(url.origin().ascii_serialization()))
}

fn nets(allow: &[CallbackAllow]) -> impl Iterator<Item = &IpNet> {
    allow.iter().filter_map(|entry| match entry {
        CallbackAllow::Cidr(net) => Some(net),
        CallbackAllow::Host(_) | CallbackAllow::Origin(_) => None,
    })
}

fn host_allowed(url: &Url, allow: &[CallbackAllow]) -> bool {
    let host = url.host_str().unwrap_or_default();
    allow.iter().any(|entry| match entry {
        CallbackAllow::Host(allowed) => allowed.eq_ignore_ascii_case(host),
        CallbackAllow::Cidr(_) | CallbackAllow::Origin(_) => false,
    })
}

fn address_allowed(url: &Url, address: IpAddr, allow: &[CallbackAllow]) -> bool {
    host_allowed(url, allow) || nets(allow).any(|net| net.contains(&address))
}

fn http_allowed(url: &Url, allow: &[CallbackAllow]) -> bool {
    allow.iter().any(|entry| match entry {
        CallbackAllow::Origin(origin) => {
            origin.scheme() == url.scheme()
                && origin.host() == url.host()
                && origin.port_or_known_default() == url.port_or_known_default()
        }
        CallbackAllow::Cidr(_) | CallbackAllow::Host(_) => false,
    })
}

/// RFC 6761, 6.3: such names never leave the machine.
fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Whether dialling `address` reaches a listener on `own`, the ports being equal.
fn is_own(own: IpAddr, address: IpAddr) -> bool {
    // An unspecified address is dialled as loopback.
    let here = address.is_loopback() || address.is_unspecified();
    own.to_canonical() == address
        || (own.is_unspecified() && here)
        || (own.is_loopback() && address.is_unspecified())
}
