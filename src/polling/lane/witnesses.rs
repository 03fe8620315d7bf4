//! Which tasks were answered lately: those to ask when another one casts doubt on the account or
//! the upstream.

use std::collections::VecDeque;

use crate::task::TaskId;

const WITNESSES_MAX: usize = 16;

/// Tasks answered lately.
#[derive(Debug, Default)]
pub(super) struct Witnesses(VecDeque<TaskId>);

impl Witnesses {
    pub(super) fn answered(&mut self, task: TaskId) {
        if self.0.len() == WITNESSES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(task);
    }

    /// The one answered last first.
    pub(super) fn iter(&self) -> impl Iterator<Item = TaskId> {
        self.0.iter().rev().copied()
    }
}
