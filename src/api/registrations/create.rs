//! `POST /v1/registrations`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;

use super::{inner, located, only, status};
use crate::api::auth::Caller;
use crate::api::body::{self, BODY_BYTES_MAX};
use crate::api::openapi::{BodyRefused, Refused};
use crate::api::problem::{Problem, Result};
use crate::api::query::Query;
use crate::api::shared::Shared;
use crate::api::validate::{Judge, Wanted};
use crate::api::watch;
use crate::store::Registered;
use crate::task::Registration;

/// Register a task and a callback
///
/// Answered only once the registration is durable. A repeated one (same client, task and callback,
/// neither cancelled nor unresolved) is answered with the first one, whose metadata and deadline stand. A task whose
/// outcome is known already is delivered at once.
#[utoipa::path(post, path = "/v1/registrations", operation_id = "register",
    tag = "registrations", request_body = Wanted,
    responses(
        (status = 201, description = "New, and durable", body = Registration,
         headers(("Location" = String, description = "Where to find it again"))),
        (status = 200, description = "It was there before", body = Registration),
        BodyRefused, Refused))]
pub async fn create(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    let metrics = shared.given.metrics.clone();
    let registered = register(&shared, &caller, &uri, &headers, body).await;
    metrics.registered(match &registered {
        Ok(Registered::New(_)) => "new",
        Ok(Registered::Existing(_)) => "existing",
        Err(_) => "refused",
    });
    let registered = registered?;
    let status = status(&registered);
    Ok(located(status, watch::with_account(&shared, inner(registered))))
}

async fn register(
    shared: &Shared,
    caller: &Caller,
    uri: &Uri,
    headers: &HeaderMap,
    body: Body,
) -> Result<Registered> {
    caller.require_signing_secret()?;
    Query::parse(uri.query()).finish()?;
    let deadline = shared.given.limits.body_time_max;
    let bytes = body::read_json(headers, body, BODY_BYTES_MAX, deadline).await?;
    let wanted: Wanted = body::parse(&bytes)?;
    let now = shared.given.clock.wall();
    let judge = Judge {
        client: caller.client(),
        config: &caller.config,
        callback: &shared.given.judge_callback,
        now,
    };
    let new = judge.accept(wanted, shared.ids.next(now)).map_err(Problem::invalid)?;
    let registered = shared.answer(shared.store().register(vec![new])).await?;
    only(registered)
}
