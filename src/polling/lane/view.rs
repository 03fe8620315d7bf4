//! What a lane shows, and what it keeps for its next owner.

use super::{Lane, Stage, Watched};
use crate::clock::Steady;
use crate::polling::failing::Failure;
use crate::polling::hold::Unanswered;
use crate::polling::plan::figures::Figures;
use crate::polling::plan::study::Study;
use crate::polling::quota::Quota;
use crate::source::AccountProblem;
use crate::task::TaskId;

/// How polling one task goes.
#[derive(Clone, Copy, Debug)]
pub struct TaskStatus<'a> {
    /// When its last poll that was answered was sent.
    pub answered_at: Option<Steady>,
    /// How it fails, if its last poll got no answer.
    pub failure: Option<&'a Failure>,
    /// When it will be polled next, by what is known now and if the quota allows; `None`: a poll
    /// is under way, or its end is being stored.
    pub next_poll_at: Option<Steady>,
}

impl Lane {
    /// How polling this task goes.
    #[must_use]
    pub fn task_status(&self, id: TaskId) -> Option<TaskStatus<'_>> {
        let task = self.tasks.get(&id)?;
        let next_poll_at = match task.stage {
            Stage::Planned => Some(self.plan.next_look(&task.watched.waiting(id))),
            Stage::Failing => self.failing.retry_at(id),
            Stage::Past => self.deadlines.final_poll_at(id),
            Stage::UnderWay | Stage::Settling | Stage::GivingUp => None,
        };
        let failure = self.failing.get(id);
        Some(TaskStatus { answered_at: task.looked, failure, next_poll_at })
    }

    /// Polls in a row without an answer, of tasks that do not fail by themselves.
    #[must_use]
    pub fn unanswered(&self) -> Option<&Unanswered> {
        self.hold.unanswered()
    }

    /// How many tasks fail while others are answered.
    #[must_use]
    pub fn failing_tasks(&self) -> usize {
        self.failing.count_own()
    }

    /// The task as the lane knows it.
    #[must_use]
    pub fn watched(&self, id: TaskId) -> Option<&Watched> {
        self.tasks.get(&id).map(|task| &task.watched)
    }

    /// Whether the task's end is being stored.
    #[must_use]
    pub fn is_ending(&self, id: TaskId) -> bool {
        self.tasks
            .get(&id)
            .is_some_and(|task| matches!(task.stage, Stage::Settling | Stage::GivingUp))
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

    /// What the lane's schedule amounts to, once something is known about its tasks.
    #[must_use]
    pub fn figures(&self) -> Option<Figures> {
        self.plan.figures()
    }

    /// What there is to learn, if that is worth its while: to be worked out beside the polls, then
    /// handed to [`Lane::learned`]. Ask when [`Lane::next`] says to wait.
    pub fn study(&mut self) -> Option<Study> {
        self.plan.study()
    }

    /// From now on goes by what was learned.
    pub fn learned(&mut self, study: Study) {
        self.plan.learned(study);
    }

    /// What the lane has learned about its tasks since it was last asked, to be kept for
    /// [`Lane::remember`].
    #[must_use]
    pub fn memory(&mut self) -> Option<Vec<u8>> {
        self.plan.memory()
    }

    /// Takes up what an earlier owner had learned. Anything unreadable is as good as nothing.
    pub fn remember(&mut self, memory: &[u8]) {
        self.plan.remember(memory);
    }

    /// Chooses anew which tasks are looked at out of curiosity: for replays that differ.
    pub fn reseed(&mut self, seed: u64) {
        self.plan.reseed(seed);
    }

    /// Gives back what taking in many tasks one by one has left unused.
    pub fn compact(&mut self) {
        self.tasks = std::mem::take(&mut self.tasks).into_iter().collect();
        self.deadlines.compact();
    }

    /// The lane's quota.
    #[must_use]
    pub fn quota(&self) -> &Quota {
        &self.quota
    }
}
