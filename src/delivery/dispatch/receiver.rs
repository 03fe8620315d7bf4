//! One client's callbacks at one origin: what is due there, what is under way, and how it is doing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Now, Turned};
use crate::clock::{Steady, Timestamp};
use crate::delivery::breaker::{Breaker, CoolDown, Pulse, Room};
use crate::delivery::health::{OriginState, OriginStatus};
use crate::store::{Delivery, Destination};

/// Due rows held at once: enough that the store is not asked before every attempt, few enough that
/// a thousand origins stay small.
const PAGE_ROWS: u32 = 32;
/// Due rows read for a probe, of which those to other callbacks than the last one go first.
const PROBE_ROWS: u32 = 16;
/// Rows read longer ago are read again, since they may have been cancelled meanwhile.
const PAGE_FRESH: Duration = Duration::from_secs(1);
/// What a hint told of may be due a moment later by this daemon's clock than by the other's.
const HINTED_AGAIN: Duration = Duration::from_secs(1);
/// Future due times remembered. What is forgotten, the next scan of the store finds again.
pub(super) const WAKES_MAX: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Receiver {
    pub(super) breaker: Breaker,
    /// When its breaker opened, if it is open.
    pub(super) held_since: Option<Timestamp>,
    /// When it last asked to be left alone since then.
    pub(super) refused_at: Option<Timestamp>,
    /// The callback that was probed last: the next probe goes to another, if there is one.
    probed: String,
    /// Future due times; `true` for one that only a scan has told of.
    wakes: BTreeMap<Timestamp, bool>,
    /// By registration.
    under_way: BTreeMap<String, UnderWay>,
    page: Vec<Delivery>,
    page_read_at: Steady,
    /// The store may hold due rows that are not in the page.
    more: bool,
    /// While a page is being read: the rows that ended meanwhile, which may be in it as they were.
    fetching: Option<BTreeSet<String>>,
    /// What was due was learned by a scan: behind it there may be more, due later.
    scanned: bool,
    /// Somebody said that a row is due. By another daemon's clock it may be so before it is by ours.
    hinted: bool,
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
pub(super) struct UnderWay {
    /// It was counted as unproven.
    pub(super) unproven: bool,
    /// A person asked for it, so it went out whatever the breaker said.
    pub(super) asked: bool,
}

impl Receiver {
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
        self.hinted = true;
        self.more = true;
    }

    /// The next delivery to attempt: the longest due; of an open breaker, a probe, the longest due
    /// to another callback than the last one, so that one that is ill does not keep the others
    /// from being found well.
    pub(super) fn take(&mut self, now: Steady) -> Option<Delivery> {
        if now.since(self.page_read_at) > PAGE_FRESH {
            self.drop_page();
        }
        let probing = self.breaker.is_held();
        let other = |row: &Delivery| probing && row.callback_url != self.probed;
        let index = self.page.iter().position(other).unwrap_or(0);
        if self.page.is_empty() {
            return None;
        }
        let delivery = self.page.remove(index);
        if probing {
            self.probed.clone_from(&delivery.callback_url);
        }
        self.begin(&delivery, false);
        self.breaker.started();
        Some(delivery)
    }

    /// A person asked for it: it goes out at once, whatever the breaker says.
    pub(super) fn begin_asked(&mut self, delivery: &Delivery) {
        self.page.retain(|row| row.registration_id != delivery.registration_id);
        self.begin(delivery, true);
    }

    fn begin(&mut self, delivery: &Delivery, asked: bool) {
        let under_way = UnderWay { unproven: !self.breaker.proven() && !asked, asked };
        self.under_way.insert(delivery.registration_id.clone(), under_way);
    }

    pub(super) fn is_under_way(&self, registration_id: &str) -> bool {
        self.under_way.contains_key(registration_id)
    }

    pub(super) fn drop_page(&mut self) {
        self.more |= !self.page.is_empty();
        self.page.clear();
    }

    pub(super) fn has_page(&self) -> bool {
        !self.page.is_empty()
    }

    pub(super) fn wants_rows(&self) -> bool {
        self.more && self.fetching.is_none() && self.page.is_empty()
    }

    /// Begins reading a page; returns how many rows to ask for. The rows under way are still due
    /// in the store, so they are asked for on top; and an origin that is doing badly gets few, so
    /// that a thousand of them hold little memory.
    pub(super) fn fetch(&mut self, limit: u32, now: Steady) -> u32 {
        let room = match self.breaker.room(limit, now) {
            Room::UpTo(most) => most,
            Room::NotBefore(_) => 1,
        };
        self.fetching = Some(BTreeSet::new());
        self.more = false;
        let page = if self.breaker.is_held() { PROBE_ROWS } else { room.saturating_mul(2) };
        let under_way = u32::try_from(self.under_way.len()).unwrap_or(u32::MAX);
        PAGE_ROWS.min(page).saturating_add(under_way)
    }

    /// A page is read. Returns whether a scan should look for what is due later.
    pub(super) fn fetched(&mut self, rows: Vec<Delivery>, asked: u32, now: Now) -> bool {
        let ended = self.fetching.take().unwrap_or_default();
        let exhausted = rows.len() < usize::try_from(asked).unwrap_or(usize::MAX);
        self.more |= !exhausted;
        let hinted = std::mem::take(&mut self.hinted);
        let early = hinted && rows.is_empty();
        let again = now.wall.after(HINTED_AGAIN);
        if hinted && exhausted && !early && self.earliest_wake().is_none_or(|at| at > again) {
            self.wake_at(again, false);
        }
        self.page_read_at = now.steady;
        self.page = rows;
        let under_way = &self.under_way;
        self.page.retain(|row| {
            !under_way.contains_key(&row.registration_id) && !ended.contains(&row.registration_id)
        });
        exhausted && std::mem::take(&mut self.scanned) || early
    }

    pub(super) fn fetch_failed(&mut self) {
        self.fetching = None;
        self.more = true;
    }

    /// An attempt is over and recorded.
    pub(super) fn ended(&mut self, registration_id: &str) -> Option<UnderWay> {
        let under_way = self.under_way.remove(registration_id)?;
        if let Some(ended) = &mut self.fetching {
            ended.insert(registration_id.to_owned());
        }
        Some(under_way)
    }

    /// Takes in what an attempt said; returns what people want to hear of.
    pub(super) fn heard(
        &mut self,
        pulse: Pulse,
        asked: bool,
        cool_down: CoolDown,
        now: Now,
    ) -> Option<Turned> {
        let was_open = self.breaker.is_held();
        if asked && pulse == Pulse::Alive {
            // It was a probe, whenever it went out. One that fails says nothing new.
            self.breaker.started();
        }
        self.breaker.heard(pulse, cool_down, now.steady);
        if let Pulse::Throttled(_) = pulse {
            self.refused_at = Some(now.wall);
        }
        match (was_open, self.breaker.is_held()) {
            (false, true) => {
                self.held_since = Some(now.wall);
                Some(Turned::Held)
            }
            (true, false) => {
                (self.held_since, self.refused_at) = (None, None);
                Some(Turned::Back)
            }
            _ => None,
        }
    }

    /// Attempts under way, but for those that a person asked for.
    pub(super) fn len_under_way(&self) -> u32 {
        let own = self.under_way.values().filter(|it| !it.asked).count();
        u32::try_from(own).unwrap_or(u32::MAX)
    }

    /// How it is doing.
    pub(super) fn status(&self, to: &Destination, limit: u32, now: Now) -> OriginStatus {
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
            origin: to.origin.clone(),
            client: to.client.clone(),
            state,
            held_since: self.held_since,
            next_probe_at: until.map(|until| now.wall.after(until.since(now.steady))),
            refused_at: self.refused_at,
            under_way: u32::try_from(self.under_way.len()).unwrap_or(u32::MAX),
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
            && self.fetching.is_none()
    }
}
