//! `GET /v1/outcomes`: a client's outcomes in order, for an app that was down.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::Caller;
use super::cursor;
use super::openapi::{QueryRefused, Refused};
use super::problem::Result;
use super::query::Query;
use super::shared::Shared;
use super::wait::{self, WAIT_MAX};
use crate::task::Registration;

const OUTCOMES_LIMIT_DEFAULT: u32 = 100;
const OUTCOMES_LIMIT_MAX: u32 = 1000;

/// A stretch of a client's outcomes.
#[derive(Serialize, ToSchema)]
pub struct OutcomePage {
    /// The registrations that have an outcome, in the order in which it was stored.
    items: Vec<Registration>,
    /// Pass it as `after` to go on; it lasts. The same as `after` when there was nothing new.
    next_cursor: String,
}

/// Read the client's outcomes in order
///
/// Keep `next_cursor`: it lasts, and asking with it returns what came since. With `wait` an empty
/// page waits for the first outcome. An operator reads its own, or with `client` somebody's.
#[utoipa::path(get, path = "/v1/outcomes", operation_id = "listOutcomes", tag = "outcomes",
    params(("after" = Option<String>, Query, description = "a `next_cursor`; from the first otherwise"),
           ("limit" = Option<u32>, Query, description = "1 to 1000, 100 unless given"),
           ("wait" = Option<String>, Query, description = "at most 60s", example = "30s"),
           ("client" = Option<String>, Query, description = "for operators")),
    responses((status = 200, description = "In order", body = OutcomePage),
              QueryRefused, Refused))]
pub async fn outcomes(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    uri: Uri,
) -> Result<Json<OutcomePage>> {
    let mut query = Query::parse(uri.query());
    let after = query.read("after", cursor::position).unwrap_or(0);
    let limit = query.limit("limit", OUTCOMES_LIMIT_DEFAULT, OUTCOMES_LIMIT_MAX);
    let wait = query.duration("wait", WAIT_MAX);
    let own = &caller.client().name;
    let allowed = |name: &str| {
        let allowed = caller.is_operator() || name == own;
        allowed.then(|| name.to_owned()).ok_or("another client's outcomes are not yours to see")
    };
    let of = query.read("client", allowed);
    query.finish()?;
    let of = of.unwrap_or_else(|| own.clone());
    let found = wait::until(
        &shared,
        own,
        wait,
        |_any| true,
        |found: &Vec<_>| !found.is_empty(),
        || shared.answer(shared.store().outcomes(&of, after, limit)),
    )
    .await?;
    let last = found.last().map_or(after, |(position, _)| *position);
    let items = found.into_iter().map(|(_, registration)| registration).collect();
    Ok(Json(OutcomePage { items, next_cursor: cursor::after_position(last) }))
}
