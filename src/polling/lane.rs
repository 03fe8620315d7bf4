//! One lane's brain: events and `now` in, the next [`Step`] out. Pure, so that the daemon, the
//! simulation and `outcomed replay` run the same code.

use std::collections::BTreeMap;
use std::time::Duration;

use self::witnesses::Witnesses;
use super::deadlines::Deadlines;
use super::failing::Failing;
use super::hold::Hold;
use super::plan::Plan;
use super::plan::classes::Waiting;
use super::quota::Quota;
use crate::clock::Steady;
use crate::config::QuotaLimits;
use crate::outcome::Outcome;
use crate::task::TaskId;

/// What to wait after the store refused a reservation.
const RESERVE_AGAIN: Duration = Duration::from_secs(1);
/// What to wait before a task whose end the store cannot take is polled, or given up, again.
const END_AGAIN: Duration = Duration::from_secs(60);

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
    /// When the last poll that was answered was sent.
    looked: Option<Steady>,
}

impl Watched {
    fn waiting(&self, task: TaskId) -> Waiting {
        Waiting { task, born: self.born, looked: self.last_pending.unwrap_or(self.born) }
    }
}

/// Where a task is; it waits in the part of the lane that its stage names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its next poll is planned.
    Planned,
    /// Its last poll got no answer; it waits for a retry.
    Failing,
    /// Its time is over; it waits for a final poll, or to be given up.
    Past,
    /// A poll is under way.
    UnderWay,
    /// Its outcome is being stored.
    Settling,
    /// That its time is over is being stored.
    GivingUp,
}

/// One lane.
#[derive(Debug)]
pub struct Lane {
    plan: Plan,
    quota: Quota,
    hold: Hold,
    tasks: BTreeMap<TaskId, Task>,
    failing: Failing,
    witnesses: Witnesses,
    deadlines: Deadlines,
    not_found_grace: Duration,
    under_way: usize,
    settling: usize,
    giving_up: usize,
    /// Polls sent: whose turn it is.
    sent: u64,
    /// Polls answered.
    answers: u64,
    answered_at: Option<Steady>,
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
            failing: Failing::default(),
            witnesses: Witnesses::default(),
            deadlines: Deadlines::default(),
            not_found_grace,
            under_way: 0,
            settling: 0,
            giving_up: 0,
            sent: 0,
            answers: 0,
            answered_at: None,
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
        let give_up_at = watched.give_up_at;
        let Some(task) = self.tasks.get_mut(&id) else {
            self.deadlines.insert(id, give_up_at);
            self.plan.insert(watched.waiting(id), now);
            let looked = watched.last_pending;
            self.tasks.insert(id, Task { watched, stage: Stage::Planned, looked });
            return;
        };
        let before = std::mem::replace(&mut task.watched.give_up_at, give_up_at);
        if before == give_up_at {
            return;
        }
        let stage = task.stage;
        self.deadlines.remove(id, before);
        self.deadlines.insert(id, give_up_at);
        if stage == Stage::Past {
            self.plan_again(id, now);
        }
    }

    /// Nobody waits for this task any more, or its outcome is stored.
    pub fn forget(&mut self, id: TaskId) {
        let Some(task) = self.tasks.remove(&id) else { return };
        self.deadlines.remove(id, task.watched.give_up_at);
        self.failing.forget(id);
        match task.stage {
            Stage::Planned => self.plan.remove(&task.watched.waiting(id)),
            Stage::Settling => self.settling -= 1,
            Stage::GivingUp => self.giving_up -= 1,
            Stage::Failing | Stage::Past | Stage::UnderWay => {}
        }
    }

    /// The task's end is stored for those whose time was over; the others wait until `next`.
    pub fn gave_up(&mut self, id: TaskId, next: Option<Steady>, now: Steady) {
        let Some(next) = next else { return self.forget(id) };
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let before = std::mem::replace(&mut task.watched.give_up_at, next);
        self.deadlines.remove(id, before);
        self.deadlines.insert(id, next);
        self.ended(id, now);
    }

    /// The task's end could not be stored, and trying at once again is no use.
    pub fn not_ended(&mut self, id: TaskId, now: Steady) {
        match self.tasks.get(&id).map(|task| task.stage) {
            Some(Stage::GivingUp) => {
                self.giving_up -= 1;
                self.wait_for_final(id, now.after(END_AGAIN));
            }
            Some(Stage::Settling) => {
                if let Some(task) = self.tasks.get(&id) {
                    self.deadlines.remove(id, task.watched.give_up_at);
                    self.deadlines.insert(id, task.watched.give_up_at);
                }
                self.ended(id, now);
                self.look_again(id, now.after(END_AGAIN));
            }
            _ => {}
        }
    }

    fn ended(&mut self, id: TaskId, now: Steady) {
        match self.tasks.get(&id).map(|task| task.stage) {
            Some(Stage::Settling) => self.settling -= 1,
            Some(Stage::GivingUp) => self.giving_up -= 1,
            _ => return,
        }
        self.plan_again(id, now);
    }

    /// It is polled again, as it was before.
    fn plan_again(&mut self, id: TaskId, now: Steady) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if self.failing.get(id).is_some() {
            task.stage = Stage::Failing;
            self.failing.retry(id);
        } else {
            task.stage = Stage::Planned;
            self.plan.insert(task.watched.waiting(id), now);
        }
    }

    /// A reservation is durable.
    pub fn reserved(&mut self, polls: u32, now: Steady) {
        self.reserving = false;
        self.quota.reserved(polls, now);
    }

    /// A reservation could not be stored: no new one for a moment.
    pub fn not_reserved(&mut self, now: Steady) {
        self.reserving = false;
        self.reserve_after = now.after(RESERVE_AGAIN);
    }

    /// What [`Lane::memory`] gave could not be stored: the next call gives it again.
    pub fn not_kept(&mut self) {
        self.plan.not_kept();
    }

    // ---- what to do ----

    /// The next thing to do. Call until it says [`Step::Wait`].
    pub fn next(&mut self, now: Steady) -> Step {
        self.expire(now);
        if let Some(task) = self.give_up() {
            return Step::GiveUp { task };
        }
        if self.tasks.is_empty() {
            return Step::Wait { until: None };
        }
        if !self.reserving
            && now >= self.reserve_after
            && self.waiting() > 0
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
        let until = [poll_at, self.deadlines.wake_at()];
        Step::Wait { until: until.into_iter().flatten().min() }
    }

    /// Tasks that wait for a poll.
    fn waiting(&self) -> usize {
        self.plan.len() + self.failing.waiting() + self.deadlines.finals()
    }

    /// The account's settings changed: whatever held the lane may be mended.
    pub fn reconfigure(&mut self, limits: QuotaLimits) {
        self.quota.set_limits(limits);
        self.hold.clear();
        self.prepared = false;
    }
}

mod choice;
mod expiry;
mod replies;
mod view;
mod witnesses;

#[cfg(test)]
mod tests;
