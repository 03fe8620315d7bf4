//! Which task to poll next, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::clock::Steady;
use crate::task::TaskId;

/// The shortest wait between two looks at one task.
const GAP_MIN: Duration = Duration::from_millis(500);
/// A task is looked at again when it is this share older.
const GAP_SHARE: u32 = 8;

/// The schedule of one lane.
#[derive(Debug, Default)]
pub struct Plan {
    tasks: BTreeMap<TaskId, Planned>,
    due: BTreeSet<(Steady, TaskId)>,
}

#[derive(Debug)]
struct Planned {
    born: Steady,
    due: Option<Steady>,
}

impl Plan {
    /// An empty schedule.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Plans a task that was registered at `born` and last seen pending then.
    pub fn insert(
        &mut self,
        task: TaskId,
        born: Steady,
        last_pending: Option<Steady>,
        now: Steady,
    ) {
        self.remove(task);
        self.tasks.insert(task, Planned { born, due: None });
        let due = next_look(born, last_pending.unwrap_or(born)).max(now);
        self.schedule(task, due);
    }

    /// Plans no more looks at a task.
    pub fn remove(&mut self, task: TaskId) {
        if let Some(Planned { due: Some(due), .. }) = self.tasks.remove(&task) {
            self.due.remove(&(due, task));
        }
    }

    /// The task to look at first, and when that is worth it.
    #[must_use]
    pub fn first(&self) -> Option<(Steady, TaskId)> {
        self.due.first().copied()
    }

    /// Makes a task the first to be looked at.
    pub fn hurry(&mut self, task: TaskId) {
        self.schedule(task, Steady(i64::MIN));
    }

    /// A look at this task is under way: it is not looked at again meanwhile.
    pub fn sent(&mut self, task: TaskId) {
        if let Some(planned) = self.tasks.get_mut(&task)
            && let Some(due) = planned.due.take()
        {
            self.due.remove(&(due, task));
        }
    }

    /// It was still pending at `looked`.
    pub fn pending(&mut self, task: TaskId, looked: Steady) {
        if let Some(planned) = self.tasks.get(&task) {
            let due = next_look(planned.born, looked);
            self.schedule(task, due);
        }
    }

    /// The look told nothing: look again at `at`.
    pub fn unanswered(&mut self, task: TaskId, at: Steady) {
        self.schedule(task, at);
    }

    /// How many tasks are planned.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether nothing is planned.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    fn schedule(&mut self, task: TaskId, due: Steady) {
        let Some(planned) = self.tasks.get_mut(&task) else { return };
        if let Some(old) = planned.due.replace(due) {
            self.due.remove(&(old, task));
        }
        self.due.insert((due, task));
    }
}

fn next_look(born: Steady, looked: Steady) -> Steady {
    looked.after((looked.since(born) / GAP_SHARE).max(GAP_MIN))
}
