//! What keeps a lane from polling for a while: a suspended account, a refused token, an upstream
//! that fails. Each backs off, and ends with the first poll that gets an answer.

use std::time::Duration;

use crate::clock::Steady;
use crate::source::AccountProblem;

const SUSPENDED_FIRST: Duration = Duration::from_secs(5);
/// One look a minute costs nothing, and whoever has mended the account is watching.
const SUSPENDED_MAX: Duration = Duration::from_secs(60);
/// Failures in a row before the lane slows down: single ones are the network's everyday life.
const FAILURES_FREE: u32 = 5;
const FAILING_FIRST: Duration = Duration::from_secs(1);
/// A look every few seconds costs an ailing upstream nothing, and everything that settles meanwhile
/// is told that much later.
const FAILING_MAX: Duration = Duration::from_secs(5);
/// Looks at once into a failing upstream. Several, because one may fail for its own task's sake,
/// and must not keep the others waiting.
const FAILING_LOOKS: usize = 8;
/// Tokens refused in a row before the account counts as suspended: Feishu may hand out the same
/// token again, so refusals must not become a loop.
const TOKENS_REFUSED_FREE: u32 = 1;
/// Refusals within this time after the first belong to polls sent with the same token.
const TOKEN_REFUSAL_SPAN: Duration = Duration::from_secs(3);

/// What keeps a lane from polling.
#[derive(Debug, Default)]
pub struct Hold {
    failures: u32,
    /// Pauses in a row because of failures. Not the failures themselves: those of many polls that
    /// were under way together are one outage, not a long one.
    pauses: u32,
    refusals: u32,
    refused_at: Option<Steady>,
    suspensions: u32,
    suspended: Option<(AccountProblem, Steady)>,
    until: Option<Steady>,
}

impl Hold {
    /// When polls may be sent, with so many under way; `None`: when some of those are answered.
    #[must_use]
    pub fn opens(&self, under_way: usize) -> Option<Steady> {
        let looks = if self.suspended.is_some() { 1 } else { FAILING_LOOKS };
        match self.until {
            None => Some(Steady(i64::MIN)),
            Some(_) if under_way >= looks => None,
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
            self.until = Some(now.after(doubled(FAILING_FIRST, self.pauses, FAILING_MAX)));
            self.pauses += 1;
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

#[cfg(test)]
mod tests {
    use super::*;

    const NONE_UNDER_WAY: usize = 0;

    #[test]
    fn polls_that_fail_together_are_one_outage_and_only_lasting_ones_pause_longer() {
        let mut hold = Hold::default();
        for _ in 0..50 {
            hold.failed(Steady(0));
        }
        assert_eq!(hold.opens(NONE_UNDER_WAY), Some(Steady(1_000)));
        hold.failed(Steady(1_000));
        assert_eq!(hold.opens(NONE_UNDER_WAY), Some(Steady(3_000)), "twice as long");
        hold.failed(Steady(3_000));
        assert_eq!(hold.opens(NONE_UNDER_WAY), Some(Steady(7_000)));
        for _ in 0..50 {
            let Some(opens) = hold.opens(NONE_UNDER_WAY) else { panic!("closed for good") };
            hold.failed(opens);
            assert!(hold.opens(NONE_UNDER_WAY) <= Some(opens.after(FAILING_MAX)));
        }
        hold.clear();
        for _ in 0..FAILURES_FREE {
            hold.failed(Steady(9_000));
        }
        assert!(hold.opens(NONE_UNDER_WAY) < Some(Steady(9_000)), "a few in a row are free again");
    }

    #[test]
    fn several_look_whether_a_failing_upstream_is_back_but_only_one_whether_an_account_is() {
        let mut hold = Hold::default();
        hold.unprepared(Steady(0));
        assert!(hold.opens(FAILING_LOOKS - 1).is_some());
        assert_eq!(hold.opens(FAILING_LOOKS), None);
        let problem = AccountProblem { reason: "missing_scope", message: String::new() };
        hold.suspend(problem, Steady(2_000));
        assert!(hold.opens(0).is_some());
        assert_eq!(hold.opens(1), None);
    }
}
