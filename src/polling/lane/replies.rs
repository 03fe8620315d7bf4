//! What follows from a reply, or from none.

use std::time::Duration;

use super::{Follows, Lane, Stage};
use crate::clock::Steady;
use crate::outcome::{Outcome, Reason};
use crate::polling::failing::{Fault, Warning};
use crate::polling::hold::Witness;
use crate::source::{Observation, PollError};
use crate::task::TaskId;

/// What to wait when Feishu says "quota exceeded" without saying for how long.
const RESET_UNSAID: Duration = Duration::from_secs(10);

impl Lane {
    /// The source is ready to poll, or says why not.
    pub fn prepared(&mut self, result: Result<(), PollError>, now: Steady) {
        self.preparing = false;
        let Err(error) = result else {
            self.prepared = true;
            return;
        };
        self.prepared = false;
        match error {
            // The token's word is the account's own.
            PollError::Account(problem) => self.hold.suspend(problem, now),
            PollError::Quota { reset } => self.quota.refused(reset.unwrap_or(RESET_UNSAID), now),
            PollError::Token | PollError::Transient { .. } => {
                self.hold.unprepared(&error.to_string(), now);
            }
        }
    }

    /// The poll that was sent then is answered.
    pub fn replied(
        &mut self,
        id: TaskId,
        sent: Steady,
        result: Result<Observation, PollError>,
        now: Steady,
    ) -> Follows {
        self.under_way -= 1;
        self.quota.replied(sent, now);
        // A task that was forgotten meanwhile, and perhaps is watched anew, waits for no answer.
        let waits = self.tasks.get(&id).is_some_and(|task| task.stage == Stage::UnderWay);
        match result {
            Ok(observation) => {
                self.answers += 1;
                self.answered_at = Some(now);
                self.hold.clear();
                if !waits {
                    return Follows::Nothing;
                }
                self.failing.answered(id);
                self.answered(id, sent, observation, now)
            }
            Err(error) => {
                let fault = if waits {
                    self.failing.failed(id, &error, self.answers, self.answered_at, now)
                } else {
                    Fault::Unknown { again: true }
                };
                let proven = self.tasks.get(&id).is_some_and(|task| task.watched.polls > 0);
                self.trouble(error, fault, (sent, proven), now);
                if waits {
                    self.retry(id, now);
                }
                Follows::Nothing
            }
        }
    }

    /// Failing tasks that a person should hear of, each once.
    pub fn warnings(&mut self) -> Vec<Warning> {
        self.failing.warnings()
    }

    fn answered(
        &mut self,
        id: TaskId,
        sent: Steady,
        observation: Observation,
        now: Steady,
    ) -> Follows {
        let Some(task) = self.tasks.get_mut(&id) else { return Follows::Nothing };
        task.watched.polls += 1;
        task.looked = Some(sent);
        let waiting = task.watched.waiting(id);
        match observation {
            Observation::Settled(outcome) => {
                self.plan.settled(&waiting, now);
                return self.settle(id, outcome);
            }
            Observation::Pending { .. } => {
                self.witnesses.answered(id);
                task.stage = Stage::Planned;
                task.watched.last_pending = Some(sent);
                task.watched.not_found_since = None;
                self.plan.pending(&waiting, sent);
            }
            Observation::NotFound => {
                let since = *task.watched.not_found_since.get_or_insert(sent);
                if now.since(since) >= self.not_found_grace {
                    return self.settle(id, Outcome::unresolved(Reason::TaskNotFound));
                }
                let confirm_at = since.after(self.not_found_grace);
                let halfway = sent.after(self.not_found_grace / 4);
                self.look_again(id, halfway.min(confirm_at));
            }
        }
        if let Some(ends) = self.deadlines.ends_of(id) {
            self.unplan(id);
            self.answered_past(id, sent, ends, now);
        }
        Follows::Nothing
    }

    fn settle(&mut self, id: TaskId, outcome: Outcome) -> Follows {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.stage = Stage::Settling;
            self.settling += 1;
        }
        Follows::Settle(Box::new(outcome))
    }

    pub(super) fn look_again(&mut self, id: TaskId, at: Steady) {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.stage = Stage::Planned;
            self.plan.look_at(&task.watched.waiting(id), at);
        }
    }

    fn unplan(&mut self, id: TaskId) {
        if let Some(task) = self.tasks.get(&id) {
            self.plan.remove(&task.watched.waiting(id));
        }
    }

    fn retry(&mut self, id: TaskId, now: Steady) {
        if let Some(ends) = self.deadlines.ends_of(id) {
            return self.failed_past(id, ends, now);
        }
        if let Some(task) = self.tasks.get_mut(&id) {
            task.stage = Stage::Failing;
            self.failing.retry(id);
        }
    }

    /// What a poll without an answer means for the lane.
    fn trouble(
        &mut self,
        error: PollError,
        fault: Fault,
        (sent, proven): (Steady, bool),
        now: Steady,
    ) {
        if matches!(error, PollError::Token) {
            // Whosever fault it is, the token has been dropped.
            self.prepared = false;
        }
        let Fault::Unknown { again } = fault else { return };
        let witness = Witness { sent, again, alone: !self.has_others(), proven };
        match error {
            PollError::Account(problem) => self.hold.accuse(problem, witness, now),
            PollError::Token => self.hold.token_refused(witness, now),
            PollError::Quota { reset } => {
                if self.hold.short_of_quota(witness, now) {
                    self.quota.refused(reset.unwrap_or(RESET_UNSAID), now);
                }
            }
            PollError::Transient { detail, .. } => self.hold.failed(&detail, now),
        }
        if self.hold.suspended().is_some() {
            // The next poll asks for a token first: whoever mends the account may change it.
            self.prepared = false;
        }
    }
}
