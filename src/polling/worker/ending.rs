//! How a worker ends a task whose time is over, and takes one up again.

use std::sync::Arc;

use super::Worker;
use super::effects;
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
    /// that change too early reads it again.
    pub(super) fn read_again(&mut self, task: TaskId) {
        if let Some(version) = self.ending.remove(&task) {
            self.version = self.version.min(version.saturating_sub(1));
            self.load();
        }
    }
}
