//! One entry of `callback_allow`: a range, a host, or an http origin.

use std::net::IpAddr;

use ipnet::IpNet;
use url::{Host, Url};

use super::model::CallbackAllow;
use super::reader::Bad;

/// Understands one entry.
pub(super) fn parse(text: &str) -> Result<CallbackAllow, Bad> {
    if let Ok(range) = text.parse::<IpNet>() {
        return Ok(CallbackAllow::Cidr(range.trunc()));
    }
    if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(CallbackAllow::Cidr(IpNet::from(address)));
    }
    if text.contains("://") {
        return origin(text);
    }
    if text.contains('/') {
        return Err(Bad::new("is not a range of addresses").help("write one such as 10.0.0.0/8"));
    }
    host(text)
}

fn origin(text: &str) -> Result<CallbackAllow, Bad> {
    let bad = |message: &str| Err(Bad::new(message).help("write http://host or http://host:port"));
    let Ok(url) = Url::parse(text) else {
        return bad("is not an origin");
    };
    match url.scheme() {
        "http" => {}
        "https" => {
            let host = url.host_str().unwrap_or("host");
            return Err(Bad::new("needs no scheme for https").help(format!("write \"{host}\"")));
        }
        _ => return bad("must be an http origin"),
    }
    let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if !is_bare || !url.username().is_empty() || url.password().is_some() {
        return bad("must be an origin: scheme, host and port only");
    }
    Ok(CallbackAllow::Origin(url))
}

fn host(text: &str) -> Result<CallbackAllow, Bad> {
    let help = "write a host such as hooks.internal, a range such as 10.0.0.0/8, or http://host";
    if text.contains('*') {
        return Err(Bad::new("must not hold `*`").help("name every host, or give a range"));
    }
    if text.contains(':') {
        return Err(Bad::new("must not hold a port").help(help));
    }
    // Parsed as URLs are, so that it compares with a callback's host: lower case, punycode.
    match Host::parse(text) {
        Ok(Host::Domain(name)) if !name.is_empty() => Ok(CallbackAllow::Host(name)),
        _ => Err(Bad::new("is not a host, a range or an origin").help(help)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hosts_and_http_origins_are_told_apart() {
        let cidr = |text: &str| CallbackAllow::Cidr(text.parse().unwrap());
        assert_eq!(parse("127.0.0.0/8"), Ok(cidr("127.0.0.0/8")));
        assert_eq!(parse("10.1.2.3/8"), Ok(cidr("10.0.0.0/8")));
        assert_eq!(parse("192.0.2.7"), Ok(cidr("192.0.2.7/32")));
        assert_eq!(parse("fd00::/8"), Ok(cidr("fd00::/8")));
        assert_eq!(parse("Hooks.Internal"), Ok(CallbackAllow::Host("hooks.internal".into())));
        let origin = Url::parse("http://127.0.0.1").unwrap();
        assert_eq!(parse("http://127.0.0.1"), Ok(CallbackAllow::Origin(origin)));
        for bad in [
            "",
            "*",
            "*.internal",
            "10.0.0.0/99",
            "hooks/x",
            "https://a.b",
            "http://a/b",
            "http://u:p@a",
            "ftp://a",
            "a:80",
            "a b",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
