//! What keeps a lane from polling for a while: a suspended account, a refused token, an upstream
//! that fails. Each backs off, and ends with the first poll that gets an answer.
//!
//! One task's word is not enough for any of it: before the lane waits, another task is polled.

use std::time::Duration;

use crate::clock::Steady;
use crate::source::AccountProblem;

const SUSPENDED_FIRST: Duration = Duration::from_secs(5);
/// One poll a minute costs nothing, and whoever has mended the account is watching.
const SUSPENDED_MAX: Duration = Duration::from_secs(60);
/// Failures in a row before the lane slows down: single ones are the network's everyday life.
const FAILURES_FREE: u32 = 5;
const FAILING_FIRST: Duration = Duration::from_secs(1);
/// A poll every few seconds costs a failing upstream nothing, and everything that settles meanwhile
/// is told that much later.
const FAILING_MAX: Duration = Duration::from_secs(5);
/// Polls at once into a failing upstream. Several, because one may fail for its own task's sake,
/// and must not keep the others waiting.
const FAILING_POLLS: usize = 8;
/// Other tasks polled at once when the lane begins to wait; so many must say so too before an
/// account counts as suspended. Several, because tasks may share a fault of their own.
const WITNESSES: u32 = 3;
/// How long the lane waits for them before it goes on.
const WITNESSES_WAIT: Duration = Duration::from_secs(1);
/// Tokens refused in a row before that counts as the account's: Feishu may hand out the same
/// token again, so refusals must not become a loop.
const TOKENS_REFUSED_FREE: u32 = 1;
/// Refusals within this time after the first belong to polls sent with the same token.
const TOKEN_REFUSAL_SPAN: Duration = Duration::from_secs(3);

/// What keeps a lane from polling.
#[derive(Debug, Default)]
pub struct Hold {
    unanswered: Option<Unanswered>,
    /// Pauses in a row because of failures. Not the failures themselves: those of many polls that
    /// were under way together are one outage, not a long one.
    pauses: u32,
    refusals: u32,
    refused_at: Option<Steady>,
    /// When a poll was first refused for lack of quota, and how many were that were sent later.
    short_of_quota: Option<(Steady, u32)>,
    accused: Option<Accused>,
    suspensions: u32,
    suspended: Option<(AccountProblem, Steady)>,
    until: Option<Steady>,
    /// Tasks that may be polled before `until`, to hear what others say.
    witnesses: u32,
}

/// Polls without an answer, in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unanswered {
    /// How many.
    pub polls: u32,
    /// Since when.
    pub since: Steady,
    /// What the last one came to.
    pub error: String,
}

/// The account cannot poll, says a task.
#[derive(Debug)]
struct Accused {
    at: Steady,
    /// Tasks that say so.
    tasks: u32,
    /// Those of them that were polled after the first one had said so.
    witnesses: u32,
}

/// Who says that the account cannot poll.
#[derive(Clone, Copy, Debug)]
pub struct Witness {
    /// When its poll was sent.
    pub sent: Steady,
    /// It failed before, and nobody was answered since.
    pub again: bool,
    /// No other task could say otherwise.
    pub alone: bool,
    /// It has been answered before.
    pub proven: bool,
}

impl Hold {
    /// When polls may be sent, with so many under way; `None`: when some of those are answered.
    #[must_use]
    pub fn opens(&self, under_way: usize) -> Option<Steady> {
        let polls = if self.suspended.is_some() { 1 } else { FAILING_POLLS };
        match self.until {
            None => Some(Steady(i64::MIN)),
            Some(_) if under_way >= polls => None,
            Some(until) => Some(until),
        }
    }

    /// How many other tasks should be polled at once.
    #[must_use]
    pub fn witnesses_wanted(&self, now: Steady) -> u32 {
        if self.until.is_some_and(|until| until > now) { self.witnesses } else { 0 }
    }

    /// A poll is sent.
    pub fn sent(&mut self, now: Steady) {
        if self.witnesses_wanted(now) > 0 {
            self.witnesses -= 1;
        }
    }

    /// A poll was answered: all is well.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// A task's poll says that the account cannot poll.
    pub fn accuse(&mut self, problem: AccountProblem, witness: Witness, now: Steady) {
        if self.suspended.is_some() {
            return self.suspend(problem, now);
        }
        let first = self.accused.is_none();
        let accused = self.accused.get_or_insert(Accused { at: now, tasks: 0, witnesses: 0 });
        if !witness.again {
            accused.tasks += 1;
            accused.witnesses += u32::from(!first && witness.sent >= accused.at);
        }
        let all = witness.alone && (accused.tasks > 1 || witness.again);
        if all || accused.witnesses >= WITNESSES {
            return self.suspend(problem, now);
        }
        if first {
            self.until = self.until.max(Some(now.after(WITNESSES_WAIT)));
            self.witnesses = WITNESSES;
        }
    }

    /// A task's poll was refused for lack of quota. Whether that is the account's: one that was
    /// answered before, and polled again since the first refusal, says so too, or several others.
    pub fn short_of_quota(&mut self, witness: Witness, now: Steady) -> bool {
        let Some((first, later)) = &mut self.short_of_quota else {
            self.short_of_quota = Some((now, 0));
            self.until = self.until.max(Some(now.after(WITNESSES_WAIT)));
            self.witnesses = WITNESSES;
            return witness.alone;
        };
        if witness.sent >= *first {
            *later += 1;
        }
        witness.alone || *later >= WITNESSES || (witness.proven && witness.sent >= *first)
    }

    /// The account cannot poll.
    pub fn suspend(&mut self, problem: AccountProblem, now: Steady) {
        // Polls under way when it began tell the same once more.
        if self.until.is_some_and(|until| until > now) && self.suspended.is_some() {
            return;
        }
        let since = self.suspended.as_ref().map_or(now, |(_, since)| *since);
        self.suspended = Some((problem, since));
        self.until = Some(now.after(doubled(SUSPENDED_FIRST, self.suspensions, SUSPENDED_MAX)));
        self.suspensions += 1;
        (self.accused, self.witnesses) = (None, 0);
    }

    /// A token was refused.
    pub fn token_refused(&mut self, witness: Witness, now: Steady) {
        let same = self.refused_at.is_some_and(|at| now.since(at) < TOKEN_REFUSAL_SPAN);
        if same && self.refusals <= TOKENS_REFUSED_FREE {
            if self.suspended.is_some() {
                self.until = self.until.max(Some(now.after(FAILING_FIRST)));
            }
            return;
        }
        self.refused_at = Some(now);
        self.refusals += 1;
        if self.refusals > TOKENS_REFUSED_FREE {
            let message = "Feishu keeps refusing the access token it has just issued: check that \
                           the app is enabled and installed for this tenant"
                .to_owned();
            self.accuse(AccountProblem { reason: "token_refused", message }, witness, now);
        }
    }

    /// The source could not get ready, for a moment's reason: without a token nothing can go on.
    pub fn unprepared(&mut self, error: &str, now: Steady) {
        self.count(error, now);
        self.pause(now);
        self.witnesses = 0;
    }

    /// A poll failed for a moment's reason.
    pub fn failed(&mut self, error: &str, now: Steady) {
        if self.count(error, now) > FAILURES_FREE {
            self.pause(now);
        }
    }

    fn count(&mut self, error: &str, now: Steady) -> u32 {
        let none = || Unanswered { polls: 0, since: now, error: String::new() };
        let unanswered = self.unanswered.get_or_insert_with(none);
        unanswered.polls = unanswered.polls.saturating_add(1);
        error.clone_into(&mut unanswered.error);
        unanswered.polls
    }

    fn pause(&mut self, now: Steady) {
        if self.until.is_none_or(|until| until <= now) {
            self.until = Some(now.after(doubled(FAILING_FIRST, self.pauses, FAILING_MAX)));
            self.pauses += 1;
            self.witnesses = if self.suspended.is_some() { 0 } else { WITNESSES };
        }
    }

    /// Why the account is suspended and since when, if it is.
    #[must_use]
    pub fn suspended(&self) -> Option<(&AccountProblem, Steady)> {
        self.suspended.as_ref().map(|(problem, since)| (problem, *since))
    }

    /// Polls and token calls without an answer since the last answer, if there are any.
    #[must_use]
    pub fn unanswered(&self) -> Option<&Unanswered> {
        self.unanswered.as_ref()
    }
}

fn doubled(first: Duration, doublings: u32, most: Duration) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(doublings.min(16))).min(most)
}

#[cfg(test)]
mod tests;
