//! The poll's reply as an observation: every row of the endpoint's documentation, and everything
//! an edge or a proxy may put in its place. Pure.

use serde_json::value::RawValue;

use super::field::{self, Object};
use super::refusal;
use super::reply::{Envelope, Reply};
use crate::outcome::{Ids, Outcome, Reason};
use crate::source::{Observation, PollError, Polled};

/// "Task not found or task error": unknown, or timed out at Feishu and deleted.
const TASK_NOT_FOUND: i64 = 1_002_008;
/// "Parameter error": the ids are malformed.
const INVALID_PARAMETER: i64 = 1_002_002;

/// What the reply to a poll says about its task.
///
/// A task settles only on a reply that is beyond doubt: JSON, a matching HTTP status, and a
/// status that is the integer 2 or 3, or the code for malformed ids.
pub fn poll(reply: &Reply) -> Result<Polled, PollError> {
    let envelope = match reply.envelope() {
        Ok(envelope) => envelope,
        // An edge that says 429 in HTML still asks for patience.
        Err(_) if reply.status == 429 => {
            return Err(PollError::Quota { reset: refusal::reset(reply) });
        }
        Err(error) => return Err(error),
    };
    let server_failed = reply.status >= 500;
    let observation = match envelope.code {
        0 if reply.is_success() => observation(reply, &envelope)?,
        0 => return Err(refusal::upstream(reply, &envelope)),
        TASK_NOT_FOUND if !server_failed => Observation::NotFound,
        INVALID_PARAMETER if !server_failed => {
            Observation::Settled(Outcome::unresolved(Reason::InvalidTask))
        }
        _ => return Err(refusal::refusal(reply, &envelope)),
    };
    Ok(Polled { observation, log_id: reply.support_id(Some(&envelope)) })
}

fn observation(reply: &Reply, envelope: &Envelope<'_>) -> Result<Observation, PollError> {
    let pending = Observation::Pending { unknown_status: None };
    let Some(data) = envelope.data().filter(|data| !is_empty(data)) else { return Ok(pending) };
    let data = field::object(data).ok_or_else(|| reply.unreadable("a `data` that is no object"))?;
    let Some(status) = field::present(&data, "status") else { return Ok(pending) };
    // A status in quotes or with a fraction is not what Feishu documents for this endpoint, so it
    // settles nothing: the poll is counted as unreadable, and the task is polled again.
    let status =
        field::integer(status).ok_or_else(|| reply.unreadable("a `status` that is no integer"))?;
    Ok(match status {
        0 | 1 => pending,
        2 => Observation::Settled(Outcome::succeeded(ids(&data))),
        3 => {
            let message = field::text(&data, "status_msg");
            let duplicate_of = field::text(&data, "extra_info");
            Observation::Settled(Outcome::failed(ids(&data), message, duplicate_of))
        }
        unknown => Observation::Pending { unknown_status: Some(unknown) },
    })
}

/// Feishu's words are "while `data` is empty, go on polling"; how empty looks varies.
fn is_empty(data: &RawValue) -> bool {
    let without_blanks: String = data.get().split_ascii_whitespace().collect();
    matches!(without_blanks.as_str(), "{}" | "[]" | "\"\"")
}

fn ids(data: &Object<'_>) -> Ids {
    let delivery = field::present(data, "delivery").and_then(field::object).unwrap_or_default();
    let id = |key| field::text(&delivery, key);
    Ids {
        application_id: id("application_id"),
        job_id: id("job_id"),
        job_post_id: id("job_post_id"),
        portal_resume_id: id("portal_resume_id"),
        user_id: id("user_id"),
        talent_id: id("talent_id"),
    }
}

#[cfg(test)]
mod tests;
