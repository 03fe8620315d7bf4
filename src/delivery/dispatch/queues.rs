//! Who is next, and when to leave the store alone.

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};
use std::time::Duration;

use crate::clock::Steady;

/// The first wait after the store failed; each further one doubles it.
const STORE_WAIT: Duration = Duration::from_millis(500);
/// The longest wait after the store failed.
const STORE_WAIT_MAX: Duration = Duration::from_secs(15);

/// Round robin over names, which survives their coming and going.
#[derive(Debug, Default)]
pub(super) struct Turns {
    pub(super) ready: BTreeSet<String>,
    last: String,
}

impl Turns {
    pub(super) fn next(&mut self) -> Option<String> {
        let after = self.ready.range::<String, _>((Excluded(&self.last), Unbounded)).next();
        let next = after.or_else(|| self.ready.first())?.clone();
        self.last.clone_from(&next);
        Some(next)
    }
}

/// Leaves a store alone that has just failed.
#[derive(Debug, Default)]
pub(super) struct StoreHold {
    pub(super) until: Option<Steady>,
    pub(super) failures: u32,
    /// Origins that want rows meanwhile.
    pub(super) waiting: BTreeSet<String>,
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

/// Moves `name` within an index.
pub(super) fn replace<T: Ord>(
    index: &mut BTreeSet<(T, String)>,
    old: Option<T>,
    new: Option<T>,
    name: &str,
) {
    if old == new {
        return;
    }
    if let Some(old) = old {
        index.remove(&(old, name.to_owned()));
    }
    if let Some(new) = new {
        index.insert((new, name.to_owned()));
    }
}
