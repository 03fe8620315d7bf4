//! What is said of a task whose time is over before its end was seen. Pure.

use super::board::Suspension;
use crate::outcome::{Outcome, Reason};
use crate::store::Progress;

/// `timed_out` if Feishu last said that the task is pending, else `not_observed`, with what stood in
/// the way. `trouble` is the account's, if it has any.
pub(super) fn at_deadline(
    progress: &Progress,
    account: &str,
    trouble: Option<&Suspension>,
) -> Outcome {
    if progress.last_pending_at.is_some() {
        return Outcome::unresolved(Reason::TimedOut);
    }
    let message = if let Some(since) = progress.not_found_since {
        format!(
            "Feishu has said since {since} that it does not know this task, and the grace period \
             for that was not over; register it again if it may exist by now"
        )
    } else if let Some(Suspension { reason, message, since }) = trouble {
        format!(
            "Feishu gave no answer about this task: account {account} has had {reason} since \
             {since} ({message}); watch it again once that is mended"
        )
    } else {
        format!(
            "Feishu gave no answer about this task before its time was over; watch it again once \
             account {account} is answered"
        )
    };
    Outcome::not_observed(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    fn message(progress: Progress, trouble: Option<&Suspension>) -> String {
        let outcome = at_deadline(&progress, "default", trouble);
        assert_eq!(outcome.words(), ("unresolved", "not_observed"));
        outcome.failure.unwrap().message.unwrap()
    }

    #[test]
    fn only_a_task_that_was_seen_pending_has_timed_out() {
        let at = Some(Timestamp(60_000));
        let suspended = Suspension {
            reason: "bad_credentials".into(),
            message: "check the app secret".into(),
            since: Timestamp(1_000),
        };
        let pending = Progress { last_pending_at: at, ..Progress::default() };
        for trouble in [None, Some(&suspended)] {
            let outcome = at_deadline(&pending, "default", trouble);
            assert_eq!(outcome, Outcome::unresolved(Reason::TimedOut));
        }
        let said = message(Progress::default(), Some(&suspended));
        for part in ["account default", "bad_credentials", "1970-01-01T00:00:01.000Z", "check the"]
        {
            assert!(said.contains(part), "{said}");
        }
        let unknown = Progress { not_found_since: at, polls: 2, ..Progress::default() };
        let said = message(unknown, Some(&suspended));
        assert!(said.contains("does not know this task") && said.contains(":01:00.000Z"), "{said}");
        assert!(message(Progress::default(), None).contains("no answer about this task"));
    }
}
