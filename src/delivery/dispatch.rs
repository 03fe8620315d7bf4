//! The brain of the delivery loop: events and `now` in, the next [`Step`] out. Pure.
//!
//! Every client has, at each origin, its own small page of due rows and its own breaker, and takes
//! turns with the others; what they share (an origin's limit, the house) is divided between clients.
//! So a receiver that hangs or fails costs its own client time and nobody else. Rows stay in the
//! store: what is held here is bounded by the limits below, however long the backlog.

mod asked;
mod places;
mod queues;
mod receiver;
mod shares;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use self::asked::{ASKED_ROWS, Asked};
use self::queues::{StoreHold, Turns};
use self::receiver::Receiver;
use self::shares::{Origin, Pool};
use super::breaker::{CoolDown, Pulse};
use super::health::OriginStatus;
use crate::clock::{Steady, Timestamp};
use crate::store::{Delivery, Destination, DestinationPage, DestinationPlace};

/// Attempts under way at once, to all origins: bounds sockets, and memory at some 100 KiB each.
pub const UNDER_WAY_MAX: usize = 1024;
/// Of those, attempts to origins that have not shown to be alive: however many of them hang, half
/// of the house is left to the others.
pub const UNPROVEN_MAX: usize = UNDER_WAY_MAX / 2;
/// How often the store is asked for everything due, because hints may be lost.
const SCAN_EVERY: Duration = Duration::from_secs(30);
/// How soon it is asked again when a scan's finding was the first of several.
const SCAN_SOON: Duration = Duration::from_secs(1);
/// Destinations without work whose health is remembered, at some 400 bytes each.
const IDLE_MAX: usize = 4096;
/// Destinations remembered at all. What is beyond, a later scan finds.
const RECEIVERS_MAX: usize = 65_536;

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
    /// Ask the store for a page of destinations, then call [`Dispatch::scanned`].
    Scan {
        /// After this place.
        after: DestinationPlace,
    },
    /// Ask the store for what persons asked for, then call [`Dispatch::fetched_asked`].
    FetchAsked {
        /// At most so many of each client.
        limit: u32,
    },
    /// Ask the store for a destination's due rows, then call [`Dispatch::fetched`].
    Fetch {
        /// Whose.
        to: Destination,
        /// At most so many.
        limit: u32,
    },
    /// Make one attempt, record it, then call [`Dispatch::ended`].
    Attempt {
        /// Where it counts.
        to: Destination,
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
    /// From now on the destination gets single probes only.
    Held,
    /// It gets everything again.
    Back,
}

/// The dispatcher.
#[derive(Debug)]
pub struct Dispatch {
    limits: Limits,
    receivers: BTreeMap<Destination, Receiver>,
    origins: BTreeMap<String, Origin>,
    asked: Asked,
    /// Destinations that could do something now; those that are alive, and those nobody can say.
    turns: [Turns; 2],
    /// Which of the two was served last.
    last: usize,
    alarms: BTreeSet<(Timestamp, Destination)>,
    cooling: BTreeSet<(Steady, Destination)>,
    idle: BTreeSet<(Steady, Destination)>,
    remembered: Pool,
    under_way: Pool,
    unproven: Pool,
    fetching: usize,
    scan: Scan,
    /// When the next scan begins.
    scan_at: Option<Steady>,
    store: StoreHold,
}

/// How far the scan is.
#[derive(Debug, PartialEq, Eq)]
enum Scan {
    Over,
    /// The page after this is next.
    At(DestinationPlace),
    /// The page after this is being read.
    Reading(DestinationPlace),
}

const ALIVE: usize = 0;
const UNPROVEN: usize = 1;

impl Dispatch {
    /// A dispatcher that knows nothing yet: its first step is a scan.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            receivers: BTreeMap::new(),
            origins: BTreeMap::new(),
            asked: Asked::new(),
            turns: [Turns::default(), Turns::default()],
            last: UNPROVEN,
            alarms: BTreeSet::new(),
            cooling: BTreeSet::new(),
            idle: BTreeSet::new(),
            remembered: Pool::new(RECEIVERS_MAX),
            under_way: Pool::new(UNDER_WAY_MAX),
            unproven: Pool::new(UNPROVEN_MAX),
            fetching: 0,
            scan: Scan::Over,
            scan_at: None,
            store: StoreHold::default(),
        }
    }

    /// The configuration changed.
    pub fn configure(&mut self, limits: Limits, now: Now) {
        self.limits = limits;
        for to in self.receivers.keys().cloned().collect::<Vec<_>>() {
            self.place(&to, now);
        }
    }

    // ---- what the store says ----

    /// A delivery became due there.
    pub fn due(&mut self, to: &Destination, now: Now) {
        self.with(to, now, Receiver::due_now);
    }

    /// A person asked for a delivery.
    pub fn asked(&mut self) {
        self.asked.look();
    }

    /// Hints were lost: ask the store.
    pub fn rescan(&mut self) {
        self.scan_at = None;
    }

    /// A page of the scan's findings.
    pub fn scanned(&mut self, page: DestinationPage, now: Now) {
        self.scan = page.next.map_or(Scan::Over, Scan::At);
        self.store =
            StoreHold { waiting: std::mem::take(&mut self.store.waiting), ..StoreHold::default() };
        for (to, at) in page.found {
            self.with(&to, now, |receiver| {
                if at <= now.wall { receiver.found_due() } else { receiver.wake_at(at, true) }
            });
        }
    }

    /// The scan failed.
    pub fn scan_failed(&mut self, now: Now) {
        if let Scan::Reading(after) = std::mem::replace(&mut self.scan, Scan::Over) {
            self.scan = Scan::At(after);
        }
        self.store.failed(now.steady);
    }

    /// The rows of a [`Step::FetchAsked`].
    pub fn fetched_asked(&mut self, rows: Vec<Delivery>) {
        self.store.answered();
        self.asked.read(rows);
    }

    /// The rows of a [`Step::FetchAsked`] could not be read.
    pub fn fetch_asked_failed(&mut self, now: Now) {
        self.asked.not_read();
        self.store.failed(now.steady);
    }

    /// The rows of a [`Step::Fetch`] that asked for so many.
    pub fn fetched(&mut self, to: &Destination, rows: Vec<Delivery>, asked: u32, now: Now) {
        self.fetching -= 1;
        self.store.answered();
        let Some(receiver) = self.receivers.get_mut(to) else { return };
        if receiver.fetched(rows, asked, now) {
            let soon = now.steady.after(SCAN_SOON);
            self.scan_at = self.scan_at.map(|at| at.min(soon));
        }
        self.place(to, now);
    }

    /// The rows of a [`Step::Fetch`] could not be read.
    pub fn fetch_failed(&mut self, to: &Destination, now: Now) {
        self.fetching -= 1;
        self.store.failed(now.steady);
        self.with(to, now, Receiver::fetch_failed);
    }

    /// An attempt is over, and recorded if that can be.
    pub fn ended(
        &mut self,
        to: &Destination,
        id: &str,
        pulse: Pulse,
        ended: Ended,
        now: Now,
    ) -> Option<Turned> {
        let cool_down = self.limits.cool_down;
        let receiver = self.receivers.get_mut(to)?;
        let over = receiver.ended(id)?;
        let turned = receiver.heard(pulse, over.asked, cool_down, now);
        match ended {
            Ended::DueAgain(at) => receiver.wake_at(at, false),
            Ended::Changed => receiver.due_now(),
            Ended::Finished | Ended::Unrecorded => {}
        }
        self.asked.ended(id, &to.client, over.asked);
        self.under_way.give_back(&to.client);
        if over.unproven {
            self.unproven.give_back(&to.client);
        }
        let next = self.origins.get_mut(&to.origin).and_then(|origin| {
            origin.give_back(&to.client);
            origin.most_deserving()
        });
        self.place(to, now);
        if let Some(client) = next {
            self.place(&Destination::new(client, &to.origin), now);
        }
        turned
    }

    /// How every destination that is remembered is doing, by client and origin.
    #[must_use]
    pub fn origins(&self, now: Now) -> Vec<OriginStatus> {
        let limit = self.limits.per_origin;
        self.receivers.iter().map(|(to, receiver)| receiver.status(to, limit, now)).collect()
    }

    // ---- what to do ----

    /// The next thing to do. Call until it says [`Step::Wait`].
    pub fn next(&mut self, now: Now) -> Step {
        self.wake(now);
        let store_is_up = self.store.until.is_none();
        if let Some(step) = self.next_asked(store_is_up, now) {
            return step;
        }
        if let Some(after) = self.next_scan(store_is_up, now) {
            return Step::Scan { after };
        }
        while self.under_way.total() + self.fetching < UNDER_WAY_MAX {
            let Some(to) = self.turn() else { break };
            let most = self.limits.per_origin;
            let has_room = self.has_room(&to);
            let Some(receiver) = self.receivers.get_mut(&to) else { break };
            if has_room && let Some(delivery) = receiver.take(now.steady) {
                let proven = receiver.breaker.proven();
                self.begun(&to, !proven);
                self.place(&to, now);
                return Step::Attempt { to, delivery };
            }
            if !store_is_up {
                self.leave_turns(&to);
                self.store.waiting.insert(to);
                continue;
            }
            if !has_room || !receiver.wants_rows() {
                self.place(&to, now);
                continue;
            }
            let limit = receiver.fetch(most, now.steady);
            self.fetching += 1;
            self.place(&to, now);
            return Step::Fetch { to, limit };
        }
        Step::Wait { until: self.next_wake(now) }
    }

    /// The scan goes over every destination a page at a time; what is found is served meanwhile.
    fn next_scan(&mut self, store_is_up: bool, now: Now) -> Option<DestinationPlace> {
        if !store_is_up {
            return None;
        }
        if self.scan == Scan::Over && self.scan_at.is_none_or(|at| at <= now.steady) {
            self.scan_at = Some(now.steady.after(SCAN_EVERY));
            self.asked.look();
            self.scan = Scan::At(DestinationPlace::default());
        }
        let Scan::At(after) = &self.scan else { return None };
        let after = after.clone();
        self.scan = Scan::Reading(after.clone());
        Some(after)
    }

    /// What a person asked for goes first, and beyond any limit but its own.
    fn next_asked(&mut self, store_is_up: bool, now: Now) -> Option<Step> {
        let receivers = &self.receivers;
        let under_way = |row: &Delivery| {
            let there = receivers.get(&row.destination());
            there.is_some_and(|it| it.is_under_way(&row.registration_id))
        };
        if let Some(delivery) = self.asked.take(under_way) {
            let to = delivery.destination();
            self.with(&to, now, |receiver| receiver.begin_asked(&delivery));
            if self.receivers.contains_key(&to) {
                self.begun(&to, false);
                self.place(&to, now);
                return Some(Step::Attempt { to, delivery });
            }
        }
        let read = store_is_up && self.asked.begin_reading();
        read.then_some(Step::FetchAsked { limit: ASKED_ROWS })
    }

    fn begun(&mut self, to: &Destination, unproven: bool) {
        self.under_way.take(&to.client);
        if unproven {
            self.unproven.take(&to.client);
        }
        if let Some(origin) = self.origins.get_mut(&to.origin) {
            origin.take(&to.client);
        }
    }

    fn has_room(&self, to: &Destination) -> bool {
        let origin = self.origins.get(&to.origin);
        origin.is_none_or(|origin| origin.admits(&to.client, self.limits.per_origin))
    }

    /// Whose turn it is: alive ones and the others alternate, and the others have their own limit.
    fn turn(&mut self) -> Option<Destination> {
        let order = if self.last == ALIVE { [UNPROVEN, ALIVE] } else { [ALIVE, UNPROVEN] };
        let (under_way, unproven) = (&self.under_way, &self.unproven);
        for which in order {
            let may = |client: &str| {
                under_way.admits(client) && (which == ALIVE || unproven.admits(client))
            };
            if let Some(to) = self.turns[which].next(may) {
                self.last = which;
                return Some(to);
            }
        }
        None
    }
}
