//! When tasks give up, in order of time.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::clock::Steady;
use crate::task::TaskId;

/// Every watched task's deadline.
#[derive(Debug, Default)]
pub(super) struct Deadlines(BTreeSet<(Steady, TaskId)>);

impl Deadlines {
    pub(super) fn insert(&mut self, task: TaskId, at: Steady) {
        self.0.insert((at, task));
    }

    /// Gives back what growing one by one has left unused.
    pub(super) fn compact(&mut self) {
        self.0 = std::mem::take(&mut self.0).into_iter().collect();
    }

    pub(super) fn remove(&mut self, task: TaskId, at: Steady) {
        self.0.remove(&(at, task));
    }

    /// The tasks whose deadline is past, longest past first.
    pub(super) fn past(&self, now: Steady) -> Vec<TaskId> {
        self.0.range(..=(now, TaskId(i64::MAX))).map(|(_, task)| *task).collect()
    }

    /// The first deadline that is yet to come.
    pub(super) fn coming(&self, now: Steady) -> Option<Steady> {
        let next = now.after(Duration::from_millis(1));
        self.0.range((next, TaskId(i64::MIN))..).next().map(|(at, _)| *at)
    }
}
