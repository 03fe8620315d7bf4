//! Sending many again: a filter, worked off in small steps.

use std::result::Result;

use super::Destination;
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
    /// Where the registrations go that it made due again, each destination once, in order.
    pub destinations: Vec<Destination>,
    /// Whether it is worked off.
    pub finished: bool,
}

/// Registrations are counted up to this at the start of a bulk redelivery.
pub const MATCHED_MAX: u64 = 1_000_000;
/// Registrations that one step looks at, whether they fit or not: a few milliseconds.
pub const STEP_LOOKED_AT_MAX: u32 = 2_000;
/// Registrations looked at in one read while they are counted.
pub(super) const COUNT_PAGE: u32 = 10_000;

/// A place in the order of (end, id), in which registrations are looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) at: Timestamp,
    pub(super) id: String,
}

impl Place {
    /// Before the first that may fit.
    pub(super) fn before(filter: &RedeliveryFilter) -> Self {
        Self { at: filter.since, id: String::new() }
    }
}

/// A registration as it is looked at.
pub(super) struct Candidate {
    pub(super) place: Place,
    pub(super) client: String,
    pub(super) host: String,
    pub(super) state: State,
}

/// What was found on a page.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Those that fit.
    pub(super) ids: Vec<String>,
    /// The last one looked at.
    pub(super) last: Option<Place>,
    /// Whether there are no more.
    pub(super) all: bool,
}

/// The condition of the index that registrations in this state are in, by their end. It holds more
/// than them, so that a page of it is looked at as it is and costs what it holds.
pub(super) fn ended(state: State) -> &'static str {
    match state {
        State::Undeliverable => "state = 'undeliverable'",
        _ => "state IN ('delivered', 'cancelled')",
    }
}

/// Takes the first `limit` that fit of a page of at most `page_max`.
pub(super) fn find<E>(
    page: impl Iterator<Item = Result<Candidate, E>>,
    filter: &RedeliveryFilter,
    page_max: u32,
    limit: u32,
) -> Result<Found, E> {
    let mut found = Found { ids: Vec::new(), last: None, all: false };
    let mut looked_at = 0;
    for candidate in page {
        let Candidate { place, client, host, state } = candidate?;
        looked_at += 1;
        if state == filter.state && filter.fits(&client, &host, place.at) {
            found.ids.push(place.id.clone());
        }
        found.last = Some(place);
        if found.ids.len() >= usize::try_from(limit).unwrap_or(usize::MAX) {
            return Ok(found);
        }
    }
    found.all = looked_at < page_max;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_at_its_last_row_or_at_the_last_that_is_taken() {
        let filter = RedeliveryFilter {
            client: Some("ats".into()),
            state: State::Delivered,
            since: Timestamp(0),
            until: Timestamp(99),
            callback_host: None,
        };
        let page = || {
            [("1", "ats"), ("2", "crm"), ("3", "ats"), ("4", "crm")].map(|(id, client)| {
                let place = Place { at: Timestamp(5), id: id.into() };
                let (client, host) = (client.into(), "h".into());
                Ok::<_, ()>(Candidate { place, client, host, state: State::Delivered })
            })
        };
        let find = |page_max, limit| find(page().into_iter(), &filter, page_max, limit).unwrap();
        let is = |found: Found, ids: &[&str], last: &str, all| {
            assert_eq!((found.ids, found.all), (ids.iter().map(|s| (*s).into()).collect(), all));
            assert_eq!(found.last.unwrap().id, last);
        };
        is(find(9, 9), &["1", "3"], "4", true);
        is(find(4, 9), &["1", "3"], "4", false);
        is(find(9, 2), &["1", "3"], "3", false);
        is(find(9, 1), &["1"], "1", false);
    }
}
