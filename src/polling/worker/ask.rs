//! What a worker answers when somebody asks how watching one task goes.

use super::Worker;
use crate::polling::board::{Question, TaskView};
use crate::source::{PollError, TransientClass};
use crate::store::Progress;
use crate::task::TaskId;
use crate::watching::Answer;

impl Worker {
    pub(super) fn answer(&self, question: Question) {
        let Question { task, reply } = question;
        if let Some(progress) = self.progress(task) {
            let next = self.lane.task_status(task).and_then(|status| status.next_poll_at);
            let now = self.context.clock.steady();
            let next_poll_at = next.map(|at| self.wall_of(at.max(now)));
            // Whoever asked may have gone.
            let _ = reply.send(TaskView { progress, next_poll_at });
        }
    }

    pub(super) fn progress(&self, task: TaskId) -> Option<Progress> {
        let watched = self.lane.watched(task)?;
        let status = self.lane.task_status(task)?;
        let failed = status.failure.map(|failure| (failure.at, answer_of(&failure.error)));
        let answer = match watched.not_found_since {
            Some(_) => Answer::NotFound,
            None => Answer::Pending,
        };
        let last = failed.or(status.answered_at.map(|at| (at, answer)));
        Some(Progress {
            polls: watched.polls,
            last_pending_at: watched.last_pending.map(|at| self.wall_of(at)),
            not_found_since: watched.not_found_since.map(|at| self.wall_of(at)),
            last_polled_at: last.map(|(at, _)| self.wall_of(at)),
            last_answer: last.map(|(_, answer)| answer),
        })
    }
}

fn answer_of(error: &PollError) -> Answer {
    match error {
        PollError::Quota { .. } => Answer::RateLimited,
        PollError::Account(_) | PollError::Token => Answer::Error(None),
        PollError::Transient { class, .. } => match class {
            TransientClass::Code(code) => Answer::Error(Some(*code)),
            TransientClass::Network
            | TransientClass::Timeout
            | TransientClass::Upstream
            | TransientClass::Unreadable => Answer::NoAnswer,
        },
    }
}
