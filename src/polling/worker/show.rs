//! What a lane lets be seen: counters, its place on the board, and a log line when its account is
//! suspended or polls again.

use std::time::Duration;

use super::Worker;
use super::effects::Told;
use crate::polling::board::{LaneStatus, Suspension};
use crate::source::PollError;

impl Worker {
    pub(super) fn count<T: Told>(&self, what: &str, result: &Result<T, PollError>, took: Duration) {
        let word = match result {
            Ok(told) => told.word(),
            Err(PollError::Account(_)) => "account",
            Err(PollError::Quota { .. }) => "quota",
            Err(PollError::Token) => "token",
            Err(PollError::Transient { class, .. }) => class.name(),
        };
        if let Err(error @ (PollError::Quota { .. } | PollError::Transient { .. })) = result {
            tracing::debug!(lane = %self.name, what, result = word, %error, "no answer");
        }
        if what == "poll" {
            self.context.metrics.poll(&self.name, word, took);
        }
    }

    pub(super) fn suspension(&self) -> Option<Suspension> {
        self.lane.suspended().map(|(problem, since)| Suspension {
            reason: problem.reason.into(),
            message: problem.message.clone(),
            since: self.wall_of(since),
        })
    }

    pub(super) fn show(&mut self) {
        let now = self.context.clock.steady();
        let suspension = self.suspension();
        match (&suspension, self.suspended) {
            (Some(why), false) => tracing::error!(lane = %self.name, reason = %why.reason,
                why = why.message, "account suspended; its tasks wait"),
            (None, true) => tracing::info!(lane = %self.name, "account polls again"),
            (Some(_), true) | (None, false) => {}
        }
        self.suspended = suspension.is_some();
        let (polls_last_second, polls_last_minute) = self.lane.quota().used(now);
        self.context.board.post(
            &self.name,
            LaneStatus {
                suspended: suspension,
                watched: self.lane.len() as u64,
                polls_last_second,
                polls_last_minute,
                quota: self.lane.quota().limits(),
                figures: self.lane.figures(),
                alive_at: now,
            },
        );
    }
}

impl Worker {
    /// Tells a person of tasks that fail while others are answered, each once.
    pub(super) fn warn(&mut self) {
        for warning in self.lane.warnings() {
            let delivery_task_id = self.names.id(warning.task);
            tracing::warn!(lane = %self.name, delivery_task_id, error = %warning.error,
                unsaid = warning.unsaid,
                "Feishu answers other tasks but not this one: it is polled less and less often");
        }
    }
}
