//! How what all clients share is divided between them.

use std::collections::{BTreeMap, BTreeSet};

/// A pool: a client may have as much of it as is free. So one alone gets half, two a third each,
/// and whoever comes next always finds something.
#[derive(Debug)]
pub(super) struct Pool {
    max: usize,
    total: usize,
    by_client: BTreeMap<String, usize>,
}

impl Pool {
    pub(super) fn new(max: usize) -> Self {
        Self { max, total: 0, by_client: BTreeMap::new() }
    }

    pub(super) fn admits(&self, client: &str) -> bool {
        self.of(client) < self.max.saturating_sub(self.total)
    }

    pub(super) fn of(&self, client: &str) -> usize {
        self.by_client.get(client).copied().unwrap_or(0)
    }

    pub(super) fn total(&self) -> usize {
        self.total
    }

    pub(super) fn take(&mut self, client: &str) {
        self.total += 1;
        *self.by_client.entry(client.to_owned()).or_insert(0) += 1;
    }

    pub(super) fn give_back(&mut self, client: &str) {
        self.total = self.total.saturating_sub(1);
        if let Some(count) = self.by_client.get_mut(client) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.by_client.remove(client);
            }
        }
    }
}

/// One origin's limit, which its clients share.
#[derive(Debug, Default)]
pub(super) struct Origin {
    total: usize,
    /// Attempts under way of each client that is remembered there.
    clients: BTreeMap<String, usize>,
    /// How many of those have none.
    idle: usize,
    /// Clients that could do something, were there room.
    pub(super) blocked: BTreeSet<String>,
}

impl Origin {
    pub(super) fn enter(&mut self, client: &str) {
        if self.clients.insert(client.to_owned(), 0).is_none() {
            self.idle += 1;
        }
    }

    /// Whether nobody is left.
    pub(super) fn leave(&mut self, client: &str) -> bool {
        self.blocked.remove(client);
        if self.clients.remove(client) == Some(0) {
            self.idle -= 1;
        }
        self.clients.is_empty()
    }

    /// A client that has something under way leaves a place to each that has nothing, of half the
    /// places at most: so whoever is quick need not wait for one who is slow.
    pub(super) fn admits(&self, client: &str, limit: u32) -> bool {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX).max(1);
        let has_some = self.clients.get(client).is_some_and(|count| *count > 0);
        let kept = if has_some { self.idle.min(limit / 2) } else { 0 };
        self.total + kept < limit
    }

    pub(super) fn take(&mut self, client: &str) {
        self.total += 1;
        if let Some(count) = self.clients.get_mut(client) {
            self.idle -= usize::from(*count == 0);
            *count += 1;
        }
    }

    pub(super) fn give_back(&mut self, client: &str) {
        self.total = self.total.saturating_sub(1);
        if let Some(count) = self.clients.get_mut(client).filter(|count| **count > 0) {
            *count -= 1;
            self.idle += usize::from(*count == 0);
        }
    }

    /// Of those that wait for room, the one that has least under way.
    pub(super) fn most_deserving(&self) -> Option<String> {
        let under_way = |client: &&String| self.clients.get(*client).copied().unwrap_or(0);
        self.blocked.iter().min_by_key(under_way).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_gets_half_of_a_pool_and_the_next_a_share_of_the_rest() {
        let mut pool = Pool::new(512);
        let fill = |pool: &mut Pool, client: &str| {
            while pool.admits(client) {
                pool.take(client);
            }
            pool.of(client)
        };
        assert_eq!(fill(&mut pool, "flood"), 256);
        assert_eq!(fill(&mut pool, "ats"), 128);
        assert!(pool.admits("crm"));
        (0..256).for_each(|_| pool.give_back("flood"));
        assert_eq!((pool.of("flood"), pool.total()), (0, 128));
    }

    #[test]
    fn a_place_is_kept_for_those_that_have_none() {
        let mut origin = Origin::default();
        origin.enter("slow");
        for _ in 0..16 {
            assert!(origin.admits("slow", 16), "alone it gets everything");
            origin.take("slow");
        }
        assert!(!origin.admits("slow", 16));
        origin.enter("quick");
        assert!(!origin.admits("quick", 16));
        origin.give_back("slow");
        assert!(origin.admits("quick", 16) && !origin.admits("slow", 16));
        origin.take("quick");
        assert!(!origin.admits("quick", 16));
        (0..3).for_each(|_| origin.give_back("slow"));
        assert!(origin.admits("slow", 16), "nobody there has nothing");
    }

    #[test]
    fn what_is_given_back_is_given_back_once() {
        let mut pool = Pool::new(8);
        (0..2).for_each(|_| pool.take("ats"));
        pool.give_back("ats");
        assert_eq!(pool.of("ats"), 1);
        let mut origin = Origin::default();
        origin.enter("a");
        origin.enter("b");
        origin.give_back("a");
        assert_eq!(origin.idle, 2, "it had none");
        assert!(!origin.leave("a"));
        assert_eq!(origin.idle, 1);
        origin.take("b");
        assert!(origin.leave("b"), "nobody is left");
        assert_eq!(origin.idle, 0);
    }

    #[test]
    fn at_most_half_of_the_places_are_kept_for_those_that_have_none() {
        let mut origin = Origin::default();
        (0..10).for_each(|n| origin.enter(&format!("idle {n}")));
        origin.enter("busy");
        origin.take("busy");
        assert!(origin.admits("busy", 4));
        origin.take("busy");
        assert!(!origin.admits("busy", 4));
    }
}
