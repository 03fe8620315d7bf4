//! Who is next, and when to leave the store alone.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::time::Duration;

use crate::clock::Steady;
use crate::store::Destination;

/// The first wait after the store failed; each further one doubles it.
const STORE_WAIT: Duration = Duration::from_millis(500);
/// The longest wait after the store failed.
const STORE_WAIT_MAX: Duration = Duration::from_secs(15);

/// Round robin over clients, and within each over its origins, which survives their coming and
/// going.
#[derive(Debug, Default)]
pub(super) struct Turns {
    ready: BTreeMap<String, Ready>,
    last: String,
}

#[derive(Debug, Default)]
struct Ready {
    origins: BTreeSet<String>,
    last: String,
}

impl Turns {
    pub(super) fn enter(&mut self, to: &Destination) {
        self.ready.entry(to.client.clone()).or_default().origins.insert(to.origin.clone());
    }

    pub(super) fn leave(&mut self, to: &Destination) {
        if let Some(ready) = self.ready.get_mut(&to.client) {
            ready.origins.remove(&to.origin);
            if ready.origins.is_empty() {
                self.ready.remove(&to.client);
            }
        }
    }

    /// Whose turn it is, of the clients that `may`.
    pub(super) fn next(&mut self, may: impl Fn(&str) -> bool) -> Option<Destination> {
        let after = self.ready.range::<String, _>((Excluded(&self.last), Unbounded));
        let client = after.chain(self.ready.iter()).map(|(name, _)| name).find(|name| may(name));
        let client = client?.clone();
        let ready = self.ready.get_mut(&client)?;
        let after = ready.origins.range::<String, _>((Excluded(&ready.last), Unbounded)).next();
        let origin = after.or_else(|| ready.origins.first())?.clone();
        ready.last.clone_from(&origin);
        self.last.clone_from(&client);
        Some(Destination { client, origin })
    }
}

/// Leaves a store alone that has just failed.
#[derive(Debug, Default)]
pub(super) struct StoreHold {
    pub(super) until: Option<Steady>,
    pub(super) failures: u32,
    /// Who wants rows meanwhile.
    pub(super) waiting: BTreeSet<Destination>,
}

impl StoreHold {
    pub(super) fn failed(&mut self, now: Steady) {
        let wait = STORE_WAIT.saturating_mul(1 << self.failures.min(8)).min(STORE_WAIT_MAX);
        self.failures += 1;
        self.until = Some(now.after(wait));
    }

    pub(super) fn answered(&mut self) {
        self.until = None;
        self.failures = 0;
    }
}

/// Moves `to` within an index.
pub(super) fn replace<T: Ord>(
    index: &mut BTreeSet<(T, Destination)>,
    old: Option<T>,
    new: Option<T>,
    to: &Destination,
) {
    if old == new {
        return;
    }
    if let Some(old) = old {
        index.remove(&(old, to.clone()));
    }
    if let Some(new) = new {
        index.insert((new, to.clone()));
    }
}
