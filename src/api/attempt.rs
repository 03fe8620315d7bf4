//! An attempt, as clients see it.

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
}

impl From<Attempt> for AttemptView {
    fn from(attempt: Attempt) -> Self {
        Self {
            number: attempt.number,
            at: attempt.at,
            duration_ms: u64::try_from(attempt.duration.as_millis()).unwrap_or(u64::MAX),
            status: attempt.status,
            error: attempt.error,
            reply_excerpt: attempt.reply_excerpt,
            verdict: attempt.verdict,
        }
    }
}
