//! Looks at a set time: again after one that told nothing, or at once before time runs out.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::Steady;
use crate::task::TaskId;

/// Looks at a set time, one a task.
#[derive(Debug, Default)]
pub struct Appointments {
    at: BTreeMap<TaskId, Steady>,
    order: BTreeSet<(Steady, TaskId)>,
}

impl Appointments {
    /// Looks at this task at `at`, and at no other time.
    pub fn make(&mut self, task: TaskId, at: Steady) {
        if let Some(old) = self.at.insert(task, at) {
            self.order.remove(&(old, task));
        }
        self.order.insert((at, task));
    }

    /// Calls a look off. Whether there was one.
    pub fn remove(&mut self, task: TaskId) -> bool {
        let Some(at) = self.at.remove(&task) else { return false };
        self.order.remove(&(at, task))
    }

    /// The first one.
    #[must_use]
    pub fn first(&self) -> Option<(Steady, TaskId)> {
        self.order.first().copied()
    }

    /// When this task is to be looked at, if that is set.
    #[must_use]
    pub fn of(&self, task: TaskId) -> Option<Steady> {
        self.at.get(&task).copied()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.at.len()
    }
}
