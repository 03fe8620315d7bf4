//! Where each destination stands: whose turn it may be, and who waits for what.

use super::queues::replace;
use super::receiver::{Place, Receiver};
use super::{ALIVE, Dispatch, IDLE_MAX, Now, Scan, UNPROVEN};
use crate::clock::Steady;
use crate::delivery::breaker::Room;
use crate::store::Destination;

impl Dispatch {
    /// Lets time pass: what became due, cooled down, or may be asked again.
    pub(super) fn wake(&mut self, now: Now) {
        while let Some((_, to)) = self.alarms.first().filter(|(at, _)| *at <= now.wall).cloned() {
            self.with(&to, now, |receiver| receiver.fire(now.wall));
        }
        while let Some((_, to)) = self.cooling.first().filter(|(at, _)| *at <= now.steady).cloned()
        {
            self.place(&to, now);
        }
        if self.store.until.is_some_and(|until| until <= now.steady) {
            self.store.until = None;
        }
        if self.store.until.is_none() {
            for to in std::mem::take(&mut self.store.waiting) {
                self.place(&to, now);
            }
        }
    }

    pub(super) fn next_wake(&self, now: Now) -> Option<Steady> {
        let alarm = self.alarms.first().map(|(at, _)| now.steady.after(at.since(now.wall)));
        let cooled = self.cooling.first().map(|(at, _)| *at);
        let scan = self.scan_at.filter(|_| self.scan == Scan::Over);
        let store = self.store.until;
        let scan = scan.map(|at| store.map_or(at, |until| until.max(at)));
        [alarm, cooled, scan, store].into_iter().flatten().min()
    }

    /// Does something with a receiver, which is remembered from then on, if there is room for it.
    pub(super) fn with(&mut self, to: &Destination, now: Now, change: impl FnOnce(&mut Receiver)) {
        if !self.receivers.contains_key(to) {
            if !self.remembered.admits(&to.client) {
                return;
            }
            self.remembered.take(&to.client);
            self.receivers.insert(to.clone(), Receiver::default());
            self.origins.entry(to.origin.clone()).or_default().enter(&to.client);
        }
        if let Some(receiver) = self.receivers.get_mut(to) {
            change(receiver);
        }
        self.place(to, now);
    }

    pub(super) fn leave_turns(&mut self, to: &Destination) {
        for turns in &mut self.turns {
            turns.leave(to);
        }
        if let Some(origin) = self.origins.get_mut(&to.origin) {
            origin.blocked.remove(&to.client);
        }
    }

    /// Puts a destination where it belongs after anything about it changed.
    pub(super) fn place(&mut self, to: &Destination, now: Now) {
        self.leave_turns(to);
        let limit = self.limits.per_origin;
        let has_room = self.has_room(to);
        let Some(receiver) = self.receivers.get_mut(to) else { return };
        let room = receiver.breaker.room(limit, now.steady);
        let old = std::mem::take(&mut receiver.place);
        let mut new = Place { alarm: receiver.earliest_wake(), ..Place::default() };
        let mut turn = None;
        match room {
            Room::NotBefore(until) => {
                // What is read now may be cancelled by the time it may be sent.
                receiver.drop_page();
                new.cooling = receiver.wants_rows().then_some(until);
            }
            Room::UpTo(most) => {
                let work = receiver.has_page() || receiver.wants_rows();
                if work && receiver.len_under_way() < most {
                    turn = Some(if receiver.breaker.proven() { ALIVE } else { UNPROVEN });
                }
            }
        }
        new.idle = receiver.is_idle().then_some(old.idle.unwrap_or(now.steady));
        receiver.place = new;
        match turn {
            Some(turn) if has_room => self.turns[turn].enter(to),
            Some(_) => {
                if let Some(origin) = self.origins.get_mut(&to.origin) {
                    origin.blocked.insert(to.client.clone());
                }
            }
            None => {}
        }
        replace(&mut self.alarms, old.alarm, new.alarm, to);
        replace(&mut self.cooling, old.cooling, new.cooling, to);
        replace(&mut self.idle, old.idle, new.idle, to);
        if self.idle.len() > IDLE_MAX
            && let Some((_, longest_idle)) = self.idle.pop_first()
        {
            self.forget(&longest_idle);
        }
    }

    fn forget(&mut self, to: &Destination) {
        if self.receivers.remove(to).is_some() {
            self.remembered.give_back(&to.client);
        }
        if self.origins.get_mut(&to.origin).is_some_and(|origin| origin.leave(&to.client)) {
            self.origins.remove(&to.origin);
        }
    }
}
