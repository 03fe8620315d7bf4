//! The brain of the delivery loop: events and `now` in, the next [`Step`] out. Pure.
//!
//! Every origin has its own small page of due rows, its own breaker and its own limit, and takes
//! turns with the others; so a receiver that hangs costs itself time and nobody else. Rows stay in
//! the store: what is held here is bounded by the limits below, however long the backlog.

mod origin;
mod queues;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use self::origin::{Origin, Place};
use self::queues::{StoreHold, Turns, replace};
use super::breaker::{CoolDown, Pulse, Room};
use super::health::OriginStatus;
use crate::clock::{Steady, Timestamp};
use crate::store::Delivery;

/// Attempts under way at once, to all origins: bounds sockets, and memory at some 100 KiB each.
pub const UNDER_WAY_MAX: usize = 1024;
/// Of those, attempts to origins that have not shown to be alive: however many of them hang, half
/// of the house is left to the others.
pub const UNPROVEN_MAX: usize = UNDER_WAY_MAX / 2;
/// How often the store is asked for everything due, because hints may be lost.
const SCAN_EVERY: Duration = Duration::from_secs(30);
/// How soon it is asked again when a scan's finding was the first of several.
const SCAN_SOON: Duration = Duration::from_secs(1);
/// Origins without work whose health is remembered, at some 300 bytes each.
const IDLE_MAX: usize = 4096;

/// Both readings of the clock: rows are due by the wall, waits are steady.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// What the store's due times are compared with.
    pub wall: Timestamp,
    /// What cool-downs are measured with.
    pub steady: Steady,
}

/// What the configuration says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Attempts under way at once to one origin.
    pub per_origin: u32,
    /// How long open breakers wait.
    pub cool_down: CoolDown,
}

/// What the shell does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask the store for all origins, then call [`Dispatch::scanned`].
    Scan,
    /// Ask the store for an origin's due rows, then call [`Dispatch::fetched`].
    Fetch {
        /// Whose.
        origin: String,
        /// At most so many.
        limit: u32,
    },
    /// Make one attempt, record it, then call [`Dispatch::ended`].
    Attempt {
        /// Where it counts.
        origin: String,
        /// Which.
        delivery: Delivery,
    },
    /// Nothing to do before then, or before the next event.
    Wait {
        /// When; `None`: only an event can change anything.
        until: Option<Steady>,
    },
}

/// What the store knows after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It is recorded as finished.
    Finished,
    /// It is recorded, and due again then.
    DueAgain(Timestamp),
    /// The row had changed meanwhile: look again.
    Changed,
    /// Nothing is recorded, and nobody here can say more.
    Unrecorded,
}

/// A change that people want to hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    /// From now on the origin gets single probes only.
    Held,
    /// It gets everything again.
    Back,
}

/// The dispatcher.
#[derive(Debug)]
pub struct Dispatch {
    limits: Limits,
    origins: BTreeMap<String, Origin>,
    /// Origins that could do something now; those that are alive, and those nobody can say.
    turns: [Turns; 2],
    /// Which of the two was served last.
    last: usize,
    alarms: BTreeSet<(Timestamp, String)>,
    cooling: BTreeSet<(Steady, String)>,
    idle: BTreeSet<(Steady, String)>,
    under_way: usize,
    unproven: usize,
    fetching: usize,
    scanning: bool,
    scan_at: Option<Steady>,
    store: StoreHold,
}

const ALIVE: usize = 0;
const UNPROVEN: usize = 1;

impl Dispatch {
    /// A dispatcher that knows nothing yet: its first step is a scan.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            origins: BTreeMap::new(),
            turns: [Turns::default(), Turns::default()],
            last: UNPROVEN,
            alarms: BTreeSet::new(),
            cooling: BTreeSet::new(),
            idle: BTreeSet::new(),
            under_way: 0,
            unproven: 0,
            fetching: 0,
            scanning: false,
            scan_at: None,
            store: StoreHold::default(),
        }
    }

    /// The configuration changed.
    pub fn configure(&mut self, limits: Limits) {
        self.limits = limits;
    }

    // ---- what the store says ----

    /// A delivery to this origin became due.
    pub fn due(&mut self, name: &str, now: Now) {
        self.origin(name).due_now();
        self.place(name, now);
    }

    /// Hints were lost: ask the store.
    pub fn rescan(&mut self) {
        self.scan_at = None;
    }

    /// The scan's findings: every origin with the time at which its earliest row is due.
    pub fn scanned(&mut self, found: Vec<(String, Timestamp)>, now: Now) {
        self.scanning = false;
        self.store =
            StoreHold { waiting: std::mem::take(&mut self.store.waiting), ..StoreHold::default() };
        self.scan_at = Some(now.steady.after(SCAN_EVERY));
        for (name, at) in found {
            if at <= now.wall {
                self.origin(&name).found_due();
            } else {
                self.origin(&name).wake_at(at, true);
            }
            self.place(&name, now);
        }
    }

    /// The scan failed.
    pub fn scan_failed(&mut self, now: Now) {
        self.scanning = false;
        self.store.failed(now.steady);
    }

    /// The rows of a [`Step::Fetch`] that asked for so many.
    pub fn fetched(&mut self, name: &str, rows: Vec<Delivery>, asked: u32, now: Now) {
        self.fetching -= 1;
        self.store.answered();
        if self.origin(name).fetched(rows, asked, now.steady) {
            let soon = now.steady.after(SCAN_SOON);
            self.scan_at = self.scan_at.map(|at| at.min(soon));
        }
        self.place(name, now);
    }

    /// The rows of a [`Step::Fetch`] could not be read.
    pub fn fetch_failed(&mut self, name: &str, now: Now) {
        self.fetching -= 1;
        self.origin(name).fetch_failed();
        self.store.failed(now.steady);
        self.place(name, now);
    }

    /// An attempt is over: what it says about the origin, and what the store knows now.
    pub fn ended(
        &mut self,
        name: &str,
        id: &str,
        pulse: Pulse,
        ended: Ended,
        now: Now,
    ) -> Option<Turned> {
        let cool_down = self.limits.cool_down;
        let origin = self.origin(name);
        let unproven = origin.ended(id)?;
        let was_open = origin.breaker.is_held();
        origin.breaker.heard(pulse, cool_down, now.steady);
        let turned = match (was_open, origin.breaker.is_held()) {
            (false, true) => Some(Turned::Held),
            (true, false) => Some(Turned::Back),
            _ => None,
        };
        match turned {
            Some(Turned::Held) => origin.held_since = Some(now.wall),
            Some(Turned::Back) => origin.held_since = None,
            None => {}
        }
        match ended {
            Ended::DueAgain(at) => origin.wake_at(at, false),
            Ended::Changed => origin.due_now(),
            Ended::Finished | Ended::Unrecorded => {}
        }
        self.under_way -= 1;
        self.unproven -= usize::from(unproven);
        self.place(name, now);
        turned
    }

    /// How every origin that is remembered is doing, by name.
    #[must_use]
    pub fn origins(&self, now: Now) -> Vec<OriginStatus> {
        let limit = self.limits.per_origin;
        self.origins.iter().map(|(name, origin)| origin.status(name, limit, now)).collect()
    }

    // ---- what to do ----

    /// The next thing to do. Call until it says [`Step::Wait`].
    pub fn next(&mut self, now: Now) -> Step {
        self.wake(now);
        let store_is_up = self.store.until.is_none();
        if store_is_up && !self.scanning && self.scan_at.is_none_or(|at| at <= now.steady) {
            self.scanning = true;
            return Step::Scan;
        }
        while self.under_way + self.fetching < UNDER_WAY_MAX {
            let Some(name) = self.turn() else { break };
            let most = self.limits.per_origin;
            let origin = self.origin(&name);
            if let Some(delivery) = origin.take(now.steady) {
                let proven = origin.breaker.proven();
                self.under_way += 1;
                self.unproven += usize::from(!proven);
                self.place(&name, now);
                return Step::Attempt { origin: name, delivery };
            }
            if !store_is_up {
                self.leave_turns(&name);
                self.store.waiting.insert(name);
                continue;
            }
            if !origin.wants_rows() {
                self.place(&name, now);
                continue;
            }
            let limit = origin.fetch(most, now.steady);
            self.fetching += 1;
            self.place(&name, now);
            return Step::Fetch { origin: name, limit };
        }
        Step::Wait { until: self.next_wake(now) }
    }

    /// Whose turn it is: alive ones and the others alternate, and the others have their own limit.
    fn turn(&mut self) -> Option<String> {
        let order = if self.last == ALIVE { [UNPROVEN, ALIVE] } else { [ALIVE, UNPROVEN] };
        for which in order {
            if which == UNPROVEN && self.unproven >= UNPROVEN_MAX {
                continue;
            }
            if let Some(name) = self.turns[which].next() {
                self.last = which;
                return Some(name);
            }
        }
        None
    }

    /// Lets time pass: what became due, cooled down, or may be asked again.
    fn wake(&mut self, now: Now) {
        while let Some((_, name)) = self.alarms.first().filter(|(at, _)| *at <= now.wall).cloned() {
            self.origin(&name).fire(now.wall);
            self.place(&name, now);
        }
        while let Some((_, name)) =
            self.cooling.first().filter(|(at, _)| *at <= now.steady).cloned()
        {
            self.place(&name, now);
        }
        if self.store.until.is_some_and(|until| until <= now.steady) {
            self.store.until = None;
        }
        if self.store.until.is_none() {
            for name in std::mem::take(&mut self.store.waiting) {
                self.place(&name, now);
            }
        }
    }

    fn next_wake(&self, now: Now) -> Option<Steady> {
        let alarm = self.alarms.first().map(|(at, _)| now.steady.after(at.since(now.wall)));
        let cooled = self.cooling.first().map(|(at, _)| *at);
        let scan = self.scan_at.filter(|_| !self.scanning);
        let store = self.store.until;
        let scan = scan.map(|at| store.map_or(at, |until| until.max(at)));
        [alarm, cooled, scan, store].into_iter().flatten().min()
    }

    fn origin(&mut self, name: &str) -> &mut Origin {
        if !self.origins.contains_key(name) {
            self.origins.insert(name.to_owned(), Origin::default());
        }
        self.origins.get_mut(name).expect("it was put there just now")
    }

    fn leave_turns(&mut self, name: &str) {
        for turns in &mut self.turns {
            turns.ready.remove(name);
        }
    }

    /// Puts an origin where it belongs after anything about it changed.
    fn place(&mut self, name: &str, now: Now) {
        self.leave_turns(name);
        let limit = self.limits.per_origin;
        let Some(origin) = self.origins.get_mut(name) else { return };
        let room = origin.breaker.room(limit, now.steady);
        let old = std::mem::take(&mut origin.place);
        let mut new = Place { alarm: origin.earliest_wake(), ..Place::default() };
        let mut turn = None;
        match room {
            Room::NotBefore(until) => {
                // What is read now may be cancelled by the time it may be sent.
                origin.drop_page();
                new.cooling = origin.wants_rows().then_some(until);
            }
            Room::UpTo(most) => {
                let work = origin.has_page() || origin.wants_rows();
                if work && origin.len_under_way() < most {
                    turn = Some(if origin.breaker.proven() { ALIVE } else { UNPROVEN });
                }
            }
        }
        new.idle = origin.is_idle().then_some(old.idle.unwrap_or(now.steady));
        origin.place = new;
        if let Some(turn) = turn {
            self.turns[turn].ready.insert(name.to_owned());
        }
        replace(&mut self.alarms, old.alarm, new.alarm, name);
        replace(&mut self.cooling, old.cooling, new.cooling, name);
        replace(&mut self.idle, old.idle, new.idle, name);
        if self.idle.len() > IDLE_MAX
            && let Some((_, longest_idle)) = self.idle.pop_first()
        {
            self.origins.remove(&longest_idle);
        }
    }
}
