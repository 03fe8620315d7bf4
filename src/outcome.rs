//! What became of a task, and the bytes that tell a callback so.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::clock::Timestamp;
use crate::task::TaskRef;

/// What became of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The class.
    pub outcome: Class,
    /// The ids Feishu gave, with a success always, otherwise only when it gave any.
    pub delivery: Option<Ids>,
    /// Why it did not succeed.
    pub failure: Option<Failure>,
}

/// The three ways a task can end.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Feishu created the application.
    Succeeded,
    /// Feishu refused it.
    Failed,
    /// Nobody can say: unknown task, malformed ids, or out of time.
    Unresolved,
}

impl Class {
    /// The name used in the callback and the metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Unresolved => "unresolved",
        }
    }
}

/// The ids of Feishu's `website_delivery_dto`; absent and blank ones are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Ids {
    /// The application.
    pub application_id: Option<String>,
    /// The job.
    pub job_id: Option<String>,
    /// The job advertisement.
    pub job_post_id: Option<String>,
    /// The website's copy of the résumé.
    pub portal_resume_id: Option<String>,
    /// The website's user.
    pub user_id: Option<String>,
    /// The talent.
    pub talent_id: Option<String>,
}

/// Why a task did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Failure {
    /// The stable word for it.
    pub reason: Reason,
    /// Feishu's `status_msg`, trimmed.
    pub message: Option<String>,
    /// The earlier delivery that this one repeats.
    pub duplicate_of: Option<String>,
}

/// The stable words for why a task did not succeed.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Status 3 that names an earlier delivery.
    Duplicate,
    /// Status 3 otherwise.
    Rejected,
    /// 1002008, confirmed over the grace period.
    TaskNotFound,
    /// 1002002.
    InvalidTask,
    /// `give_up_at` passed, and the task was last seen pending.
    TimedOut,
    /// `give_up_at` passed, and Feishu gave no usable answer about the task.
    NotObserved,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 6] = [
        Self::Duplicate,
        Self::Rejected,
        Self::TaskNotFound,
        Self::InvalidTask,
        Self::TimedOut,
        Self::NotObserved,
    ];

    /// The name used in the callback, the API, the store and the metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::Rejected => "rejected",
            Self::TaskNotFound => "task_not_found",
            Self::InvalidTask => "invalid_task",
            Self::TimedOut => "timed_out",
            Self::NotObserved => "not_observed",
        }
    }

    /// The reason of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

impl Outcome {
    /// Status 2.
    #[must_use]
    pub fn succeeded(ids: Ids) -> Self {
        Self { outcome: Class::Succeeded, delivery: Some(ids), failure: None }
    }

    /// Status 3: a duplicate if it names an earlier delivery, else a rejection.
    #[must_use]
    pub fn failed(ids: Ids, message: Option<String>, duplicate_of: Option<String>) -> Self {
        let reason = if duplicate_of.is_some() { Reason::Duplicate } else { Reason::Rejected };
        Self {
            outcome: Class::Failed,
            delivery: (ids != Ids::default()).then_some(ids),
            failure: Some(Failure { reason, message, duplicate_of }),
        }
    }

    /// No answer will come, for `reason`.
    #[must_use]
    pub fn unresolved(reason: Reason) -> Self {
        Self {
            outcome: Class::Unresolved,
            delivery: None,
            failure: Some(Failure { reason, message: None, duplicate_of: None }),
        }
    }

    /// Its time is over, and Feishu gave no usable answer about it; `message` says why.
    #[must_use]
    pub fn not_observed(message: String) -> Self {
        let failure =
            Failure { reason: Reason::NotObserved, message: Some(message), duplicate_of: None };
        Self { outcome: Class::Unresolved, delivery: None, failure: Some(failure) }
    }

    /// Why nobody can say how the task ended; `None` for an outcome that is final.
    #[must_use]
    pub fn unresolved_reason(&self) -> Option<&'static str> {
        (self.outcome == Class::Unresolved).then(|| self.words().1)
    }

    /// The class and, if there is one, the reason: for logs and metrics.
    #[must_use]
    pub fn words(&self) -> (&'static str, &'static str) {
        let reason = self.failure.as_ref().map_or("none", |failure| failure.reason.name());
        (self.outcome.name(), reason)
    }
}

/// When and how the outcome was learned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Observed {
    /// When the registration was accepted.
    pub registered_at: Timestamp,
    /// The last time the task was seen pending.
    pub last_pending_at: Option<Timestamp>,
    /// When the daemon saw the end.
    pub settled_at: Timestamp,
    /// How many polls it took.
    pub polls: u32,
    /// Feishu's support id of the poll that saw it.
    pub log_id: Option<String>,
}

/// An outcome with its provenance: the callback's `data` less `registration_id` and `metadata`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Report {
    /// What was waited for.
    pub task: TaskRef,
    /// The class.
    pub outcome: Class,
    /// The ids Feishu gave.
    pub delivery: Option<Ids>,
    /// Why it did not succeed.
    pub failure: Option<Failure>,
    /// When and how it was learned.
    pub observed: Observed,
}

impl Report {
    /// The report of `outcome` on `task`.
    #[must_use]
    pub fn new(task: TaskRef, outcome: Outcome, observed: Observed) -> Self {
        let Outcome { outcome, delivery, failure } = outcome;
        Self { task, outcome, delivery, failure, observed }
    }
}

#[derive(Serialize)]
struct Envelope<'a> {
    r#type: String,
    timestamp: Timestamp,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    registration_id: &'a str,
    task: &'a TaskRef,
    outcome: Class,
    delivery: &'a Option<Ids>,
    failure: &'a Option<Failure>,
    observed: &'a Observed,
    metadata: &'a RawValue,
}

/// The callback's body. Rendered once, when the outcome is stored; never again.
#[must_use]
pub fn body(registration_id: &str, report: &Report, metadata: &RawValue) -> Vec<u8> {
    let envelope = Envelope {
        r#type: format!("delivery_task.{}", report.outcome.name()),
        timestamp: report.observed.settled_at,
        data: Data {
            registration_id,
            task: &report.task,
            outcome: report.outcome,
            delivery: &report.delivery,
            failure: &report.failure,
            observed: &report.observed,
            metadata,
        },
    };
    serde_json::to_vec(&envelope).expect("strings, numbers and JSON always serialise")
}

/// Reads the report back out of a callback's body.
pub fn read(body: &[u8]) -> serde_json::Result<Report> {
    #[derive(Deserialize)]
    struct Stored {
        data: Report,
    }
    serde_json::from_slice::<Stored>(body).map(|stored| stored.data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Kind;

    fn report(outcome: Outcome) -> Report {
        let task = TaskRef {
            kind: Kind::HireWebsiteDelivery,
            account: "default".into(),
            website_id: "7047318856652261676".into(),
            delivery_task_id: "f1c2a0f138ec492d99d7ab73594158ad".into(),
        };
        let observed = Observed {
            registered_at: Timestamp(1_000),
            last_pending_at: Some(Timestamp(2_000)),
            settled_at: Timestamp(3_123),
            polls: 3,
            log_id: Some("20261122".into()),
        };
        Report::new(task, outcome, observed)
    }

    #[test]
    fn a_success_reads_as_the_contract_says() {
        let ids = Ids { application_id: Some("6960663240925956657".into()), ..Ids::default() };
        let metadata = RawValue::from_string(r#"{"candidate":"42"}"#.into()).unwrap();
        let bytes = body("reg_1", &report(Outcome::succeeded(ids)), &metadata);
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            concat!(
                r#"{"type":"delivery_task.succeeded","timestamp":"1970-01-01T00:00:03.123Z","#,
                r#""data":{"registration_id":"reg_1","#,
                r#""task":{"kind":"hire.website_delivery","account":"default","#,
                r#""website_id":"7047318856652261676","#,
                r#""delivery_task_id":"f1c2a0f138ec492d99d7ab73594158ad"},"#,
                r#""outcome":"succeeded","#,
                r#""delivery":{"application_id":"6960663240925956657","job_id":null,"#,
                r#""job_post_id":null,"portal_resume_id":null,"user_id":null,"talent_id":null},"#,
                r#""failure":null,"#,
                r#""observed":{"registered_at":"1970-01-01T00:00:01.000Z","#,
                r#""last_pending_at":"1970-01-01T00:00:02.000Z","#,
                r#""settled_at":"1970-01-01T00:00:03.123Z","polls":3,"log_id":"20261122"},"#,
                r#""metadata":{"candidate":"42"}}}"#,
            )
        );
    }

    #[test]
    fn a_failure_is_a_duplicate_only_when_it_names_the_earlier_delivery() {
        let rejected = Outcome::failed(Ids::default(), Some("no".into()), None);
        assert_eq!(rejected.words(), ("failed", "rejected"));
        assert_eq!(rejected.delivery, None);
        let duplicate = Outcome::failed(Ids::default(), None, Some("69".into()));
        assert_eq!(duplicate.words(), ("failed", "duplicate"));
    }

    #[test]
    fn only_an_unresolved_outcome_says_why_nobody_knows() {
        for reason in Reason::ALL {
            assert_eq!(Reason::named(reason.name()), Some(reason));
            let outcome = Outcome::unresolved(reason);
            assert_eq!(outcome.unresolved_reason(), Some(reason.name()));
        }
        assert_eq!(Reason::named("lost"), None);
        assert_eq!(Outcome::failed(Ids::default(), None, None).unresolved_reason(), None);
    }

    #[test]
    fn a_stored_report_reads_back_as_it_was() {
        let report = report(Outcome::unresolved(Reason::TimedOut));
        let body = body("reg_1", &report, RawValue::NULL);
        assert_eq!(read(&body).unwrap(), report);
    }
}
