//! One callback origin: what is due there, what is under way, and how it is doing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Now;
use crate::clock::{Steady, Timestamp};
use crate::delivery::breaker::{Breaker, Room};
use crate::delivery::health::{OriginState, OriginStatus};
use crate::store::Delivery;

/// Due rows held at once: enough that the store is not asked before every attempt, few enough that
/// a thousand origins stay small.
const PAGE_ROWS: u32 = 32;
/// Rows read longer ago are read again, since they may have been cancelled meanwhile.
const PAGE_FRESH: Duration = Duration::from_secs(1);
/// Future due times remembered. What is forgotten, the next scan of the store finds again.
const WAKES_MAX: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Origin {
    pub(super) breaker: Breaker,
    /// When its breaker opened, if it is open.
    pub(super) held_since: Option<Timestamp>,
    /// Future due times; `true` for one that only a scan has told of.
    wakes: BTreeMap<Timestamp, bool>,
    /// By registration.
    under_way: BTreeMap<String, UnderWay>,
    page: Vec<Delivery>,
    page_read_at: Steady,
    /// The store may hold due rows that are not in the page.
    more: bool,
    fetching: bool,
    /// These rows may be in the page that is being read, as they were before.
    ended_while_fetching: BTreeSet<String>,
    /// What was due was learned by a scan: behind it there may be more, due later.
    scanned: bool,
    /// Where the dispatcher has put it.
    pub(super) place: Place,
}

/// In which of the dispatcher's indexes an origin stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) alarm: Option<Timestamp>,
    pub(super) cooling: Option<Steady>,
    pub(super) idle: Option<Steady>,
}

#[derive(Debug)]
struct UnderWay {
    client: String,
    unproven: bool,
}

impl Origin {
    pub(super) fn wake_at(&mut self, at: Timestamp, by_scan: bool) {
        let known = self.wakes.entry(at).or_insert(by_scan);
        *known &= by_scan;
        if self.wakes.len() > WAKES_MAX {
            self.wakes.pop_last();
        }
    }

    pub(super) fn earliest_wake(&self) -> Option<Timestamp> {
        self.wakes.first_key_value().map(|(at, _)| *at)
    }

    /// Notes what became due by `now`.
    pub(super) fn fire(&mut self, now: Timestamp) {
        while let Some(first) = self.wakes.first_entry().filter(|first| *first.key() <= now) {
            self.scanned |= first.remove();
            self.more = true;
        }
    }

    /// A scan has found rows that are due already.
    pub(super) fn found_due(&mut self) {
        // Of a busy origin this is no news: the rows may be those under way.
        self.scanned |= self.is_idle();
        self.more = true;
    }

    pub(super) fn due_now(&mut self) {
        self.more = true;
    }

    /// The next delivery to attempt: the longest due, of the client that has least under way.
    pub(super) fn take(&mut self, now: Steady) -> Option<Delivery> {
        if now.since(self.page_read_at) > PAGE_FRESH {
            self.drop_page();
        }
        let load = |delivery: &Delivery| {
            self.under_way.values().filter(|other| other.client == delivery.client).count()
        };
        let loads = self.page.iter().map(load).enumerate();
        let (index, _) = loads.min_by_key(|(index, load)| (*load, *index))?;
        let delivery = self.page.remove(index);
        let under_way =
            UnderWay { client: delivery.client.clone(), unproven: !self.breaker.proven() };
        self.under_way.insert(delivery.registration_id.clone(), under_way);
        self.breaker.started();
        Some(delivery)
    }

    pub(super) fn drop_page(&mut self) {
        self.more |= !self.page.is_empty();
        self.page.clear();
    }

    pub(super) fn has_page(&self) -> bool {
        !self.page.is_empty()
    }

    pub(super) fn wants_rows(&self) -> bool {
        self.more && !self.fetching && self.page.is_empty()
    }

    /// Begins reading a page; returns how many rows to ask for. The rows under way are still due
    /// in the store, so they are asked for on top; and an origin that is doing badly gets few, so
    /// that a thousand of them hold little memory.
    pub(super) fn fetch(&mut self, limit: u32, now: Steady) -> u32 {
        let room = match self.breaker.room(limit, now) {
            Room::UpTo(most) => most,
            Room::NotBefore(_) => 1,
        };
        self.fetching = true;
        self.more = false;
        self.ended_while_fetching.clear();
        PAGE_ROWS.min(room.saturating_mul(2)).saturating_add(self.len_under_way())
    }

    /// A page is read. Returns whether a scan should look for what is due later.
    pub(super) fn fetched(&mut self, rows: Vec<Delivery>, asked: u32, now: Steady) -> bool {
        self.fetching = false;
        let exhausted = rows.len() < usize::try_from(asked).unwrap_or(usize::MAX);
        self.more |= !exhausted;
        self.page_read_at = now;
        self.page = rows;
        let (under_way, ended) = (&self.under_way, &self.ended_while_fetching);
        self.page.retain(|row| {
            !under_way.contains_key(&row.registration_id) && !ended.contains(&row.registration_id)
        });
        exhausted && std::mem::take(&mut self.scanned)
    }

    pub(super) fn fetch_failed(&mut self) {
        self.fetching = false;
        self.more = true;
    }

    /// An attempt is over and recorded. Returns whether it was counted as unproven.
    pub(super) fn ended(&mut self, registration_id: &str) -> Option<bool> {
        let under_way = self.under_way.remove(registration_id)?;
        if self.fetching {
            self.ended_while_fetching.insert(registration_id.to_owned());
        }
        Some(under_way.unproven)
    }

    pub(super) fn len_under_way(&self) -> u32 {
        u32::try_from(self.under_way.len()).unwrap_or(u32::MAX)
    }

    /// How it is doing.
    pub(super) fn status(&self, name: &str, limit: u32, now: Now) -> OriginStatus {
        let (room, until) = match self.breaker.room(limit, now.steady) {
            Room::UpTo(room) => (room, None),
            Room::NotBefore(until) => (0, Some(until)),
        };
        let state = match (self.breaker.is_held(), self.breaker.proven()) {
            (true, _) => OriginState::Held,
            (false, true) => OriginState::Ok,
            (false, false) => OriginState::Unproven,
        };
        OriginStatus {
            origin: name.to_owned(),
            state,
            held_since: self.held_since,
            next_probe_at: until.map(|until| now.wall.after(until.since(now.steady))),
            under_way: self.len_under_way(),
            room,
            failures_in_a_row: self.breaker.failures_in_a_row(),
        }
    }

    /// Nothing is due, under way, or expected.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_empty()
            && self.page.is_empty()
            && self.wakes.is_empty()
            && !self.more
            && !self.fetching
    }
}
