//! What keeps a lane from polling for a while: a suspended account, a refused token, an upstream
//! that fails. Each backs off, and ends with the first poll that gets an answer.

use std::time::Duration;

use crate::clock::Steady;
use crate::source::AccountProblem;

const SUSPENDED_FIRST: Duration = Duration::from_secs(5);
const SUSPENDED_MAX: Duration = Duration::from_secs(300);
/// Failures in a row before the lane slows down: single ones are the network's everyday life.
const FAILURES_FREE: u32 = 5;
const FAILING_FIRST: Duration = Duration::from_secs(1);
const FAILING_MAX: Duration = Duration::from_secs(30);
/// Tokens refused in a row before the account counts as suspended: Feishu may hand out the same
/// token again, so refusals must not become a loop.
const TOKENS_REFUSED_FREE: u32 = 1;
/// Refusals within this time after the first belong to polls sent with the same token.
const TOKEN_REFUSAL_SPAN: Duration = Duration::from_secs(3);

/// What keeps a lane from polling.
#[derive(Debug, Default)]
pub struct Hold {
    failures: u32,
    refusals: u32,
    refused_at: Option<Steady>,
    suspensions: u32,
    suspended: Option<(AccountProblem, Steady)>,
    until: Option<Steady>,
}

impl Hold {
    /// When polls may be sent, with so many under way; `None`: when those are answered.
    #[must_use]
    pub fn opens(&self, under_way: usize) -> Option<Steady> {
        match self.until {
            None => Some(Steady(i64::MIN)),
            Some(_) if under_way > 0 => None,
            Some(until) => Some(until),
        }
    }

    /// A poll was answered: all is well.
    pub fn clear(&mut self) {
        *self = Self::default();
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
    }

    /// A token was refused.
    pub fn token_refused(&mut self, now: Steady) {
        let same = self.refused_at.is_some_and(|at| now.since(at) < TOKEN_REFUSAL_SPAN);
        if same && self.refusals <= TOKENS_REFUSED_FREE {
            return;
        }
        self.refused_at = Some(now);
        self.refusals += 1;
        if self.refusals > TOKENS_REFUSED_FREE {
            let message = "Feishu keeps refusing the access token it has just issued: check that \
                           the app is enabled and installed for this tenant"
                .to_owned();
            self.suspend(AccountProblem { reason: "token_refused", message }, now);
        }
    }

    /// The source could not get ready, for a moment's reason: without a token nothing can go on.
    pub fn unprepared(&mut self, now: Steady) {
        self.failures = self.failures.max(FAILURES_FREE);
        self.failed(now);
    }

    /// A poll failed for a moment's reason.
    pub fn failed(&mut self, now: Steady) {
        self.failures += 1;
        if self.failures > FAILURES_FREE && self.until.is_none_or(|until| until <= now) {
            let doublings = self.failures - FAILURES_FREE - 1;
            self.until = Some(now.after(doubled(FAILING_FIRST, doublings, FAILING_MAX)));
        }
    }

    /// Why the account is suspended and since when, if it is.
    #[must_use]
    pub fn suspended(&self) -> Option<(&AccountProblem, Steady)> {
        self.suspended.as_ref().map(|(problem, since)| (problem, *since))
    }
}

fn doubled(first: Duration, doublings: u32, most: Duration) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(doublings.min(16))).min(most)
}
