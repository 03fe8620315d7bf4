//! The nouns: task, lane, registration, and the legal transitions of a registration.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::clock::Timestamp;
use crate::outcome::Report;
use crate::watching::Watching;

/// Which upstream API a task is polled with.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
pub enum Kind {
    /// Feishu Hire: a résumé delivered through a recruiting website.
    #[default]
    #[serde(rename = "hire.website_delivery")]
    HireWebsiteDelivery,
}

impl Kind {
    /// The least in order.
    pub const FIRST: Self = Self::HireWebsiteDelivery;

    /// The name used in the API, the store and the metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::HireWebsiteDelivery => "hire.website_delivery",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        (name == Self::HireWebsiteDelivery.name()).then_some(Self::HireWebsiteDelivery)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One upstream task, as clients name it.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
pub struct TaskRef {
    /// Which API it is polled with.
    pub kind: Kind,
    /// The account whose credentials and quota it is polled with.
    pub account: String,
    /// Feishu's website id.
    pub website_id: String,
    /// Feishu's delivery task id.
    pub delivery_task_id: String,
}

impl TaskRef {
    /// The lane that polls this task.
    #[must_use]
    pub fn lane(&self) -> LaneName {
        LaneName { account: self.account.clone(), kind: self.kind }
    }
}

/// One upstream quota: an account and a kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LaneName {
    /// The account.
    pub account: String,
    /// The kind.
    pub kind: Kind,
}

impl fmt::Display for LaneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.account, self.kind)
    }
}

/// A task's row in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub i64);

/// Where a registration stands.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The task has no outcome yet.
    Watching,
    /// The outcome is stored and its delivery is due.
    Delivering,
    /// The callback accepted it.
    Delivered,
    /// Every attempt failed; kept for replay.
    Undeliverable,
    /// The client called it off.
    Cancelled,
}

impl State {
    /// Every state, in the order of a registration's life.
    pub const ALL: [Self; 5] =
        [Self::Watching, Self::Delivering, Self::Delivered, Self::Undeliverable, Self::Cancelled];

    /// The name used in the API and the store.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Watching => "watching",
            Self::Delivering => "delivering",
            Self::Delivered => "delivered",
            Self::Undeliverable => "undeliverable",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether a registration may go from this state to `next`.
    ///
    /// A redelivery is the one way back: it takes a finished delivery to `delivering` again.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        use State::{Cancelled, Delivered, Delivering, Undeliverable, Watching};
        matches!(
            (self, next),
            (Watching, Delivering | Cancelled)
                | (Delivering, Delivered | Undeliverable | Cancelled)
                | (Delivered | Undeliverable, Delivering)
        )
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who waits for a task, and where to tell them: the resource every endpoint returns.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Registration {
    /// `reg_…`.
    pub id: String,
    /// The client that registered.
    pub client: String,
    /// What is waited for.
    pub task: TaskRef,
    /// Where the outcome goes.
    pub callback: Callback,
    /// The client's own JSON object, echoed to the byte.
    #[schema(value_type = Object)]
    pub metadata: Box<RawValue>,
    /// Where it stands.
    pub state: State,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it stops waiting.
    pub give_up_at: Timestamp,
    /// What became of the task, once known.
    pub outcome: Option<Report>,
    /// How watching its task goes, while it is watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch: Option<Watching>,
    /// How telling the client goes.
    pub delivery: DeliveryState,
}

/// Where an outcome is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Callback {
    /// The whole URL.
    pub url: String,
}

/// How telling one registration goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeliveryState {
    /// Attempts made so far, over all redeliveries.
    pub attempts: u32,
    /// When the next one is due.
    pub next_attempt_at: Option<Timestamp>,
    /// The last HTTP status, if there was a reply.
    pub last_status: Option<u16>,
    /// What went wrong last, if anything did.
    pub last_error: Option<String>,
}

/// The `webhook-id` of a registration: the same on every attempt and every redelivery, because it
/// is the registration's own id under another prefix.
#[must_use]
pub fn webhook_id(registration_id: &str) -> String {
    format!("msg_{}", registration_id.strip_prefix("reg_").unwrap_or(registration_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_drawn_transitions_are_legal() {
        use State::{Cancelled, Delivered, Delivering, Undeliverable, Watching};
        let legal: Vec<(State, State)> = State::ALL
            .into_iter()
            .flat_map(|from| State::ALL.into_iter().map(move |to| (from, to)))
            .filter(|(from, to)| from.may_become(*to))
            .collect();
        assert_eq!(
            legal,
            [
                (Watching, Delivering),
                (Watching, Cancelled),
                (Delivering, Delivered),
                (Delivering, Undeliverable),
                (Delivering, Cancelled),
                (Delivered, Delivering),
                (Undeliverable, Delivering),
            ]
        );
    }

    #[test]
    fn names_lead_back_to_what_they_name() {
        for state in State::ALL {
            assert_eq!(State::named(state.name()), Some(state));
            assert_eq!(state.to_string(), state.name());
        }
        assert_eq!(Kind::named("hire.website_delivery"), Some(Kind::HireWebsiteDelivery));
        assert_eq!(Kind::named("drive.import"), None);
    }

    #[test]
    fn a_lane_is_shown_as_its_account_and_kind() {
        let lane = LaneName { account: "default".into(), kind: Kind::HireWebsiteDelivery };
        assert_eq!(lane.to_string(), "default/hire.website_delivery");
    }

    #[test]
    fn a_webhook_id_is_the_registration_under_another_prefix() {
        assert_eq!(webhook_id("reg_0198"), "msg_0198");
    }
}
