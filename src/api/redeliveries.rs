//! `/v1/redeliveries`: sending many again by a filter.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::Caller;
use super::body::{self, BODY_BYTES_MAX};
use super::bulk::{self, Bulk, EVER};
use super::openapi::{BodyRefused, QueryRefused, Refused};
use super::problem::{FieldError, Problem, Result};
use super::query::Query;
use super::segment::Segment;
use super::shared::Shared;
use crate::clock::Timestamp;
use crate::store::{NewRedelivery, Redelivery, RedeliveryFilter};
use crate::task::State as RegistrationState;

/// The body of a bulk redelivery. At least one member must be there: an empty object would be a
/// slip that sends everything.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewRedelivery, example = json!({
    "state": "undeliverable", "since": "2026-11-21T00:00:00Z", "callback_host": "hr.example.com"}))]
pub struct Wanted {
    /// `undeliverable` (unless given) or `delivered`.
    #[schema(pattern = "^(undeliverable|delivered)$")]
    state: Option<String>,
    /// Only what ended at or after this.
    #[schema(value_type = Option<Timestamp>)]
    since: Option<String>,
    /// Only what ended before this; now unless given.
    #[schema(value_type = Option<Timestamp>)]
    until: Option<String>,
    /// Only to this callback host.
    callback_host: Option<String>,
    /// For operators: only this client's; everybody's unless given.
    client: Option<String>,
}

/// A bulk redelivery.
#[derive(Serialize, ToSchema)]
#[schema(as = Redelivery)]
pub struct RedeliveryView {
    /// `rdl_…`
    id: String,
    /// `running`, `finished` or `cancelled`.
    #[schema(pattern = "^(running|finished|cancelled)$")]
    state: &'static str,
    /// Registrations that fitted the filter at the start.
    matched: u64,
    /// Of those, how many were made due again. At the end fewer than `matched`, if some were
    /// redelivered or forgotten meanwhile.
    done: u64,
    /// When it was asked for.
    created_at: Timestamp,
    /// When it was worked off or cancelled.
    finished_at: Option<Timestamp>,
    /// What it sends again.
    filter: FilterView,
}

/// What a bulk redelivery sends again.
#[derive(Serialize, ToSchema)]
#[schema(as = RedeliveryFilter)]
pub struct FilterView {
    /// Whose registrations; null for everybody's.
    client: Option<String>,
    /// The state they are in.
    state: RegistrationState,
    /// They ended at or after this; null for any time.
    since: Option<Timestamp>,
    /// And before this.
    until: Timestamp,
    /// The host of their callbacks; null for any.
    callback_host: Option<String>,
}

impl From<Redelivery> for RedeliveryView {
    fn from(it: Redelivery) -> Self {
        let filter = FilterView {
            client: it.filter.client,
            state: it.filter.state,
            since: Some(it.filter.since).filter(|since| *since > EVER),
            until: it.filter.until,
            callback_host: it.filter.callback_host,
        };
        Self {
            id: it.id,
            state: it.state.name(),
            matched: it.matched,
            done: it.done,
            created_at: it.created_at,
            finished_at: it.finished_at,
            filter,
        }
    }
}

/// Send many registrations' outcomes again
///
/// What fits the filter now is made due again little by little, each from the start of the
/// schedule, with the same `webhook-id` and body. It goes on after a restart.
#[utoipa::path(post, path = "/v1/redeliveries", operation_id = "redeliverMany",
    tag = "redeliveries", request_body = Wanted,
    responses((status = 202, description = "Accepted", body = RedeliveryView,
               headers(("Location" = String, description = "where its progress is"))),
              BodyRefused, Refused))]
pub async fn create(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    Query::parse(uri.query()).finish()?;
    let deadline = shared.given.limits.body_time_max;
    let bytes = body::read_json(&headers, body, BODY_BYTES_MAX, deadline).await?;
    let now = shared.given.clock.wall();
    let filter = filter(body::parse(&bytes)?, &caller, now).map_err(Problem::invalid)?;
    let id = shared.ids.next(now).replacen("reg_", "rdl_", 1);
    let owner = caller.client().name.clone();
    let new = NewRedelivery { id, owner, filter, created_at: now };
    let begun = shared.answer(shared.store().begin_redelivery(new)).await?;
    Ok(bulk::accepted(&format!("/v1/redeliveries/{}", begun.id), RedeliveryView::from(begun)))
}

/// Look at a bulk redelivery's progress
#[utoipa::path(get, path = "/v1/redeliveries/{id}", operation_id = "showRedelivery",
    tag = "redeliveries", params(("id" = String, Path, description = "`rdl_…`")),
    responses((status = 200, description = "As it is now", body = RedeliveryView),
              QueryRefused, Refused))]
pub async fn show(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(id): Segment,
    uri: Uri,
) -> Result<Json<RedeliveryView>> {
    Query::parse(uri.query()).finish()?;
    let found = shared.answer(shared.store().redelivery(&id)).await?;
    Ok(Json(bulk::seen(&caller, found)?.into()))
}

/// Cancel a bulk redelivery
///
/// It goes no further; what it made due already stays due. One that is over stays as it is.
#[utoipa::path(delete, path = "/v1/redeliveries/{id}", operation_id = "cancelRedelivery",
    tag = "redeliveries", params(("id" = String, Path, description = "`rdl_…`")),
    responses((status = 200, description = "Cancelled, or over before", body = RedeliveryView),
              QueryRefused, Refused))]
pub async fn cancel(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(id): Segment,
    uri: Uri,
) -> Result<Json<RedeliveryView>> {
    Query::parse(uri.query()).finish()?;
    bulk::seen(&caller, shared.answer(shared.store().redelivery(&id)).await?)?;
    let now = shared.given.clock.wall();
    let after = shared.answer(shared.store().cancel_redelivery(&id, now)).await?;
    Ok(Json(bulk::seen(&caller, after)?.into()))
}

impl Bulk for Redelivery {
    const NAME: &str = "redelivery";

    fn owner(&self) -> &str {
        &self.owner
    }
}

/// The filter, or everything that is wrong with it.
fn filter(
    wanted: Wanted,
    caller: &Caller,
    now: Timestamp,
) -> std::result::Result<RedeliveryFilter, Vec<FieldError>> {
    let mut errors = Vec::new();
    let Wanted { state, since, until, callback_host, client } = wanted;
    if [&state, &since, &until, &callback_host, &client].iter().all(|it| it.is_none()) {
        let detail = "name at least one of state, since, until, callback_host";
        return Err(vec![FieldError::at("", detail)]);
    }
    let state = match state.as_deref() {
        None | Some("undeliverable") => RegistrationState::Undeliverable,
        Some("delivered") => RegistrationState::Delivered,
        Some(_) => {
            let detail = "must be undeliverable or delivered: others have nothing to send again";
            errors.push(FieldError::at("/state", detail));
            RegistrationState::Undeliverable
        }
    };
    let since = bulk::time(since, "/since", &mut errors).unwrap_or(EVER);
    let until = bulk::time(until, "/until", &mut errors).map_or(now, |until| until.min(now));
    let client = bulk::client(caller, client, &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    let callback_host = callback_host.map(|host| host.to_ascii_lowercase());
    Ok(RedeliveryFilter { client, state, since, until, callback_host })
}
