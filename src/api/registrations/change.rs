//! Calling registrations off, and sending again.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, Uri};

use crate::api::auth::Caller;
use crate::api::openapi::{QueryRefused, Refused};
use crate::api::problem::{Kind, Problem, ProblemBody, Result};
use crate::api::query::Query;
use crate::api::segment::Segment;
use crate::api::shared::Shared;
use crate::task::{Registration, State as RegistrationState};

/// Cancel a registration
///
/// Nothing is sent any more; a task that nobody waits for is no longer polled. Cancelling twice is
/// cancelling once.
#[utoipa::path(delete, path = "/v1/registrations/{id}", operation_id = "cancelRegistration", tag = "registrations",
    params(("id" = String, Path, description = "`reg_…`")),
    responses((status = 200, description = "Cancelled", body = Registration),
              (status = 409, description = "It is over already", body = ProblemBody,
               content_type = "application/problem+json"),
              QueryRefused, Refused))]
pub async fn cancel(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(id): Segment,
    uri: Uri,
) -> Result<Json<Registration>> {
    Query::parse(uri.query()).finish()?;
    caller.sees(shared.answer(shared.store().find(&id)).await?)?;
    let now = shared.given.clock.wall();
    let after = caller.sees(shared.answer(shared.store().cancel(&id, now)).await?)?;
    if after.state == RegistrationState::Cancelled {
        return Ok(Json(after));
    }
    Err(wrong_state(after.state, "it is over already; there is nothing left to cancel"))
}

/// Send a registration's outcome again
///
/// From the start of the schedule, with the same `webhook-id` and body.
#[utoipa::path(post, path = "/v1/registrations/{id}/redeliver",
    operation_id = "redeliverRegistration", tag = "registrations",
    params(("id" = String, Path, description = "`reg_…`")),
    responses((status = 202, description = "Due now", body = Registration),
              (status = 409, description = "No outcome yet, or cancelled", body = ProblemBody,
               content_type = "application/problem+json"),
              QueryRefused, Refused))]
pub async fn redeliver(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(id): Segment,
    uri: Uri,
) -> Result<(StatusCode, Json<Registration>)> {
    Query::parse(uri.query()).finish()?;
    caller.sees(shared.answer(shared.store().find(&id)).await?)?;
    let now = shared.given.clock.wall();
    let after = caller.sees(shared.answer(shared.store().redeliver(&id, now)).await?)?;
    match after.state {
        RegistrationState::Watching => {
            Err(wrong_state(after.state, "there is no outcome to send yet; wait for it"))
        }
        RegistrationState::Cancelled => {
            Err(wrong_state(after.state, "it was cancelled; register the task again"))
        }
        RegistrationState::Delivering
        | RegistrationState::Delivered
        | RegistrationState::Undeliverable => Ok((StatusCode::ACCEPTED, Json(after))),
    }
}

fn wrong_state(state: RegistrationState, detail: &str) -> Problem {
    let detail = format!("the registration is {state}: {detail}");
    Problem::new(Kind::WrongState, detail).with("state", state.name())
}
