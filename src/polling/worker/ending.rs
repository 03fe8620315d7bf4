//! How a worker ends a task whose time is over, and takes one up again.

use std::sync::Arc;

use super::{Loading, Worker, effects};
use crate::polling::unresolved::at_deadline;
use crate::task::TaskId;

impl Worker {
    pub(super) fn give_up(&mut self, task: TaskId) {
        let Some(ending) = self.ending(task, None) else { return };
        let outcome = at_deadline(&ending.progress, &self.name.account, self.trouble().as_ref());
        let delivery_task_id = self.names.id(task);
        let reason = outcome.words().1;
        tracing::info!(lane = %self.name, delivery_task_id, polls = ending.progress.polls, reason,
            "a registration's time is over");
        let store = Arc::clone(&self.context.store);
        self.effects.push(effects::give_up(store, self.lease, ending, outcome));
    }

    /// Somebody may have registered the task again while its end was being stored: whoever read
    /// that change too early reads it again. And what is being read may show it as it was before.
    pub(super) fn has_ended(&mut self, task: TaskId) {
        if self.loading != Loading::Idle {
            self.ended.insert(task);
        }
        if let Some(version) = self.ending.remove(&task) {
            self.read_too_early(version);
            self.load();
        }
    }

    /// With the next load.
    pub(super) fn read_too_early(&mut self, version: u64) {
        let before = self.again_from.unwrap_or(version);
        self.again_from = Some(before.min(version));
    }
}
