//! When tasks give up, and what becomes of those whose time is over: a final poll, a wait for its
//! answer, the end. Each step costs the logarithm of how many there are.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::Steady;
use crate::task::TaskId;

/// Every watched task's deadline.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    coming: BTreeSet<(Steady, TaskId)>,
    /// Tasks past their deadline that wait for a final poll or its answer.
    past: BTreeMap<TaskId, Past>,
    /// Final polls, by when they may be sent.
    finals: BTreeSet<(Steady, TaskId)>,
    /// By when the wait for a final poll is over.
    ends: BTreeSet<(Steady, TaskId)>,
    /// Tasks to be given up, by when they were found to be.
    over: BTreeSet<(Steady, TaskId)>,
}

#[derive(Clone, Copy, Debug)]
struct Past {
    poll_at: Option<Steady>,
    ends: Steady,
}

impl Deadlines {
    pub(super) fn insert(&mut self, task: TaskId, at: Steady) {
        self.coming.insert((at, task));
    }

    /// Gives back what growing one by one has left unused.
    pub(super) fn compact(&mut self) {
        self.coming = std::mem::take(&mut self.coming).into_iter().collect();
    }

    pub(super) fn remove(&mut self, task: TaskId, at: Steady) {
        self.coming.remove(&(at, task));
        if let Some(past) = self.past.remove(&task) {
            self.ends.remove(&(past.ends, task));
            self.over.remove(&(past.ends, task));
            if let Some(at) = past.poll_at {
                self.finals.remove(&(at, task));
            }
        }
    }

    /// The next task whose deadline has come, each once.
    pub(super) fn pop_expired(&mut self, now: Steady) -> Option<TaskId> {
        pop_until(&mut self.coming, now)
    }

    /// The next task whose wait for a final poll is over, each once.
    pub(super) fn pop_ended(&mut self, now: Steady) -> Option<TaskId> {
        pop_until(&mut self.ends, now)
    }

    /// From now until `ends` this task waits for its final poll, or for the answer of a poll that
    /// is under way.
    pub(super) fn wait_for_final(&mut self, task: TaskId, ends: Steady) {
        self.past.insert(task, Past { poll_at: None, ends });
        self.ends.insert((ends, task));
    }

    /// Sends its final poll then.
    pub(super) fn poll_finally(&mut self, task: TaskId, at: Steady) {
        let Some(past) = self.past.get_mut(&task) else { return };
        if let Some(before) = past.poll_at.replace(at) {
            self.finals.remove(&(before, task));
        }
        self.finals.insert((at, task));
    }

    /// Its final poll is sent, or not needed.
    pub(super) fn sent(&mut self, task: TaskId) {
        if let Some(at) = self.past.get_mut(&task).and_then(|past| past.poll_at.take()) {
            self.finals.remove(&(at, task));
        }
    }

    /// Until when a task past its deadline waits for its final poll; `None`: it is not past it.
    pub(super) fn ends_of(&self, task: TaskId) -> Option<Steady> {
        self.past.get(&task).map(|past| past.ends)
    }

    /// It is to be given up.
    pub(super) fn end(&mut self, task: TaskId) {
        self.sent(task);
        let Some(past) = self.past.get(&task) else { return };
        self.ends.remove(&(past.ends, task));
        self.over.insert((past.ends, task));
    }

    /// The next task to be given up.
    pub(super) fn pop_over(&mut self) -> Option<TaskId> {
        let (_, task) = self.over.pop_first()?;
        self.past.remove(&task);
        Some(task)
    }

    /// The first final poll.
    pub(super) fn first_final(&self) -> Option<(Steady, TaskId)> {
        self.finals.first().copied()
    }

    pub(super) fn final_poll_at(&self, task: TaskId) -> Option<Steady> {
        self.past.get(&task).and_then(|past| past.poll_at)
    }

    /// How many final polls wait to be sent.
    pub(super) fn finals(&self) -> usize {
        self.finals.len()
    }

    /// When there is something to do: at once, if a step has left something.
    pub(super) fn wake_at(&self) -> Option<Steady> {
        let first = |set: &BTreeSet<(Steady, TaskId)>| set.first().map(|(at, _)| *at);
        [first(&self.coming), first(&self.ends)].into_iter().flatten().min()
    }
}

fn pop_until(set: &mut BTreeSet<(Steady, TaskId)>, now: Steady) -> Option<TaskId> {
    let (at, task) = *set.first()?;
    (at <= now).then(|| {
        set.pop_first();
        task
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_final_poll_is_known_until_it_is_sent() {
        let mut deadlines = Deadlines::default();
        let (first, second) = (TaskId(1), TaskId(2));
        deadlines.wait_for_final(first, Steady(50));
        assert_eq!(deadlines.final_poll_at(first), None);
        deadlines.poll_finally(first, Steady(9));
        deadlines.poll_finally(first, Steady(7));
        deadlines.poll_finally(second, Steady(8));
        assert_eq!((deadlines.finals(), deadlines.final_poll_at(first)), (1, Some(Steady(7))));
        deadlines.wait_for_final(second, Steady(50));
        deadlines.poll_finally(second, Steady(8));
        assert_eq!((deadlines.finals(), deadlines.first_final()), (2, Some((Steady(7), first))));
        deadlines.sent(first);
        assert_eq!((deadlines.finals(), deadlines.final_poll_at(first)), (1, None));
    }
}
