//! One attempt over the wire: what goes out, and what came back.

mod classify;
pub mod http;
mod pool;
pub mod resolve;
mod timing;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use url::Url;

use super::retry::Heard;
use super::sign::Headers;
use crate::config::{CaFile, CallbackAllow, Client, Delivery, TlsIdentity};
use crate::store::AttemptDetails;

/// How much of a reply's body is kept for the attempt log, in bytes.
pub const EXCERPT_BYTES_MAX: usize = 1024;

/// Carries parcels to receivers. A seam, so that the loop can be simulated.
#[async_trait]
pub trait Courier: Send + Sync {
    /// Makes one attempt; over at the parcel's deadline at the latest.
    async fn send(&self, parcel: Parcel) -> Reply;
}

/// Everything one attempt needs, signed already.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// Whose: its names wait for a resolver among themselves.
    pub client: String,
    /// Where to.
    pub url: Url,
    /// What the client may call beyond public https.
    pub allow: Vec<CallbackAllow>,
    /// Whom we trust, and who we are.
    pub tls: Tls,
    /// The signature.
    pub headers: Headers,
    /// The body.
    pub body: Bytes,
    /// How long everything together may take: name, connection, request, reply and its body.
    pub timeout: Duration,
}

/// Whom we trust besides the system's authorities, and who we are to a receiver that asks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tls {
    /// More authorities.
    pub extra_ca: Vec<CaFile>,
    /// The client certificate (mTLS).
    pub identity: Option<TlsIdentity>,
}

impl Tls {
    /// As configured for this client.
    #[must_use]
    pub fn of(client: &Client, delivery: &Delivery) -> Self {
        let extra_ca = delivery.extra_ca_files.clone();
        Self { extra_ca, identity: client.tls_identity.clone() }
    }
}

/// What came back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status, if there was one.
    pub status: Option<u16>,
    /// What broke: no reply, or one that did not arrive whole.
    pub broken: Option<Broken>,
    /// The `Retry-After` header as sent.
    pub retry_after: Option<String>,
    /// The beginning of the body, control characters escaped.
    pub excerpt: Option<String>,
    /// How long it took to get a new connection: name, TCP and TLS. `None` where one was open.
    pub connect: Option<Duration>,
    /// How long after the start the reply's head was there.
    pub first_byte: Option<Duration>,
}

impl Reply {
    /// Nothing came back.
    #[must_use]
    pub fn broken(class: Class, detail: impl Into<String>) -> Self {
        let broken = Some(Broken { class, detail: detail.into() });
        Self { broken, ..Self::default() }
    }

    /// As the schedule wants to hear it, `broken` being [`Broken`] as text.
    #[must_use]
    pub fn heard<'a>(&'a self, broken: Option<&'a str>) -> Heard<'a> {
        Heard { status: self.status, retry_after: self.retry_after.as_deref(), broken }
    }
}

/// What the attempt log keeps of a reply besides its status, `reason` being the verdict's.
pub(super) fn details(reply: &Reply, reason: &str) -> AttemptDetails {
    let error_class = match (&reply.broken, reply.status) {
        (Some(broken), _) => Some(broken.class.name()),
        (None, Some(200..=299)) => None,
        (None, _) => Some("status"),
    };
    AttemptDetails {
        connect: reply.connect,
        first_byte: reply.first_byte,
        error_class: error_class.map(str::to_owned),
        reason: Some(reason.to_owned()),
    }
}

/// What broke an attempt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", class.name())]
pub struct Broken {
    /// The stable word for it.
    pub class: Class,
    /// What happened, for people. Never the URL, whose query may be secret.
    pub detail: String,
}

/// The stable words for what breaks an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// The name has no address, or nobody could say in time.
    Dns,
    /// No connection.
    Connect,
    /// No TLS session: certificate, protocol.
    Tls,
    /// Not over within the deadline.
    Timeout,
    /// The connection broke.
    Reset,
    /// The guard forbids the URL or an address behind it.
    RefusedAddress,
    /// What came back is not HTTP as we speak it.
    BadReply,
    /// Our own fault.
    Internal,
}

impl Class {
    /// The word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::RefusedAddress => "refused_address",
            Self::BadReply => "bad_reply",
            Self::Internal => "internal",
        }
    }
}

/// The beginning of a body as text that is safe to show: at most [`EXCERPT_BYTES_MAX`] bytes, what
/// is not UTF-8 replaced, control characters escaped. `None` for an empty one.
#[must_use]
pub fn excerpt(body: &[u8]) -> Option<String> {
    let mut text = String::new();
    for character in String::from_utf8_lossy(&body[..body.len().min(EXCERPT_BYTES_MAX)]).chars() {
        let escaped = character.escape_default();
        let shown = if is_unsafe(character) { escaped.len() } else { character.len_utf8() };
        if text.len() + shown > EXCERPT_BYTES_MAX {
            break;
        }
        if is_unsafe(character) { text.extend(escaped) } else { text.push(character) }
    }
    (!text.is_empty()).then_some(text)
}

/// Control characters could drive a terminal; the bidirectional ones could make a log line lie.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_excerpt_is_readable_and_harmless() {
        assert_eq!(excerpt(b""), None);
        assert_eq!(excerpt(b"ok"), Some("ok".into()));
        assert_eq!(excerpt("简历 ok".as_bytes()), Some("简历 ok".into()));
        assert_eq!(excerpt(b"a\r\nb\x1b[31m\0"), Some(r"a\r\nb\u{1b}[31m\u{0}".into()));
        assert_eq!(excerpt("a\u{202e}b".as_bytes()), Some(r"a\u{202e}b".into()));
        assert_eq!(excerpt(b"\xff"), Some("\u{fffd}".into()));
    }

    #[test]
    fn an_excerpt_never_exceeds_a_kibibyte() {
        assert_eq!(excerpt(&[b'a'; 5_000]).unwrap().len(), 1024);
        assert_eq!(excerpt(&[b'a'; 1_024]).unwrap().len(), 1024);
        assert!(excerpt(&[0; 5_000]).unwrap().len() <= 1024);
        assert!(excerpt(&[0xff; 5_000]).unwrap().len() <= 1024);
    }

    proptest! {
        #[test]
        fn no_body_breaks_an_excerpt(body in prop::collection::vec(any::<u8>(), 0..3_000)) {
            let excerpt = excerpt(&body).unwrap_or_default();
            prop_assert!(excerpt.len() <= EXCERPT_BYTES_MAX);
            prop_assert!(!excerpt.chars().any(char::is_control));
        }
    }
}
