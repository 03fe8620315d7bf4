//! An attempt, as clients see it.

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::store::Attempt;

/// One attempt to tell a callback.
#[derive(Serialize, ToSchema)]
#[schema(as = Attempt)]
pub struct AttemptView {
    /// 1 for the first.
    number: u32,
    /// When it started.
    at: Timestamp,
    /// How long it took.
    duration_ms: u64,
    /// The HTTP status, if there was a reply.
    status: Option<u16>,
    /// What went wrong, if anything did.
    error: Option<String>,
    /// The beginning of the reply's body, control characters escaped.
    reply_excerpt: Option<String>,
    /// What was concluded: `delivered`, `retry`, `gave_up`, `gone`, …
    verdict: String,
    /// How long it took to get a new connection (name, TCP, TLS); null where one was open.
    connect_ms: Option<u64>,
    /// How long after its start the reply's head was there.
    first_byte_ms: Option<u64>,
    /// The stable word for what went wrong: `dns`, `connect`, `tls`, `timeout`, `reset`,
    /// `refused_address`, `bad_reply`, `internal`, or `status`.
    error_class: Option<String>,
    /// The stable word for why: `accepted`, `schedule`, `retry_after`, `schedule_used_up`, `gone`.
    reason: Option<String>,
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl From<Attempt> for AttemptView {
    fn from(attempt: Attempt) -> Self {
        Self {
            number: attempt.number,
            at: attempt.at,
            duration_ms: whole_ms(attempt.duration),
            status: attempt.status,
            error: attempt.error,
            reply_excerpt: attempt.reply_excerpt,
            verdict: attempt.verdict,
            connect_ms: attempt.details.connect.map(whole_ms),
            first_byte_ms: attempt.details.first_byte.map(whole_ms),
            error_class: attempt.details.error_class,
            reason: attempt.details.reason,
        }
    }
}
