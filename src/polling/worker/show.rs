//! What a lane lets be seen: counters, its place on the board, and a log line when its account is
//! suspended or polls again.

use std::time::Duration;

use super::Worker;
use super::effects::Told;
use crate::clock::{Steady, Timestamp};
use crate::polling::board::{LaneStatus, Suspension};
use crate::polling::trouble::failing;
use crate::source::PollError;

/// What was shown last, and what is to be shown of the last answer.
#[derive(Debug, Default)]
pub(super) struct Shown {
    suspended: bool,
    failing: bool,
    pub(super) answered: Option<(Timestamp, &'static str)>,
}

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

    /// What keeps the lane from being answered, if it is not suspended.
    fn failing(&self, now: Steady) -> Option<Suspension> {
        let unanswered = self.lane.unanswered()?;
        let waits = self.lane.suspended().is_none() && !self.lane.is_empty();
        let since = self.wall_of(unanswered.since);
        failing(&self.name.account, unanswered, since, now).filter(|_| waits)
    }

    /// What is wrong with the account, if anything is.
    pub(super) fn trouble(&self) -> Option<Suspension> {
        self.suspension().or_else(|| self.failing(self.context.clock.steady()))
    }

    pub(super) fn show(&mut self) {
        let now = self.context.clock.steady();
        let suspension = self.suspension();
        let failing = self.failing(now);
        match (&failing, self.shown.failing) {
            (Some(why), false) => tracing::warn!(lane = %self.name, "{}", why.message),
            (None, true) if suspension.is_none() && !self.lane.is_empty() => tracing::info!(
                lane = %self.name, "Feishu answers polls of account {} again", self.name.account),
            (Some(_), true) | (None, _) => {}
        }
        self.shown.failing = failing.is_some();
        match (&suspension, self.shown.suspended) {
            (Some(why), false) => tracing::error!(lane = %self.name, reason = %why.reason,
                why = why.message, "account suspended; its tasks wait"),
            (None, true) => tracing::info!(lane = %self.name, "account polls again"),
            (Some(_), true) | (None, false) => {}
        }
        self.shown.suspended = suspension.is_some();
        let (polls_last_second, polls_last_minute) = self.lane.quota().used(now);
        self.context.board.post(
            &self.name,
            LaneStatus {
                suspended: suspension,
                failing,
                answered: self.shown.answered.map(|(at, word)| (at, word.into())),
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
