//! Sending many again: a filter, worked off in small steps.

use crate::clock::Timestamp;
use crate::task::State;

/// A bulk redelivery to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRedelivery {
    /// `rdl_…`, chosen by the caller.
    pub id: String,
    /// The client that asks for it.
    pub owner: String,
    /// Which registrations.
    pub filter: RedeliveryFilter,
    /// Now. What finishes later is not meant.
    pub created_at: Timestamp,
}

/// Which registrations to send again. All of it is fixed at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedeliveryFilter {
    /// Only this client's.
    pub client: Option<String>,
    /// In this state: `undeliverable` or `delivered`.
    pub state: State,
    /// Finished at or after this.
    pub since: Timestamp,
    /// Finished before this.
    pub until: Timestamp,
    /// Only to this callback host.
    pub callback_host: Option<String>,
}

impl RedeliveryFilter {
    /// Whether a registration fits that is in the filter's state.
    #[must_use]
    pub fn fits(&self, client: &str, callback_host: &str, finished_at: Timestamp) -> bool {
        self.client.as_ref().is_none_or(|wanted| wanted == client)
            && self.callback_host.as_ref().is_none_or(|wanted| wanted == callback_host)
            && (self.since..self.until).contains(&finished_at)
    }
}

/// A bulk redelivery and how far it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redelivery {
    /// `rdl_…`
    pub id: String,
    /// The client that asked for it.
    pub owner: String,
    /// Which registrations.
    pub filter: RedeliveryFilter,
    /// Where it stands.
    pub state: RedeliveryState,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it was worked off or cancelled.
    pub finished_at: Option<Timestamp>,
    /// How many registrations fitted at the start.
    pub matched: u64,
    /// How many of them were made due again. At the end fewer than `matched`, if some were
    /// redelivered one by one, or forgotten, meanwhile.
    pub done: u64,
}

/// Where a bulk redelivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedeliveryState {
    /// Being worked off.
    Running,
    /// Every registration that fitted is due again.
    Finished,
    /// Called off; what was made due already stays due.
    Cancelled,
}

impl RedeliveryState {
    /// The name used in the API and the store.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Running, Self::Finished, Self::Cancelled].into_iter().find(|it| it.name() == name)
    }
}

/// What one step of a bulk redelivery did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedeliveryStep {
    /// Which redelivery.
    pub id: String,
    /// Whose it is.
    pub owner: String,
    /// The origins of the registrations that it made due again, each once, in order.
    pub origins: Vec<String>,
    /// Whether it is worked off.
    pub finished: bool,
}
