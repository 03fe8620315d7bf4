//! What one daemon says of itself to the others, as JSON that daemons of the same or a neighbouring
//! version read. Pure.

use serde::{Deserialize, Serialize};

use crate::clock::{Steady, Timestamp};
use crate::config::QuotaLimits;
use crate::delivery::health::OriginStatus;
use crate::polling::board::{LaneStatus, Suspension};
use crate::polling::plan::figures::Figures;
use crate::task::{Kind, LaneName};

/// Origins told of, the ill ones first: some tens of kilobytes.
const ORIGINS_MAX: usize = 200;

/// What one daemon says of itself.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Report {
    lanes: Vec<Lane>,
    pub(super) origins: Vec<OriginStatus>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Lane {
    account: String,
    kind: Kind,
    suspended: Option<Suspended>,
    #[serde(default)]
    failing: Option<Suspended>,
    #[serde(default)]
    answered: Option<(Timestamp, String)>,
    watched: u64,
    polls_last_second: u32,
    polls_last_minute: u32,
    per_second: u32,
    per_minute: u32,
    #[serde(default)]
    figures: Option<Figures>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Suspended {
    reason: String,
    message: String,
    since: Timestamp,
}

impl Report {
    /// What is so now.
    pub(super) fn of(lanes: &[(LaneName, LaneStatus)], mut origins: Vec<OriginStatus>) -> Self {
        if origins.len() > ORIGINS_MAX {
            origins.sort_by_key(|origin| std::cmp::Reverse(origin.state));
            origins.truncate(ORIGINS_MAX);
        }
        Self { lanes: lanes.iter().map(|(name, status)| Lane::of(name, status)).collect(), origins }
    }

    /// As it is stored.
    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// `None`: it is from a version that says it otherwise.
    pub(super) fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Every lane that is told of.
    pub(super) fn lanes(&self) -> Vec<(LaneName, LaneStatus)> {
        self.lanes.iter().map(Lane::status).collect()
    }
}

impl Lane {
    fn of(name: &LaneName, status: &LaneStatus) -> Self {
        let told = |why: &Option<Suspension>| {
            why.as_ref().map(|it| Suspended {
                reason: it.reason.to_string(),
                message: it.message.clone(),
                since: it.since,
            })
        };
        Self {
            account: name.account.clone(),
            kind: name.kind,
            suspended: told(&status.suspended),
            failing: told(&status.failing),
            answered: status.answered.as_ref().map(|(at, what)| (*at, what.to_string())),
            watched: status.watched,
            polls_last_second: status.polls_last_second,
            polls_last_minute: status.polls_last_minute,
            per_second: status.quota.per_second,
            per_minute: status.quota.per_minute,
            figures: status.figures,
        }
    }

    fn status(&self) -> (LaneName, LaneStatus) {
        let read = |why: &Option<Suspended>| {
            why.as_ref().map(|it| Suspension {
                reason: it.reason.clone().into(),
                message: it.message.clone(),
                since: it.since,
            })
        };
        let quota = QuotaLimits { per_second: self.per_second, per_minute: self.per_minute };
        let status = LaneStatus {
            suspended: read(&self.suspended),
            failing: read(&self.failing),
            answered: self.answered.as_ref().map(|(at, what)| (*at, what.clone().into())),
            watched: self.watched,
            polls_last_second: self.polls_last_second,
            polls_last_minute: self.polls_last_minute,
            quota,
            figures: self.figures,
            // Its own daemon's clock; nobody asks it of another's lane.
            alive_at: Steady(0),
        };
        (LaneName { account: self.account.clone(), kind: self.kind }, status)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::delivery::health::OriginState;

    fn origin(n: usize, state: OriginState) -> OriginStatus {
        OriginStatus {
            origin: format!("https://{n}.example:443"),
            client: "ats".into(),
            state,
            held_since: None,
            refused_at: None,
            next_probe_at: Some(Timestamp(5)),
            under_way: 1,
            room: 2,
            failures_in_a_row: 3,
        }
    }

    #[test]
    fn what_is_read_is_what_was_told() {
        let name = LaneName { account: "a".into(), kind: Kind::HireWebsiteDelivery };
        let suspended = Suspension {
            reason: "missing_scope".into(),
            message: "grant it".into(),
            since: Timestamp(1_000),
        };
        let figures = Figures {
            price: Duration::from_millis(10),
            tasks_per_minute: 60.5,
            polls_per_task: 16.25,
            expected_delay: Duration::from_millis(850),
            mean_delay: None,
            bound: Duration::from_millis(800),
            ratio_to_bound: 1.0625,
        };
        let status = LaneStatus {
            suspended: Some(suspended.clone()),
            failing: Some(suspended.clone()),
            answered: Some((Timestamp(2_000), "pending".into())),
            watched: 7,
            polls_last_second: 5,
            polls_last_minute: 300,
            quota: QuotaLimits::default(),
            figures: Some(figures),
            alive_at: Steady(9),
        };
        let origins = vec![origin(1, OriginState::Held)];
        let text = Report::of(&[(name.clone(), status)], origins.clone()).text();
        let report = Report::read(&text).unwrap();
        let lanes = report.lanes();
        assert_eq!(lanes[0].0, name);
        let told = &lanes[0].1;
        assert_eq!((&told.suspended, &told.failing), (&Some(suspended.clone()), &Some(suspended)));
        assert_eq!(told.answered, Some((Timestamp(2_000), "pending".into())));
        assert_eq!((told.watched, told.polls_last_second, told.polls_last_minute), (7, 5, 300));
        assert_eq!(told.quota, QuotaLimits::default());
        assert_eq!(told.figures, Some(figures));
        assert_eq!(report.origins, origins);
        assert!(Report::read("{}").is_none());
    }

    #[test]
    fn of_too_many_origins_the_ill_ones_are_told_of() {
        let state = |n| if n >= 900 { OriginState::Held } else { OriginState::Ok };
        let origins = (0..1_000).map(|n| origin(n, state(n))).collect();
        let report = Report::of(&[], origins);
        assert_eq!(report.origins.len(), ORIGINS_MAX);
        let held = report.origins.iter().filter(|it| it.state == OriginState::Held).count();
        assert_eq!(held, 100);
    }
}
