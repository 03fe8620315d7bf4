//! Where observations come from: one upstream API behind a seam.

pub mod feishu;

use std::time::Duration;

use async_trait::async_trait;

use crate::outcome::Outcome;

/// One account's upstream, for one kind of task. Every call of [`Source::observe`] is exactly one
/// request against the quota: nothing here retries behind the lane's back.
#[async_trait]
pub trait Source: Send + Sync {
    /// Gets ready to poll (fetches a token when there is none). Costs no poll.
    async fn prepare(&self) -> Result<(), PollError>;

    /// Polls one task once.
    async fn observe(&self, website_id: &str, delivery_task_id: &str) -> Result<Polled, PollError>;
}

/// The result of one poll that got an answer about the task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Polled {
    /// What it said.
    pub observation: Observation,
    /// Feishu's support id of the exchange.
    pub log_id: Option<String>,
}

/// What one poll said about a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// Not yet. `unknown_status` holds a status nobody has documented.
    Pending {
        /// The undocumented status, if it was one.
        unknown_status: Option<i64>,
    },
    /// Feishu knows no such task; conclusive only when it lasts.
    NotFound,
    /// It ended.
    Settled(Outcome),
}

/// Why one poll said nothing about its task.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PollError {
    /// The account cannot poll until a person acts. Never a task's outcome.
    #[error("{0}")]
    Account(AccountProblem),
    /// The quota is spent, by us or by a stranger with the same credentials.
    #[error("Feishu says the quota is spent")]
    Quota {
        /// How long to wait (`x-ogw-ratelimit-reset`).
        reset: Option<Duration>,
    },
    /// The token was refused; it has been dropped. Prepare, then poll again.
    #[error("Feishu refused the access token")]
    Token,
    /// The moment's: edge, network, upstream.
    #[error("{detail}")]
    Transient {
        /// The stable word for it, for metrics.
        class: TransientClass,
        /// What happened, for people.
        detail: String,
    },
}

/// The stable words for what goes wrong for a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TransientClass {
    /// No connection, or it broke.
    Network,
    /// No reply within the deadline.
    Timeout,
    /// The upstream said it failed (5xx, 1002001).
    /// The upstream said that it failed.
    Upstream,
    /// The same, with this code.
    Code(i64),
    /// A reply that is not Feishu's (HTML of an edge, broken JSON).
    Unreadable,
}

impl TransientClass {
    /// The name used in logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Timeout => "timeout",
            Self::Upstream | Self::Code(_) => "upstream",
            Self::Unreadable => "unreadable",
        }
    }
}

/// Why an account cannot poll, and what a person should do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct AccountProblem {
    /// A stable word, e.g. `bad_credentials`, `missing_scope`, `wrong_base_url`.
    pub reason: &'static str,
    /// What to do, with Feishu's own console link where it gave one.
    pub message: String,
}
