//! How watching a task goes, as whoever waits for it sees it.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::task::TaskId;

/// What the last poll of a task came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is pending.
    Pending,
    /// Feishu knows no such task.
    NotFound,
    /// The quota was spent.
    RateLimited,
    /// None, or nothing that is Feishu's.
    NoAnswer,
    /// Feishu refused, with this code if it gave one.
    Error(Option<i64>),
}

impl Answer {
    /// The name used in the API and the store.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::NotFound => "not_found",
            Self::RateLimited => "rate_limited",
            Self::NoAnswer => "no_answer",
            Self::Error(_) => "error",
        }
    }

    /// Feishu's code.
    #[must_use]
    pub fn code(self) -> Option<i64> {
        if let Self::Error(code) = self { code } else { None }
    }

    /// As it is stored: the name, then the code.
    #[must_use]
    pub fn text(self) -> String {
        match self.code() {
            Some(code) => format!("{} {code}", self.name()),
            None => self.name().to_owned(),
        }
    }

    /// Reads [`Answer::text`].
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let (name, code) = text.split_once(' ').map_or((text, None), |(n, c)| (n, Some(c)));
        let code = code.map(str::parse).transpose().ok()?;
        [Self::Pending, Self::NotFound, Self::RateLimited, Self::NoAnswer, Self::Error(code)]
            .into_iter()
            .find(|answer| answer.name() == name && answer.code() == code)
    }
}

/// How watching a registration's task goes: as it was last stored, at most some ten seconds ago,
/// and for one registration as it is now, where the daemon that is asked polls the task itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Watching {
    /// The task's row.
    #[serde(skip)]
    pub task: Option<TaskId>,
    /// Polls that Feishu answered.
    pub polls: u32,
    /// When it was last polled, answered or not; null before the first poll.
    pub last_polled_at: Option<Timestamp>,
    /// What that came to: `pending`, `not_found`, `rate_limited`, `no_answer` or `error`.
    pub last_answer: Option<String>,
    /// Feishu's code with `error`, where it gave one.
    pub last_code: Option<i64>,
    /// When it will be polled next, as far as is known now; null if it is being polled, and where
    /// another daemon polls it.
    pub next_poll_at: Option<Timestamp>,
    /// The account's: `ok`, `failing` or `suspended`.
    pub account_state: Option<String>,
    /// What stands in the account's way, if anything does.
    pub account_message: Option<String>,
}

impl Watching {
    /// As far as it is known from what is stored of a task.
    #[must_use]
    pub fn stored(
        task: TaskId,
        polls: u32,
        last_polled_at: Option<Timestamp>,
        last_answer: Option<Answer>,
    ) -> Self {
        let mut watching = Self { task: Some(task), polls, last_polled_at, ..Self::default() };
        watching.answered(last_answer);
        watching
    }

    /// What the last poll came to.
    pub fn answered(&mut self, answer: Option<Answer>) {
        self.last_answer = answer.map(|answer| answer.name().to_owned());
        self.last_code = answer.and_then(Answer::code);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_of_a_task_is_what_is_shown_of_it() {
        let error = Some(Answer::Error(Some(7)));
        let watching = Watching::stored(TaskId(1), 2, Some(Timestamp(3)), error);
        let wanted = Watching {
            task: Some(TaskId(1)),
            polls: 2,
            last_polled_at: Some(Timestamp(3)),
            last_answer: Some("error".into()),
            last_code: Some(7),
            ..Watching::default()
        };
        assert_eq!(watching, wanted);
    }

    #[test]
    fn an_answer_reads_back_as_it_was_stored() {
        use Answer::{Error, NoAnswer, NotFound, Pending, RateLimited};
        for answer in
            [Pending, NotFound, RateLimited, NoAnswer, Error(None), Error(Some(1_002_001))]
        {
            assert_eq!(Answer::read(&answer.text()), Some(answer));
        }
        assert_eq!(Error(Some(1_002_001)).text(), "error 1002001");
        for wrong in ["", "pending 7", "error x", "errors"] {
            assert_eq!(Answer::read(wrong), None, "{wrong}");
        }
    }
}
