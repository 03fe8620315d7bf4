//! The one line that `systemctl status` shows.

use std::fmt::Write;

use crate::clock::Steady;
use crate::polling::board::{LaneStatus, NO_LOOP, Standing, Suspension};
use crate::task::{LaneName, State};

/// Names of accounts shown before the rest are only counted.
const NAMES_MAX: usize = 3;

/// What the daemon is doing, for an operator.
#[must_use]
pub fn status_line(
    lanes: &[(LaneName, LaneStatus)],
    counts: &[(State, u64)],
    standing: &Standing,
    now: Steady,
) -> String {
    let watched: u64 = lanes.iter().map(|(_, lane)| lane.watched).sum();
    let polls: u64 = lanes.iter().map(|(_, lane)| u64::from(lane.polls_last_minute)).sum();
    let of = |state| counts.iter().find(|(s, _)| *s == state).map_or(0, |(_, count)| *count);
    let mut line = format!(
        "{watched} tasks watched on {} lanes, {polls} polls in the last minute, {} delivering, {} \
         undeliverable",
        lanes.iter().filter(|(_, lane)| lane.alive_at != NO_LOOP).count(),
        of(State::Delivering),
        of(State::Undeliverable),
    );
    if standing.until <= now {
        // Before the first beat nothing has been lost.
        if !standing.members.is_empty() {
            line.push_str("; paused: the store does not hear this daemon");
        }
    } else if standing.members.len() > 1 {
        let _ = write!(line, "; one of {} daemons", standing.members.len());
    }
    name(&mut line, "suspended", lanes, |lane| lane.suspended.as_ref());
    name(&mut line, "failing", lanes, |lane| lane.failing.as_ref());
    line
}

/// Names the accounts that something is wrong with.
fn name(
    line: &mut String,
    what: &str,
    lanes: &[(LaneName, LaneStatus)],
    of: impl Fn(&LaneStatus) -> Option<&Suspension>,
) {
    let found: Vec<String> = lanes
        .iter()
        .filter_map(|(name, lane)| of(lane).map(|why| format!("{} ({})", name.account, why.reason)))
        .collect();
    if found.is_empty() {
        return;
    }
    let shown = found.len().min(NAMES_MAX);
    let _ = write!(line, "; {what}: {}", found[..shown].join(", "));
    if found.len() > shown {
        let _ = write!(line, " and {} more", found.len() - shown);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::config::QuotaLimits;
    use crate::store::fleet::{Member, MemberId};
    use crate::task::Kind;

    fn lane(account: &str, suspended: bool) -> (LaneName, LaneStatus) {
        let suspended = suspended.then(|| Suspension {
            reason: "bad_credentials".into(),
            message: String::new(),
            since: Timestamp(0),
        });
        let status = LaneStatus {
            suspended,
            failing: None,
            answered: None,
            watched: 600,
            polls_last_second: 10,
            polls_last_minute: 400,
            quota: QuotaLimits::default(),
            figures: None,
            alive_at: Steady(0),
        };
        (LaneName { account: account.into(), kind: Kind::default() }, status)
    }

    fn standing(members: u128, until: i64) -> Standing {
        let member = |n| Member {
            id: MemberId(uuid::Uuid::from_u128(n)),
            name: String::new(),
            since: Timestamp(0),
        };
        Standing { members: (0..members).map(member).collect(), held: 2, until: Steady(until) }
    }

    fn line(lanes: &[(LaneName, LaneStatus)], counts: &[(State, u64)]) -> String {
        status_line(lanes, counts, &standing(1, i64::MAX), Steady(0))
    }

    #[test]
    fn a_fleet_is_told_of_and_a_database_that_is_away() {
        let now = Steady(5_000);
        let of = |members, until| status_line(&[], &[], &standing(members, until), now);
        assert!(of(3, 9_000).ends_with("; one of 3 daemons"), "{}", of(3, 9_000));
        assert!(of(3, 5_000).ends_with("; paused: the store does not hear this daemon"));
        assert!(of(0, i64::MIN).ends_with(" undeliverable"), "it has only just started");
    }

    #[test]
    fn the_line_sums_the_lanes() {
        assert_eq!(
            line(&[lane("a", false), lane("b", false)], &[(State::Delivering, 3)]),
            "1200 tasks watched on 2 lanes, 800 polls in the last minute, 3 delivering, 0 \
             undeliverable"
        );
    }

    #[test]
    fn a_suspended_account_is_named_with_its_reason() {
        let lanes = ["a", "b", "c", "d", "e"].map(|account| lane(account, true));
        let line = line(&lanes, &[]);
        let end = "; suspended: a (bad_credentials), b (bad_credentials), c (bad_credentials) and \
                   2 more";
        assert!(line.ends_with(end), "{line}");
        let one = self::line(&[lane("a", true)], &[]);
        assert!(one.ends_with("; suspended: a (bad_credentials)"), "{one}");
    }
}
