//! What a person is told about one incident.

use crate::clock::Timestamp;

/// One client's news of one incident: the event to send, and whether it has been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Who is told, at its `alert_url`.
    pub client: String,
    /// What it is about: `account NAME`, `origin URL` or `callback URL`. One notice each.
    pub subject: String,
    /// Whether the incident lasts.
    pub raised: bool,
    /// When the incident began.
    pub since: Timestamp,
    /// When this event was decided.
    pub at: Timestamp,
    /// The event's `webhook-id`.
    pub id: String,
    /// The event's bytes.
    pub body: Vec<u8>,
    /// Attempts to send it so far.
    pub attempts: u32,
    /// When the next one is due; `None` once it is told, or given up.
    pub next_attempt_at: Option<Timestamp>,
}

impl Notice {
    /// Nothing is left to remember: the incident is over, and so is telling of it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        !self.raised && self.next_attempt_at.is_none()
    }
}
