//! One lane's brain: events and `now` in, the next [`Step`] out. Pure, so that the daemon, the
//! simulation and `outcomed replay` run the same code.

use std::collections::BTreeMap;
use std::time::Duration;

use super::deadlines::Deadlines;
use super::hold::Hold;
use super::plan::classes::Waiting;
use super::plan::{First, Plan};
use super::quota::Quota;
use crate::clock::Steady;
use crate::config::QuotaLimits;
use crate::outcome::{Outcome, Reason};
use crate::source::{Observation, PollError};
use crate::task::TaskId;

/// Polls under way at once, whatever the quota says: bounds memory and sockets when replies hang.
const UNDER_WAY_MAX: usize = 256;
/// A task whose poll told nothing is not polled again sooner.
const UNANSWERED_WAIT: Duration = Duration::from_secs(1);
/// How long a task past its deadline waits for its last look.
const LAST_LOOK_WAIT: Duration = Duration::from_secs(5);
/// A look this shortly before the deadline is the last one.
const LAST_LOOK_FRESH: Duration = Duration::from_millis(500);
/// What to wait when Feishu says "quota exceeded" without saying for how long.
const RESET_UNSAID: Duration = Duration::from_secs(10);
/// What to wait after the store refused a reservation.
const RESERVE_AGAIN: Duration = Duration::from_secs(1);

/// What the shell does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Store a reservation of so many polls, then call [`Lane::reserved`].
    Reserve {
        /// How many.
        polls: u32,
    },
    /// Get the source ready, then call [`Lane::prepared`].
    Prepare,
    /// Poll now, then call [`Lane::replied`]. The quota is spent.
    Poll {
        /// Which.
        task: TaskId,
    },
    /// Its time is over: store that, then call [`Lane::gave_up`].
    GiveUp {
        /// Which.
        task: TaskId,
    },
    /// Nothing to do before then, or before the next event.
    Wait {
        /// When; `None`: only an event can change anything.
        until: Option<Steady>,
    },
}

/// What follows from a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Follows {
    /// Nothing to store at once.
    Nothing,
    /// Store this outcome, then call [`Lane::forget`].
    Settle(Box<Outcome>),
}

/// A task as the lane knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// When it was first registered.
    pub born: Steady,
    /// When its next registration gives up.
    pub give_up_at: Steady,
    /// Polls so far.
    pub polls: u32,
    /// When it was last seen pending.
    pub last_pending: Option<Steady>,
    /// Since when Feishu has not known it.
    pub not_found_since: Option<Steady>,
}

#[derive(Debug)]
struct Task {
    watched: Watched,
    stage: Stage,
    /// When the last look that told something was sent.
    looked: Option<Steady>,
}

impl Watched {
    fn waiting(&self, task: TaskId) -> Waiting {
        Waiting { task, born: self.born, looked: self.last_pending.unwrap_or(self.born) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its next poll is planned.
    Planned,
    /// A poll is under way.
    UnderWay,
    /// Its end is being stored.
    Ending,
}

/// One lane.
#[derive(Debug)]
pub struct Lane {
    plan: Plan,
    quota: Quota,
    hold: Hold,
    tasks: BTreeMap<TaskId, Task>,
    deadlines: Deadlines,
    not_found_grace: Duration,
    under_way: usize,
    reserving: bool,
    reserve_after: Steady,
    prepared: bool,
    preparing: bool,
}

impl Lane {
    /// A lane without tasks, of which each poll must save at least `poll_worth` of waiting.
    #[must_use]
    pub fn new(limits: QuotaLimits, not_found_grace: Duration, poll_worth: Duration) -> Self {
        Self {
            plan: Plan::new(poll_worth),
            quota: Quota::new(limits),
            hold: Hold::default(),
            tasks: BTreeMap::new(),
            deadlines: Deadlines::default(),
            not_found_grace,
            under_way: 0,
            reserving: false,
            reserve_after: Steady(i64::MIN),
            prepared: false,
            preparing: false,
        }
    }

    /// Counts what an earlier owner may have spent.
    pub fn restore(&mut self, reservations: &[(Steady, u32)], now: Steady) {
        self.quota.restore(reservations, now);
    }

    // ---- what the store says ----

    /// A task is waited for, from now on or with another deadline.
    pub fn watch(&mut self, id: TaskId, watched: Watched, now: Steady) {
        if let Some(task) = self.tasks.get_mut(&id) {
            self.deadlines.remove(id, task.watched.give_up_at);
            self.deadlines.insert(id, watched.give_up_at);
            task.watched.give_up_at = watched.give_up_at;
            return;
        }
        self.deadlines.insert(id, watched.give_up_at);
        self.plan.insert(watched.waiting(id), now);
        let looked = watched.last_pending;
        self.tasks.insert(id, Task { watched, stage: Stage::Planned, looked });
    }

    /// Nobody waits for this task any more, or its outcome is stored.
    pub fn forget(&mut self, id: TaskId) {
        if let Some(task) = self.tasks.remove(&id) {
            self.deadlines.remove(id, task.watched.give_up_at);
            self.plan.remove(&task.watched.waiting(id));
        }
    }

    /// The task's end is stored for those whose time was over; the others wait until `next`.
    pub fn gave_up(&mut self, id: TaskId, next: Option<Steady>, now: Steady) {
        let Some(next) = next else { return self.forget(id) };
        let Some(task) = self.tasks.get_mut(&id) else { return };
        self.deadlines.remove(id, task.watched.give_up_at);
        self.deadlines.insert(id, next);
        task.watched.give_up_at = next;
        task.stage = Stage::Planned;
        self.plan.insert(task.watched.waiting(id), now);
    }

    /// A reservation is durable.
    pub fn reserved(&mut self, polls: u32, now: Steady) {
        self.reserving = false;
        self.quota.reserved(polls, now);
    }

    /// Something could not be stored: no new reservation for a moment.
    pub fn not_reserved(&mut self, now: Steady) {
        self.reserving = false;
        self.reserve_after = now.after(RESERVE_AGAIN);
    }

    // ---- what the source says ----

    /// The source is ready to poll, or says why not.
    pub fn prepared(&mut self, result: Result<(), PollError>, now: Steady) {
        self.preparing = false;
        match result {
            Ok(()) => self.prepared = true,
            Err(PollError::Transient { .. }) => self.hold.unprepared(now),
            Err(error) => self.trouble(error, now),
        }
    }

    /// The poll that was sent then is answered.
    pub fn replied(
        &mut self,
        id: TaskId,
        sent: Steady,
        result: Result<Observation, PollError>,
        now: Steady,
    ) -> Follows {
        self.under_way -= 1;
        self.quota.replied(sent, now);
        let observation = match result {
            Ok(observation) => observation,
            Err(error) => {
                self.trouble(error, now);
                self.look_again(id, now.after(UNANSWERED_WAIT));
                return Follows::Nothing;
            }
        };
        self.hold.clear();
        let Some(task) = self.tasks.get_mut(&id) else { return Follows::Nothing };
        task.watched.polls += 1;
        task.stage = Stage::Planned;
        task.looked = Some(sent);
        match observation {
            Observation::Settled(outcome) => {
                task.stage = Stage::Ending;
                self.plan.settled(&task.watched.waiting(id), now);
                Follows::Settle(Box::new(outcome))
            }
            Observation::Pending { .. } => {
                self.plan.pending(&task.watched.waiting(id), sent);
                task.watched.last_pending = Some(sent);
                task.watched.not_found_since = None;
                Follows::Nothing
            }
            Observation::NotFound => self.not_found(id, sent, now),
        }
    }

    /// The account's settings changed: whatever held the lane may be mended.
    pub fn reconfigure(&mut self, limits: QuotaLimits) {
        self.quota.set_limits(limits);
        self.hold.clear();
        self.prepared = false;
    }

    // ---- what to do ----

    /// The next thing to do. Call until it says [`Step::Wait`].
    pub fn next(&mut self, now: Steady) -> Step {
        if let Some(task) = self.over(now) {
            return Step::GiveUp { task };
        }
        if self.tasks.is_empty() {
            return Step::Wait { until: None };
        }
        if !self.reserving
            && now >= self.reserve_after
            && !self.plan.is_empty()
            && let Some(polls) = self.quota.reservation_wanted()
        {
            self.reserving = true;
            return Step::Reserve { polls };
        }
        let poll_at = self.poll_at(now);
        if let Some((at, Some(task))) = poll_at
            && at <= now
        {
            if self.prepared {
                return self.poll(task, now);
            }
            if !self.preparing {
                self.preparing = true;
                return Step::Prepare;
            }
        }
        let poll_at = poll_at.map(|(at, _)| at).filter(|_| self.prepared || !self.preparing);
        let until = [poll_at, self.deadlines.coming(now), self.last_look_over(now)];
        Step::Wait { until: until.into_iter().flatten().min() }
    }

    fn poll(&mut self, id: TaskId, now: Steady) -> Step {
        self.quota.spend(now);
        self.under_way += 1;
        if let Some(task) = self.tasks.get_mut(&id) {
            self.plan.sent(&task.watched.waiting(id));
            task.stage = Stage::UnderWay;
        }
        Step::Poll { task: id }
    }

    /// When to send the next poll, and of which task, or when to ask again; `None`: only an event
    /// can tell.
    fn poll_at(&mut self, now: Steady) -> Option<(Steady, Option<TaskId>)> {
        if self.plan.is_empty() || self.under_way >= UNDER_WAY_MAX {
            return None;
        }
        if self.quota.permits() == 0 {
            return (!self.reserving).then_some((self.reserve_after, None));
        }
        let held_until = self.hold.opens(self.under_way)?;
        match self.plan.first(now, &self.quota) {
            First::Nothing => None,
            First::Ask(at) => Some((at.max(held_until), None)),
            First::Look(task) => Some((self.quota.earliest(now).max(held_until), Some(task))),
        }
    }

    /// A task whose time is over and whose last look is done, or cannot be had.
    fn over(&mut self, now: Steady) -> Option<TaskId> {
        for id in self.deadlines.past(now) {
            let Some(task) = self.tasks.get_mut(&id) else { continue };
            let deadline = task.watched.give_up_at;
            let fresh = task.looked.is_some_and(|at| at >= deadline.before(LAST_LOOK_FRESH));
            match task.stage {
                Stage::Planned if fresh || now >= deadline.after(LAST_LOOK_WAIT) => {
                    task.stage = Stage::Ending;
                    self.plan.sent(&task.watched.waiting(id));
                    return Some(id);
                }
                Stage::Planned => self.plan.hurry(&task.watched.waiting(id)),
                Stage::UnderWay | Stage::Ending => {}
            }
        }
        None
    }

    /// When the first task past its deadline stops waiting for its last look.
    fn last_look_over(&self, now: Steady) -> Option<Steady> {
        let past = self.deadlines.past(now);
        let planned = past.iter().filter_map(|id| self.tasks.get(id));
        planned
            .filter(|task| task.stage == Stage::Planned)
            .map(|task| task.watched.give_up_at.after(LAST_LOOK_WAIT))
            .min()
    }

    fn not_found(&mut self, id: TaskId, sent: Steady, now: Steady) -> Follows {
        let Some(task) = self.tasks.get_mut(&id) else { return Follows::Nothing };
        let since = *task.watched.not_found_since.get_or_insert(sent);
        if now.since(since) >= self.not_found_grace {
            task.stage = Stage::Ending;
            return Follows::Settle(Box::new(Outcome::unresolved(Reason::TaskNotFound)));
        }
        let confirm_at = since.after(self.not_found_grace);
        let halfway = sent.after(self.not_found_grace / 4);
        self.look_again(id, halfway.min(confirm_at));
        Follows::Nothing
    }

    fn look_again(&mut self, id: TaskId, at: Steady) {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.stage = Stage::Planned;
            self.plan.unanswered(&task.watched.waiting(id), at);
        }
    }

    fn trouble(&mut self, error: PollError, now: Steady) {
        match error {
            PollError::Account(problem) => {
                self.prepared = false;
                self.hold.suspend(problem, now);
            }
            PollError::Quota { reset } => self.quota.refused(reset.unwrap_or(RESET_UNSAID), now),
            PollError::Token => {
                self.prepared = false;
                self.hold.token_refused(now);
            }
            PollError::Transient { .. } => self.hold.failed(now),
        }
    }
}

mod view;

#[cfg(test)]
mod tests;
