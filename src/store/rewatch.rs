//! Watching again what ended unresolved: a filter, worked off in small steps.

use async_trait::async_trait;

use super::{NewRegistration, RedeliveryState, Result};
use crate::clock::Timestamp;
use crate::outcome::Reason;

/// Bulk rewatches of one client that run at once: each takes turns, and more only wait.
pub const RUNNING_MAX: u32 = 16;
/// Registrations looked at in one read while they are counted.
pub(super) const COUNT_PAGE: u32 = 10_000;

/// What is asked of the store about bulk rewatches.
#[async_trait]
pub trait Rewatches: Send + Sync {
    /// Stores a bulk rewatch, running, with the number of registrations that fit its filter, counted
    /// a page at a time up to [`MATCHED_MAX`](super::MATCHED_MAX).
    /// `None`: its owner has [`RUNNING_MAX`] running already.
    async fn begin_rewatch(&self, new: NewRewatch) -> Result<Option<Rewatch>>;

    /// One bulk rewatch.
    async fn rewatch(&self, id: &str) -> Result<Option<Rewatch>>;

    /// Ends a bulk rewatch early. One that is over stays as it is. `None`: no such one.
    async fn cancel_rewatch(&self, id: &str, now: Timestamp) -> Result<Option<Rewatch>>;

    /// The next page, of at most `limit` registrations, of the running bulk rewatch whose turn it
    /// is: of the owner that has waited longest, the one that has waited longest. It is the last
    /// one's turn next, whatever becomes of this page. `None`: none is running.
    async fn rewatch_page(&self, limit: u32, now: Timestamp) -> Result<Option<RewatchPage>>;

    /// The page is worked off, and `done` of it are watched again.
    async fn rewatched(&self, page: &RewatchPage, done: u32, now: Timestamp) -> Result<()>;
}

/// A bulk rewatch to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRewatch {
    /// `rwt_…`, chosen by the caller.
    pub id: String,
    /// The client that asks for it.
    pub owner: String,
    /// Which registrations.
    pub filter: RewatchFilter,
    /// Now. What ends later is not meant.
    pub created_at: Timestamp,
}

/// Which unresolved registrations to watch again. All of it is fixed at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RewatchFilter {
    /// Only this client's.
    pub client: Option<String>,
    /// Only on this account.
    pub account: Option<String>,
    /// Only those that ended for this reason.
    pub reason: Option<Reason>,
    /// Unresolved at or after this.
    pub since: Timestamp,
    /// Unresolved before this.
    pub until: Timestamp,
}

impl RewatchFilter {
    /// Before the first that may fit.
    pub(super) fn begin(&self) -> (Timestamp, String) {
        (self.since, String::new())
    }

    /// Whether a registration fits that became unresolved in the filter's time.
    #[must_use]
    pub fn fits(&self, found: &Unresolved) -> bool {
        let registered = &found.registered;
        self.client.as_ref().is_none_or(|client| *client == registered.client)
            && self.account.as_ref().is_none_or(|account| *account == registered.task.account)
            && self.reason.is_none_or(|reason| reason == found.reason)
    }
}

/// A bulk rewatch and how far it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewatch {
    /// `rwt_…`
    pub id: String,
    /// The client that asked for it.
    pub owner: String,
    /// Which registrations.
    pub filter: RewatchFilter,
    /// Where it stands.
    pub state: RedeliveryState,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it was worked off or cancelled.
    pub finished_at: Option<Timestamp>,
    /// How many registrations fitted at the start.
    pub matched: u64,
    /// How many of them are watched again. At the end fewer than `matched`, if the same was
    /// registered again, or forgotten, meanwhile.
    pub done: u64,
}

/// A registration that ended unresolved.
#[derive(Clone, Debug)]
pub struct Unresolved {
    /// As it was registered.
    pub registered: NewRegistration,
    /// When it ended.
    pub at: Timestamp,
    /// Why.
    pub reason: Reason,
}

/// Some registrations that a bulk rewatch comes to next.
#[derive(Clone, Debug)]
pub struct RewatchPage {
    /// Which rewatch.
    pub id: String,
    /// Those that fit its filter.
    pub found: Vec<Unresolved>,
    /// The time and id of the last registration read, whether it fits or not.
    pub last: Option<(Timestamp, String)>,
    /// Whether this is the last page.
    pub finished: bool,
}

/// What was read in the order in which registrations ended.
pub(super) struct Found {
    /// Those that fit.
    pub(super) fitting: Vec<Unresolved>,
    /// The last one read.
    pub(super) last: Option<(Timestamp, String)>,
    /// Whether there are no more.
    pub(super) finished: bool,
}

impl Found {
    /// Of a page of at most `limit`, each with whether it was cancelled.
    pub(super) fn of(read: Vec<(Unresolved, bool)>, filter: &RewatchFilter, limit: u32) -> Self {
        let finished = read.len() < usize::try_from(limit).unwrap_or(usize::MAX);
        let last = read.last().map(|(last, _)| (last.at, last.registered.id.clone()));
        let fits = |(found, cancelled): (Unresolved, bool)| {
            (!cancelled && filter.fits(&found)).then_some(found)
        };
        Self { fitting: read.into_iter().filter_map(fits).collect(), last, finished }
    }
}

impl NewRegistration {
    /// The same registration once more, under another id, with as much time as the first one had.
    #[must_use]
    pub fn again(&self, id: String, now: Timestamp) -> Self {
        let give_up_after = self.give_up_at.since(self.created_at);
        Self { id, created_at: now, give_up_at: now.after(give_up_after), ..self.clone() }
    }
}
