//! Cancelling registrations, sending again, and watching again.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use url::Url;

use super::{inner, located, only, status};
use crate::api::auth::Caller;
use crate::api::openapi::{QueryRefused, Refused};
use crate::api::problem::{Kind, Problem, ProblemBody, Result};
use crate::api::query::Query;
use crate::api::segment::Segment;
use crate::api::shared::Shared;
use crate::api::validate::origin;
use crate::api::watch;
use crate::outcome::Class;
use crate::store::NewRegistration;
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

/// Watch an unresolved registration's task again
///
/// As a new registration of the same task and callback, with the same metadata and as much time as
/// the first had; the first one and its outcome stay. Answered with 200 and the one that is there,
/// if the same was registered again already.
#[utoipa::path(post, path = "/v1/registrations/{id}/rewatch",
    operation_id = "rewatchRegistration", tag = "registrations",
    params(("id" = String, Path, description = "`reg_…`")),
    responses((status = 201, description = "Watched again", body = Registration,
               headers(("Location" = String, description = "Where the new one is"))),
              (status = 200, description = "It was watched again before", body = Registration),
              (status = 409, description = "It is not unresolved", body = ProblemBody,
               content_type = "application/problem+json"),
              QueryRefused, Refused))]
pub async fn rewatch(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(id): Segment,
    uri: Uri,
) -> Result<Response> {
    Query::parse(uri.query()).finish()?;
    let found = caller.sees(shared.answer(shared.store().find(&id)).await?)?;
    let class = found.outcome.as_ref().map(|report| report.outcome);
    let refused = match (found.state, class) {
        (RegistrationState::Cancelled, _) => "register the task again",
        (_, None) => "it has no outcome yet, so it is watched already; wait for it",
        (_, Some(Class::Unresolved)) => {
            let now = shared.given.clock.wall();
            let first = as_registered(found)?;
            let new = first.again(shared.ids.next(now), now);
            let registered = shared.answer(shared.store().register(vec![new])).await?;
            let registered = only(registered)?;
            let status = status(&registered);
            return Ok(located(status, watch::with_account(&shared, inner(registered))));
        }
        (_, Some(Class::Succeeded | Class::Failed)) => {
            "its task's outcome is final; read it, or have it sent again with redeliver"
        }
    };
    Err(wrong_state(found.state, refused))
}

fn as_registered(it: Registration) -> Result<NewRegistration> {
    let unreadable =
        |error| Problem::new(Kind::Internal, format!("its callback is no URL: {error}"));
    let url = Url::parse(&it.callback.url).map_err(unreadable)?;
    Ok(NewRegistration {
        id: it.id,
        client: it.client,
        task: it.task,
        callback_origin: origin(&url),
        callback_host: url.host_str().unwrap_or_default().to_owned(),
        callback_url: it.callback.url,
        metadata: it.metadata.get().to_owned(),
        created_at: it.created_at,
        give_up_at: it.give_up_at,
    })
}

fn wrong_state(state: RegistrationState, detail: &str) -> Problem {
    let detail = format!("the registration is {state}: {detail}");
    Problem::new(Kind::WrongState, detail).with("state", state.name())
}
