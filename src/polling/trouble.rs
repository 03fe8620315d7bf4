//! When a lane that is not answered counts as failing, and what is said of it. Pure.

use std::time::Duration;

use super::hold::Unanswered;
use crate::clock::{Steady, Timestamp};
use crate::polling::board::Suspension;

/// Polls in a row without an answer before the account counts as failing: as many as make the lane
/// pause.
const POLLS_MIN: u32 = 6;
/// Of many polls that are under way together all fail at once; that alone is no outage yet.
const LASTS_MIN: Duration = Duration::from_secs(3);

/// What is wrong with an account that is not answered, if it has lasted for long enough.
pub(super) fn failing(
    account: &str,
    unanswered: &Unanswered,
    since: Timestamp,
    now: Steady,
) -> Option<Suspension> {
    let Unanswered { polls, error, since: begun } = unanswered;
    (*polls >= POLLS_MIN && now.since(*begun) >= LASTS_MIN).then(|| Suspension {
        reason: "no_answer".into(),
        message: format!(
            "Feishu has not answered {polls} polls in a row since {since} ({error}); tasks of \
             account {account} are waiting"
        ),
        since,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_failures_or_a_moment_of_them_are_no_outage() {
        let judge = |polls, now| {
            let error = "connection refused".to_owned();
            let unanswered = Unanswered { polls, since: Steady(1_000), error };
            failing("default", &unanswered, Timestamp(0), Steady(now))
        };
        assert_eq!(judge(POLLS_MIN - 1, 99_000), None);
        assert_eq!(judge(200, 3_999), None);
        let told = judge(12, 4_000).unwrap();
        assert_eq!(told.reason, "no_answer");
        assert_eq!(
            told.message,
            "Feishu has not answered 12 polls in a row since 1970-01-01T00:00:00.000Z (connection \
             refused); tasks of account default are waiting"
        );
    }
}
