//! What went wrong, from the chain of errors the HTTP client gives.

use std::error::Error;
use std::io;

use super::resolve::Unresolved;
use super::{Broken, Class, excerpt};

/// Of what went wrong, in words: enough for two names of hosts.
const DETAIL_CHARS_MAX: usize = 256;

/// Names what broke. The detail is the innermost cause, which holds no URL.
pub(super) fn classify(error: &reqwest::Error) -> Broken {
    let chain: Vec<&(dyn Error + 'static)> = chain(error);
    let class = chain.iter().rev().find_map(|cause| class_of(*cause)).unwrap_or_else(|| {
        if error.is_dns() {
            Class::Dns
        } else if error.is_connect() {
            Class::Connect
        } else if error.is_timeout() {
            Class::Timeout
        } else if error.is_builder() {
            Class::Internal
        } else {
            Class::BadReply
        }
    });
    // While connecting, a reset or an early end means that there was no connection to begin with.
    let class = if class == Class::Reset && error.is_connect() { Class::Connect } else { class };
    let detail = match chain.last() {
        Some(cause) if chain.len() > 1 => cause.to_string(),
        // The client's own words would carry the URL.
        _ => "the HTTP client gave up".to_owned(),
    };
    Broken { class, detail: bounded(&detail) }
}

/// A certificate or a reply may have put as much into the text as it liked, and anything.
fn bounded(detail: &str) -> String {
    let mut shown: String = detail.chars().take(DETAIL_CHARS_MAX).collect();
    if shown.len() < detail.len() {
        shown.push('…');
    }
    excerpt(shown.as_bytes()).unwrap_or_default()
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> Vec<&'a (dyn Error + 'static)> {
    let mut chain = vec![error];
    let mut next = inner(error);
    while let Some(cause) = next {
        chain.push(cause);
        next = inner(cause);
    }
    chain
}

/// The cause, also where `io::Error` hides it from `source`.
fn inner<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(hidden) => Some(hidden),
        None => error.source(),
    }
}

fn class_of(cause: &(dyn Error + 'static)) -> Option<Class> {
    if let Some(unresolved) = cause.downcast_ref::<Unresolved>() {
        return Some(match unresolved {
            Unresolved::Refused(_) | Unresolved::Forbidden => Class::RefusedAddress,
            Unresolved::Lookup(_) => Class::Dns,
        });
    }
    if cause.is::<rustls::Error>() {
        return Some(Class::Tls);
    }
    if let Some(hyper) = cause.downcast_ref::<hyper::Error>() {
        if hyper.is_parse() || hyper.is_parse_too_large() || hyper.is_parse_status() {
            return Some(Class::BadReply);
        }
        let broke = hyper.is_incomplete_message() || hyper.is_closed() || hyper.is_canceled();
        return broke.then_some(Class::Reset);
    }
    let kind = cause.downcast_ref::<io::Error>()?.kind();
    match kind {
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => Some(Class::Reset),
        io::ErrorKind::TimedOut => Some(Class::Timeout),
        io::ErrorKind::ConnectionRefused
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable => Some(Class::Connect),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_certificate_says_is_cut_and_drives_no_terminal() {
        let names = "DnsName(\"\u{1b}[31mevil\"), ".repeat(500);
        let shown = bounded(&format!("certificate only valid for {names}"));
        assert!(shown.starts_with("certificate only valid for DnsName"), "{shown}");
        assert!(shown.len() <= 1024 && shown.chars().all(|c| !c.is_control()), "{shown}");
        assert_eq!(bounded("connection refused"), "connection refused");
    }
}
