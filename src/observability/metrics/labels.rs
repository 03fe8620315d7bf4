//! The label sets: closed words, configured names and matched routes, so that nothing a client or
//! an upstream sends can make new time series.

use prometheus_client::encoding::EncodeLabelSet;

use crate::outcome::Outcome;
use crate::task::LaneName;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct LaneLabels {
    pub(super) account: String,
    pub(super) kind: &'static str,
}

impl From<&LaneName> for LaneLabels {
    fn from(lane: &LaneName) -> Self {
        Self { account: lane.account.clone(), kind: lane.kind.name() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct PollLabels {
    account: String,
    kind: &'static str,
    result: &'static str,
}

impl PollLabels {
    pub(super) fn new(lane: &LaneName, result: &'static str) -> Self {
        Self { account: lane.account.clone(), kind: lane.kind.name(), result }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OutcomeLabels {
    account: String,
    kind: &'static str,
    outcome: &'static str,
    reason: &'static str,
}

impl OutcomeLabels {
    pub(super) fn new(lane: &LaneName, outcome: &Outcome) -> Self {
        let (outcome, reason) = outcome.words();
        Self { account: lane.account.clone(), kind: lane.kind.name(), outcome, reason }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TokenLabels {
    pub(super) account: String,
    pub(super) result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct AttemptLabels {
    verdict: &'static str,
    status: &'static str,
}

impl AttemptLabels {
    pub(super) fn new(verdict: &'static str, status: Option<u16>) -> Self {
        Self { verdict, status: status.map_or("none", status_class) }
    }
}

/// A receiver may answer with any number, so only its class is a label.
fn status_class(status: u16) -> &'static str {
    match status {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        500..=599 => "5xx",
        _ => "other",
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ResultLabel {
    pub(super) result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RouteLabels {
    route: String,
    method: &'static str,
}

impl RouteLabels {
    pub(super) fn new(route: &str, method: &str) -> Self {
        Self { route: route.to_owned(), method: known_method(method) }
    }
}

/// HTTP lets a client invent methods.
fn known_method(method: &str) -> &'static str {
    ["GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH"]
        .into_iter()
        .find(|known| *known == method)
        .unwrap_or("other")
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabels {
    route: String,
    method: &'static str,
    status: u16,
}

impl RequestLabels {
    pub(super) fn new(route: RouteLabels, status: u16) -> Self {
        Self { route: route.route, method: route.method, status }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct WindowLabels {
    pub(super) account: String,
    pub(super) kind: &'static str,
    pub(super) window: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct StateLabel {
    pub(super) state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct BuildLabels {
    pub(super) version: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_labelled_with_its_class() {
        let classes = [99, 100, 200, 301, 404, 599, 600].map(status_class);
        assert_eq!(classes, ["other", "1xx", "2xx", "3xx", "4xx", "5xx", "other"]);
    }
}
