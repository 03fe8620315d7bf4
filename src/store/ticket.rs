//! A store app's `app_ticket`.

use crate::clock::Timestamp;
use crate::config::secret::Secret;

/// The newest ticket that Feishu pushed for a store app. A secret: it is read where a token is
/// fetched, and never shown, logged or listed.
#[derive(Clone, Debug, PartialEq)]
pub struct AppTicket {
    /// Whose.
    pub app_id: String,
    /// The ticket.
    pub ticket: Secret,
    /// When Feishu made it: an older one never takes its place.
    pub at: Timestamp,
}
