//! What is an incident, and when it is over. Pure.
//!
//! An account that is suspended, or an origin whose breaker stays open, is an incident once it has
//! lasted; it is over once the opposite has lasted. Not knowing (after a restart, say) is neither:
//! so a restart raises nothing twice and ends nothing early, and a receiver that flaps is one
//! incident.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::store::Notice;

/// An origin whose breaker has been open for so long will not be back in a moment: restarts and
/// deployments of receivers take less.
pub const DISABLED_AFTER: Duration = Duration::from_mins(10);
/// A suspended account needs a person, and a suspension that mends itself takes seconds.
pub const SUSPENDED_AFTER: Duration = Duration::from_secs(60);
/// How long all must be well before an incident is over.
pub const RECOVERED_AFTER: Duration = Duration::from_secs(60);
/// How long it is remembered that a delivery ended undelivered, so that further ones to the same URL are one incident.
pub const GONE_FOR: Duration = Duration::from_hours(24);
/// The waits between attempts to tell; then it is given up, since the next incident tells anew.
const DELAYS: [Duration; 4] = [
    Duration::from_mins(1),
    Duration::from_mins(5),
    Duration::from_mins(30),
    Duration::from_hours(2),
];

/// What is seen of one subject now. A subject that is not seen is one nobody knows about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It stands still.
    Ill {
        /// Since when.
        since: Timestamp,
        /// The stable word for why.
        reason: String,
    },
    /// It works.
    Well,
}

/// What to tell about a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// It stands still.
    Raised {
        /// Since when.
        since: Timestamp,
        /// The stable word for why.
        reason: String,
    },
    /// It works again.
    Recovered,
}

/// How long each subject has been well.
#[derive(Debug, Default)]
pub struct Recovery(BTreeMap<String, Timestamp>);

impl Recovery {
    /// Takes in what is seen now.
    pub fn observe(&mut self, sights: &BTreeMap<String, Sight>, now: Timestamp) {
        self.0.retain(|subject, _| sights.get(subject) == Some(&Sight::Well));
        for (subject, _) in sights.iter().filter(|(_, sight)| **sight == Sight::Well) {
            self.0.entry(subject.clone()).or_insert(now);
        }
    }

    /// What to tell somebody about a subject, whose last news of it was `told`.
    #[must_use]
    pub fn news(
        &self,
        subject: &str,
        sight: &Sight,
        told: Option<&Notice>,
        now: Timestamp,
    ) -> Option<News> {
        let raised = told.is_some_and(|told| told.raised);
        match sight {
            Sight::Ill { since, reason } if !raised && now.since(*since) >= patience(subject) => {
                Some(News::Raised { since: *since, reason: reason.clone() })
            }
            Sight::Well if raised => {
                let since = self.0.get(subject)?;
                (now.since(*since) >= RECOVERED_AFTER).then_some(News::Recovered)
            }
            Sight::Ill { .. } | Sight::Well => None,
        }
    }
}

fn patience(subject: &str) -> Duration {
    if subject.starts_with("account ") { SUSPENDED_AFTER } else { DISABLED_AFTER }
}

/// When the next attempt is due after `attempts` that failed; `None`: it is given up.
#[must_use]
pub fn retry_at(attempts: u32, now: Timestamp) -> Option<Timestamp> {
    let place = usize::try_from(attempts.checked_sub(1)?).ok()?;
    DELAYS.get(place).map(|delay| now.after(*delay))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;
    const ORIGIN: &str = "origin https://a:443";

    fn ill(since: i64) -> Sight {
        Sight::Ill { since: Timestamp(since), reason: "unreachable".into() }
    }

    fn told(raised: bool) -> Notice {
        Notice {
            client: "ats".into(),
            subject: ORIGIN.into(),
            raised,
            since: Timestamp(0),
            at: Timestamp(0),
            id: "msg_1".into(),
            body: Vec::new(),
            attempts: 1,
            next_attempt_at: None,
        }
    }

    /// The news at `now` of a subject that has been seen like this, minute by minute.
    fn news(subject: &str, seen: &[Option<Sight>], told: Option<&Notice>) -> Option<News> {
        let mut recovery = Recovery::default();
        let mut now = Timestamp(0);
        for (minute, sight) in (0..).zip(seen) {
            now = Timestamp(minute * MINUTE);
            let sights = sight.iter().map(|sight| (subject.to_owned(), sight.clone())).collect();
            recovery.observe(&sights, now);
        }
        recovery.news(subject, seen.last()?.as_ref()?, told, now)
    }

    #[test]
    fn an_origin_is_an_incident_after_ten_minutes_and_an_account_after_one() {
        let raised = Some(News::Raised { since: Timestamp(0), reason: "unreachable".into() });
        assert_eq!(news(ORIGIN, &vec![Some(ill(0)); 10], None), None);
        assert_eq!(news(ORIGIN, &vec![Some(ill(0)); 11], None), raised);
        assert_eq!(news("account default", &[Some(ill(0))], None), None);
        assert_eq!(news("account default", &[Some(ill(0)), Some(ill(0))], None), raised);
    }

    #[test]
    fn an_incident_is_raised_once_and_again_only_after_it_was_over() {
        let long = vec![Some(ill(0)); 30];
        assert_eq!(news(ORIGIN, &long, Some(&told(true))), None);
        assert!(news(ORIGIN, &long, Some(&told(false))).is_some());
    }

    #[test]
    fn it_is_over_once_all_has_been_well_for_a_minute_without_a_break() {
        let well = || Some(Sight::Well);
        let raised = told(true);
        assert_eq!(news(ORIGIN, &[well()], Some(&raised)), None);
        assert_eq!(news(ORIGIN, &[well(), well()], Some(&raised)), Some(News::Recovered));
        assert_eq!(news(ORIGIN, &[well(), Some(ill(0)), well()], Some(&raised)), None);
        assert_eq!(news(ORIGIN, &[well(), None, well()], Some(&raised)), None);
        assert_eq!(news(ORIGIN, &[well(), well()], Some(&told(false))), None);
        assert_eq!(news(ORIGIN, &[well(), well()], None), None);
    }

    #[test]
    fn not_knowing_raises_and_ends_nothing() {
        assert_eq!(news(ORIGIN, &[None, None, None], Some(&told(true))), None);
        assert_eq!(news(ORIGIN, &[None, None, None], None), None);
    }

    #[test]
    fn telling_is_tried_five_times_over_some_hours() {
        let mut now = Timestamp(0);
        for attempts in 1..=4 {
            now = retry_at(attempts, now).unwrap();
        }
        assert_eq!(now, Timestamp((1 + 5 + 30 + 120) * MINUTE));
        assert_eq!(retry_at(5, now), None);
        assert_eq!(retry_at(0, now), None);
    }
}
