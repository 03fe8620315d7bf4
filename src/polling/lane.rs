//! One lane's brain: events and `now` in, the next [`Step`] out. Pure, so that the daemon, the
//! simulation and `outcomed replay` run the same code.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::hold::Hold;
use super::plan::classes::Waiting;
use super::plan::{Figures, First, Plan};
use super::quota::Quota;
use crate::clock::Steady;
use crate::config::QuotaLimits;
use crate::source::{AccountProblem, Observation, PollError};
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
    Settle(crate::outcome::Outcome),
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
    deadlines: BTreeSet<(Steady, TaskId)>,
    not_found_grace: Duration,
    under_way: usize,
    reserving: bool,
    prepared: bool,
    preparing: bool,
}

impl Lane {
    /// A lane without tasks, whose polls must save at least `poll_worth` of waiting each.
    #[must_use]
    pub fn new(limits: QuotaLimits, not_found_grace: Duration, poll_worth: Duration) -> Self {
        Self {
            plan: Plan::new(poll_worth),
            quota: Quota::new(limits),
            hold: Hold::default(),
            tasks: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            not_found_grace,
            under_way: 0,
            reserving: false,
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
        self.deadlines.insert((watched.give_up_at, id));
        if let Some(task) = self.tasks.get_mut(&id) {
            if task.watched.give_up_at != watched.give_up_at {
                self.deadlines.remove(&(task.watched.give_up_at, id));
            }
            task.watched.give_up_at = watched.give_up_at;
            return;
        }
        self.plan.insert(watched.waiting(id), now);
        self.tasks.insert(id, Task { watched, stage: Stage::Planned });
    }

    /// Nobody waits for this task any more, or its outcome is stored.
    pub fn forget(&mut self, id: TaskId) {
        if let Some(task) = self.tasks.remove(&id) {
            self.deadlines.remove(&(task.watched.give_up_at, id));
            self.plan.remove(&task.watched.waiting(id));
        }
    }

    /// The task's end is stored for those whose time was over; the others wait until `next`.
    pub fn gave_up(&mut self, id: TaskId, next: Option<Steady>, now: Steady) {
        let Some(next) = next else { return self.forget(id) };
        let Some(task) = self.tasks.get_mut(&id) else { return };
        self.deadlines.remove(&(task.watched.give_up_at, id));
        self.deadlines.insert((next, id));
        task.watched.give_up_at = next;
        task.stage = Stage::Planned;
        self.plan.insert(task.watched.waiting(id), now);
    }

    /// A reservation is durable.
    pub fn reserved(&mut self, polls: u32, now: Steady) {
        self.reserving = false;
        self.quota.reserved(polls, now);
    }

    /// A reservation could not be stored.
    pub fn not_reserved(&mut self) {
        self.reserving = false;
    }

    // ---- what the source says ----

    /// The source is ready to poll, or says why not.
    pub fn prepared(&mut self, result: Result<(), PollError>, now: Steady) {
        self.preparing = false;
        match result {
            Ok(()) => self.prepared = true,
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
        match observation {
            Observation::Settled(outcome) => {
                task.stage = Stage::Ending;
                self.plan.settled(&task.watched.waiting(id), now);
                Follows::Settle(outcome)
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
    pub fn retry_now(&mut self) {
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
            && !self.plan.is_empty()
            && let Some(polls) = self.quota.reservation_wanted()
        {
            self.reserving = true;
            return Step::Reserve { polls };
        }
        let deadline = self.deadlines.first().map(|(at, _)| (*at).max(now));
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
        Step::Wait {
            until: [poll_at, self.next_deadline(now, deadline)].into_iter().flatten().min(),
        }
    }

    fn poll(&mut self, id: TaskId, now: Steady) -> Step {
        self.quota.spend(now);
        self.hold.probing(now);
        self.under_way += 1;
        if let Some(task) = self.tasks.get_mut(&id) {
            self.plan.sent(&task.watched.waiting(id));
            task.stage = Stage::UnderWay;
        }
        Step::Poll { task: id }
    }

    /// When the next poll may and should be sent, or when to ask again; `None`: only an event can
    /// tell.
    fn poll_at(&mut self, now: Steady) -> Option<(Steady, Option<TaskId>)> {
        if self.under_way >= UNDER_WAY_MAX || self.quota.permits() == 0 {
            return None;
        }
        let held_until = self.hold.opens(self.under_way)?;
        match self.plan.first(now, &self.quota) {
            First::Nothing => None,
            First::Ask(at) => Some((at.max(held_until), None)),
            First::Look(task) => {
                Some((self.quota.earliest(now).max(held_until).max(now), Some(task)))
            }
        }
    }

    /// A task whose time is over and whose last look is done, or cannot be had.
    fn over(&mut self, now: Steady) -> Option<TaskId> {
        let past: Vec<TaskId> =
            self.deadlines.range(..=(now, TaskId(i64::MAX))).map(|(_, id)| *id).collect();
        for id in past {
            let Some(task) = self.tasks.get_mut(&id) else { continue };
            let deadline = task.watched.give_up_at;
            let looked = task.watched.last_pending.or(task.watched.not_found_since);
            let fresh = looked.is_some_and(|at| at >= deadline.before(LAST_LOOK_FRESH));
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

    /// When a deadline next needs attention, given the earliest one.
    fn next_deadline(&self, now: Steady, earliest: Option<Steady>) -> Option<Steady> {
        let earliest = earliest?;
        if earliest > now {
            return Some(earliest);
        }
        // Some are past: they wait for their last look, the others for their deadline.
        let waiting = self.tasks_past(now).map(|deadline| deadline.after(LAST_LOOK_WAIT)).min();
        let coming =
            self.deadlines.range((now.after(Duration::from_millis(1)), TaskId(i64::MIN))..).next();
        [waiting, coming.map(|(at, _)| *at)].into_iter().flatten().min()
    }

    fn tasks_past(&self, now: Steady) -> impl Iterator<Item = Steady> + '_ {
        self.deadlines
            .range(..=(now, TaskId(i64::MAX)))
            .filter(|(_, id)| self.tasks.get(id).is_some_and(|task| task.stage == Stage::Planned))
            .map(|(at, _)| *at)
    }

    fn not_found(&mut self, id: TaskId, sent: Steady, now: Steady) -> Follows {
        let Some(task) = self.tasks.get_mut(&id) else { return Follows::Nothing };
        let since = *task.watched.not_found_since.get_or_insert(sent);
        if now.since(since) >= self.not_found_grace {
            task.stage = Stage::Ending;
            return Follows::Settle(crate::outcome::Outcome::unresolved(
                crate::outcome::Reason::TaskNotFound,
            ));
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

    // ---- what to show ----

    /// The task as the lane knows it.
    #[must_use]
    pub fn watched(&self, id: TaskId) -> Option<&Watched> {
        self.tasks.get(&id).map(|task| &task.watched)
    }

    /// How many tasks are watched.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether nothing is watched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Why the account is suspended and since when, if it is.
    #[must_use]
    pub fn suspended(&self) -> Option<(&AccountProblem, Steady)> {
        self.hold.suspended()
    }

    /// What the lane's schedule amounts to.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.plan.figures()
    }

    /// The lane's quota.
    #[must_use]
    pub fn quota(&self) -> &Quota {
        &self.quota
    }
}
