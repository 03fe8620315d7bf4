//! Tasks whose last poll got no answer, and whose fault that is.
//!
//! A task that fails while other tasks are answered fails by itself: it backs off, and all such
//! tasks together get a share of the quota. A task that fails while no task is answered says
//! nothing about itself: it is retried as soon as the lane polls again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::clock::Steady;
use crate::source::PollError;
use crate::task::TaskId;

/// The wait before a retry; it doubles with every failure that is the task's own.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// Doublings: `RETRY_FIRST` times 2^6 is more than `RETRY_MAX`.
const STRIKES_MAX: u8 = 6;
/// A task that has failed by itself proves nothing about the others, unless none has been answered
/// for so long.
const ANSWERED_LATELY: Duration = Duration::from_secs(60);
/// Tasks that fail by themselves get one poll in so many that the quota allows.
pub const QUOTA_SHARE: u32 = 4;
/// Among them those that have failed least often go first, except at every so many.
const LONGEST_DUE_EVERY: u32 = 4;
/// A task that was answered again earns so many retries of others at once: after an outage that
/// came and went, retries double until all are back.
const EARNED_BY_RECOVERY: usize = 2;
/// Strikes at which a person is told: a single bad reply is no news.
const WARN_AT: u8 = 3;
/// An account's code from one task alone is rare, and a person can act on it.
const WARN_OF_ACCOUNT_AT: u8 = 1;
/// Tasks that a person is told of within a minute; the rest are counted.
const WARNINGS_MAX: usize = 10;
const WARNINGS_SPAN: Duration = Duration::from_secs(60);

/// A task whose last poll got no answer.
#[derive(Clone, Debug)]
pub struct Failure {
    /// When the first of its unanswered polls failed.
    pub since: Steady,
    /// When the last one failed.
    pub at: Steady,
    /// How many in a row.
    pub polls: u32,
    /// What the last one came to.
    pub error: PollError,
    /// Failures that were its own.
    strikes: u8,
    /// The lane's answers when it last failed.
    answers: u64,
    retry_at: Option<Steady>,
    warned: bool,
}

/// Whose fault an unanswered poll is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The task's own: others were answered since it last failed.
    Own,
    /// Nobody can tell yet.
    Unknown {
        /// It is not its first failure in a row.
        again: bool,
    },
}

/// A failing task that a person should hear of.
#[derive(Clone, Debug)]
pub struct Warning {
    /// Which.
    pub task: TaskId,
    /// How it fails.
    pub error: PollError,
    /// Others of which nothing was said, to keep the log readable.
    pub unsaid: u64,
}

/// The failing tasks of one lane.
#[derive(Debug)]
pub struct Failing {
    tasks: BTreeMap<TaskId, Failure>,
    /// Those that wait for a retry, by their strikes.
    retries: [BTreeSet<(Steady, TaskId)>; STRIKES_MAX as usize + 1],
    /// Before then the share of the quota is used up.
    share_at: Steady,
    share_sent: u32,
    earned: usize,
    warnings: Vec<Warning>,
    warned: usize,
    warned_since: Steady,
    unsaid: u64,
}

impl Default for Failing {
    fn default() -> Self {
        Self {
            tasks: BTreeMap::new(),
            retries: std::array::from_fn(|_| BTreeSet::new()),
            share_at: Steady(i64::MIN),
            share_sent: 0,
            earned: 0,
            warnings: Vec::new(),
            warned: 0,
            warned_since: Steady(i64::MIN),
            unsaid: 0,
        }
    }
}

impl Failing {
    // ---- what polls came to ----

    /// A poll of this task got no answer. `answers` counts those of all tasks of the lane; the last
    /// of them came at `answered_at`.
    pub fn failed(
        &mut self,
        task: TaskId,
        error: &PollError,
        answers: u64,
        answered_at: Option<Steady>,
        now: Steady,
    ) -> Fault {
        self.take(task);
        let again = self.tasks.contains_key(&task);
        let failure = self.tasks.entry(task).or_insert_with(|| Failure {
            since: now,
            at: now,
            polls: 0,
            error: error.clone(),
            strikes: 0,
            answers,
            retry_at: None,
            warned: false,
        });
        let others_answered = failure.answers < answers;
        (failure.at, failure.answers) = (now, answers);
        failure.polls = failure.polls.saturating_add(1);
        failure.error.clone_from(error);
        if !others_answered {
            let lately = answered_at.is_some_and(|at| now.since(at) < ANSWERED_LATELY);
            let known = failure.strikes > 0 && lately;
            return if known { Fault::Own } else { Fault::Unknown { again } };
        }
        failure.strikes = (failure.strikes + 1).min(STRIKES_MAX);
        self.warn(task, now);
        Fault::Own
    }

    /// A poll of this task was answered.
    pub fn answered(&mut self, task: TaskId) {
        self.take(task);
        if self.tasks.remove(&task).is_some_and(|failure| failure.strikes > 0) {
            self.earned = (self.earned + EARNED_BY_RECOVERY).min(self.count_own());
        }
    }

    /// It is not watched any more.
    pub fn forget(&mut self, task: TaskId) {
        self.take(task);
        self.tasks.remove(&task);
    }

    // ---- retries ----

    /// Retries this task after its wait.
    pub fn retry(&mut self, task: TaskId) {
        let Some(at) = self.retry_at(task) else { return };
        let Some(failure) = self.tasks.get_mut(&task) else { return };
        failure.retry_at = Some(at);
        self.retries[usize::from(failure.strikes)].insert((at, task));
    }

    /// When a failing task may be polled again.
    pub fn retry_at(&self, task: TaskId) -> Option<Steady> {
        let failure = self.tasks.get(&task)?;
        let wait = RETRY_FIRST.saturating_mul(1 << failure.strikes).min(RETRY_MAX);
        Some(failure.at.after(wait))
    }

    /// This task does not wait for a retry any more.
    pub fn take(&mut self, task: TaskId) {
        let Some(failure) = self.tasks.get_mut(&task) else { return };
        if let Some(at) = failure.retry_at.take() {
            self.retries[usize::from(failure.strikes)].remove(&(at, task));
        }
    }

    /// The first retry of a task that may well be healthy.
    pub fn first(&self) -> Option<(Steady, TaskId)> {
        self.retries[0].first().copied()
    }

    /// The next retry of a task that fails by itself, within the share of the quota.
    pub fn first_own(&self, now: Steady) -> Option<(Steady, TaskId)> {
        if self.earned > 0 {
            return self.own().find_map(|retries| retries.first()).map(|(_, task)| (now, *task));
        }
        let from = now.max(self.share_at);
        let longest_due = self.own().filter_map(|retries| retries.first()).min().copied();
        let by_strikes =
            self.own().filter_map(|retries| retries.first()).find(|(at, _)| *at <= from);
        let oldest = self.share_sent % LONGEST_DUE_EVERY == LONGEST_DUE_EVERY - 1;
        let (at, task) = by_strikes.copied().filter(|_| !oldest).or(longest_due)?;
        Some((at.max(self.share_at), task))
    }

    /// A retry is sent; polls are `spacing` apart when they use up the share.
    pub fn sent(&mut self, task: TaskId, spacing: Duration, now: Steady) {
        self.take(task);
        if self.tasks.get(&task).is_none_or(|failure| failure.strikes == 0) {
            return;
        }
        if self.earned > 0 {
            self.earned -= 1;
        } else {
            self.share_at = now.after(spacing);
            self.share_sent = self.share_sent.wrapping_add(1);
        }
    }

    fn own(&self) -> impl Iterator<Item = &BTreeSet<(Steady, TaskId)>> {
        self.retries[1..].iter().filter(|retries| !retries.is_empty())
    }

    // ---- what is known ----

    /// How this task fails, if its last poll got no answer.
    pub fn get(&self, task: TaskId) -> Option<&Failure> {
        self.tasks.get(&task)
    }

    /// How many tasks wait for a retry.
    pub fn waiting(&self) -> usize {
        self.retries.iter().map(BTreeSet::len).sum()
    }

    /// How many tasks fail by themselves.
    pub fn count_own(&self) -> usize {
        self.own().map(BTreeSet::len).sum()
    }

    /// Which tasks a person should hear of, each once.
    pub fn warnings(&mut self) -> Vec<Warning> {
        std::mem::take(&mut self.warnings)
    }

    fn warn(&mut self, task: TaskId, now: Steady) {
        let Some(failure) = self.tasks.get_mut(&task) else { return };
        let of_account = matches!(failure.error, PollError::Account(_) | PollError::Token);
        let at = if of_account { WARN_OF_ACCOUNT_AT } else { WARN_AT };
        if failure.warned || failure.strikes < at {
            return;
        }
        failure.warned = true;
        if self.warned_since.after(WARNINGS_SPAN) <= now {
            (self.warned, self.warned_since) = (0, now);
        }
        if self.warned >= WARNINGS_MAX {
            self.unsaid += 1;
            return;
        }
        self.warned += 1;
        let unsaid = std::mem::take(&mut self.unsaid);
        self.warnings.push(Warning { task, error: failure.error.clone(), unsaid });
    }
}

#[cfg(test)]
mod tests;
