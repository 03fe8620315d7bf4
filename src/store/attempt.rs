//! One entry of the attempt log.

use std::time::Duration;

use crate::clock::Timestamp;

/// Attempts of one registration that are read: its schedule has a dozen, so these are those of many
/// redeliveries.
pub const ATTEMPTS_MAX: u32 = 1_000;

/// One attempt to tell a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// 1 for the first.
    pub number: u32,
    /// When it started.
    pub at: Timestamp,
    /// How long it took.
    pub duration: Duration,
    /// The HTTP status, if there was a reply.
    pub status: Option<u16>,
    /// What went wrong, if anything did.
    pub error: Option<String>,
    /// The beginning of the reply's body, control characters escaped.
    pub reply_excerpt: Option<String>,
    /// What was concluded: `delivered`, `retry`, `gave_up`, `gone`, …
    pub verdict: String,
    /// The rest of what is known of it.
    pub details: AttemptDetails,
}

/// What else is known of an attempt; all absent for one made by an older version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttemptDetails {
    /// How long it took to get a new connection (name, TCP, TLS); `None` where one was open.
    pub connect: Option<Duration>,
    /// How long after its start the reply's head was there.
    pub first_byte: Option<Duration>,
    /// The stable word for what went wrong: `dns`, `timeout`, …, `status`.
    pub error_class: Option<String>,
    /// The stable word for why the verdict is what it is: `accepted`, `schedule`, …
    pub reason: Option<String>,
}
