//! What was asked and what was answered.

use std::collections::{BTreeMap, VecDeque};

use crate::clock::Steady;

/// Polls that are remembered; the oldest go first. About 40 MB, or 4 hours at the full quota.
const POLLS_MAX: usize = 250_000;

/// What a call was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Api {
    /// Tokens and tickets.
    Auth,
    /// `create_by_attachment`.
    Create,
    /// `delivery_tasks`.
    Poll,
    /// Nothing that exists.
    Unknown,
}

/// One poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poll {
    /// The app that asked; empty if its token was refused.
    pub app: String,
    /// The task it named.
    pub task: String,
    /// When it arrived.
    pub at: Steady,
    /// The word for the answer, e.g. `pending`, `succeeded`, `quota`.
    pub answer: &'static str,
}

/// The counts and the log of polls.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    counts: BTreeMap<(Api, &'static str), u64>,
    polls: VecDeque<Poll>,
}

impl Journal {
    pub(super) fn count(&mut self, api: Api, answer: &'static str) {
        *self.counts.entry((api, answer)).or_default() += 1;
    }

    pub(super) fn poll(&mut self, poll: Poll) {
        if self.polls.len() == POLLS_MAX {
            self.polls.pop_front();
        }
        self.polls.push_back(poll);
    }

    /// Calls by API and by the word for their answer.
    #[must_use]
    pub fn counts(&self) -> &BTreeMap<(Api, &'static str), u64> {
        &self.counts
    }

    /// Calls of one API, whatever was answered.
    #[must_use]
    pub fn calls(&self, api: Api) -> u64 {
        self.counts.iter().filter(|((of, _), _)| *of == api).map(|(_, count)| count).sum()
    }

    /// Calls of one API that were answered so.
    #[must_use]
    pub fn answered(&self, api: Api, answer: &str) -> u64 {
        let same = |((of, word), _): &(&(Api, &'static str), &u64)| *of == api && *word == answer;
        self.counts.iter().find(same).map_or(0, |(_, count)| *count)
    }

    /// The polls, oldest first.
    pub fn polls(&self) -> impl Iterator<Item = &Poll> {
        self.polls.iter()
    }
}
