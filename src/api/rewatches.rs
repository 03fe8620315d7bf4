//! `/v1/rewatches`: watching many again that ended unresolved.

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
use super::problem::{FieldError, Kind, Problem, Result};
use super::query::Query;
use super::segment::Segment;
use super::shared::Shared;
use crate::clock::Timestamp;
use crate::outcome::Reason;
use crate::store::rewatch::RUNNING_MAX;
use crate::store::{NewRewatch, Rewatch, RewatchFilter};

/// The reasons for which a task can be unresolved.
const REASONS: [Reason; 4] =
    [Reason::TaskNotFound, Reason::InvalidTask, Reason::TimedOut, Reason::NotObserved];
/// How soon one of a client's running rewatches may be over.
const RUNNING_RETRY_SECONDS: u32 = 30;

/// The body of a bulk rewatch. At least one member must be there: an empty object would be a slip
/// that watches everything again.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewRewatch, example = json!({
    "account": "default", "reason": "not_observed", "since": "2026-11-21T00:00:00Z"}))]
pub struct Wanted {
    /// Only on this account.
    account: Option<String>,
    /// Only what ended for this reason.
    #[schema(pattern = "^(task_not_found|invalid_task|timed_out|not_observed)$")]
    reason: Option<String>,
    /// Only what ended at or after this.
    #[schema(value_type = Option<Timestamp>)]
    since: Option<String>,
    /// Only what ended before this; now unless given.
    #[schema(value_type = Option<Timestamp>)]
    until: Option<String>,
    /// For operators: only this client's; everybody's unless given.
    client: Option<String>,
}

/// A bulk rewatch.
#[derive(Serialize, ToSchema)]
#[schema(as = Rewatch)]
pub struct RewatchView {
    /// `rwt_…`
    id: String,
    /// `running`, `finished` or `cancelled`.
    #[schema(pattern = "^(running|finished|cancelled)$")]
    state: &'static str,
    /// Registrations that fitted the filter at the start.
    matched: u64,
    /// Of those, how many are watched again, each as a new registration. At the end fewer than
    /// `matched`, if the same was registered again, or forgotten, meanwhile.
    done: u64,
    /// When it was asked for.
    created_at: Timestamp,
    /// When it was worked off or cancelled.
    finished_at: Option<Timestamp>,
    /// What it watches again.
    filter: FilterView,
}

/// What a bulk rewatch watches again.
#[derive(Serialize, ToSchema)]
#[schema(as = RewatchFilter)]
pub struct FilterView {
    /// Whose registrations; null for everybody's.
    client: Option<String>,
    /// The account; null for any.
    account: Option<String>,
    /// The reason for which they are unresolved; null for any.
    reason: Option<Reason>,
    /// They ended at or after this; null for any time.
    since: Option<Timestamp>,
    /// And before this.
    until: Timestamp,
}

impl From<Rewatch> for RewatchView {
    fn from(it: Rewatch) -> Self {
        let RewatchFilter { client, account, reason, since, until } = it.filter;
        let since = Some(since).filter(|since| *since > EVER);
        Self {
            id: it.id,
            state: it.state.name(),
            matched: it.matched,
            done: it.done,
            created_at: it.created_at,
            finished_at: it.finished_at,
            filter: FilterView { client, account, reason, since, until },
        }
    }
}

/// Watch many unresolved registrations again
///
/// What fits the filter now is registered again little by little: the same task, callback and
/// metadata, with as much time as the first had. It goes on after a restart. For use after an
/// outage.
#[utoipa::path(post, path = "/v1/rewatches", operation_id = "rewatchMany",
    tag = "rewatches", request_body = Wanted,
    responses((status = 202, description = "Accepted", body = RewatchView,
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
    let id = shared.ids.next(now).replacen("reg_", "rwt_", 1);
    let owner = caller.client().name.clone();
    let new = NewRewatch { id, owner, filter, created_at: now };
    let begun = shared.answer(shared.store().begin_rewatch(new)).await?;
    let begun = begun.ok_or_else(|| {
        let detail = format!(
            "{RUNNING_MAX} rewatches of this client are running: wait for one to finish, or cancel \
             one with DELETE /v1/rewatches/{{id}}"
        );
        Problem::new(Kind::TooManyRequests, detail).retry_after(RUNNING_RETRY_SECONDS)
    })?;
    Ok(bulk::accepted(&format!("/v1/rewatches/{}", begun.id), RewatchView::from(begun)))
}

/// Look at a bulk rewatch's progress
#[utoipa::path(get, path = "/v1/rewatches/{id}", operation_id = "showRewatch",
    tag = "rewatches", params(("id" = String, Path, description = "`rwt_…`")),
    responses((status = 200, description = "As it is now", body = RewatchView),
              QueryRefused, Refused))]
pub async fn show(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(id): Segment,
    uri: Uri,
) -> Result<Json<RewatchView>> {
    Query::parse(uri.query()).finish()?;
    let found = shared.answer(shared.store().rewatch(&id)).await?;
    Ok(Json(bulk::seen(&caller, found)?.into()))
}

/// Cancel a bulk rewatch
///
/// It goes no further; what it registered again stays watched. One that is over stays as it is.
#[utoipa::path(delete, path = "/v1/rewatches/{id}", operation_id = "cancelRewatch",
    tag = "rewatches", params(("id" = String, Path, description = "`rwt_…`")),
    responses((status = 200, description = "Cancelled, or over before", body = RewatchView),
              QueryRefused, Refused))]
pub async fn cancel(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(id): Segment,
    uri: Uri,
) -> Result<Json<RewatchView>> {
    Query::parse(uri.query()).finish()?;
    bulk::seen(&caller, shared.answer(shared.store().rewatch(&id)).await?)?;
    let now = shared.given.clock.wall();
    let after = shared.answer(shared.store().cancel_rewatch(&id, now)).await?;
    Ok(Json(bulk::seen(&caller, after)?.into()))
}

impl Bulk for Rewatch {
    const NAME: &str = "rewatch";

    fn owner(&self) -> &str {
        &self.owner
    }
}

/// The filter, or everything that is wrong with it.
fn filter(
    wanted: Wanted,
    caller: &Caller,
    now: Timestamp,
) -> std::result::Result<RewatchFilter, Vec<FieldError>> {
    let mut errors = Vec::new();
    let Wanted { account, reason, since, until, client } = wanted;
    if [&account, &reason, &since, &until, &client].iter().all(|it| it.is_none()) {
        let detail = "name at least one of account, reason, since, until";
        return Err(vec![FieldError::at("", detail)]);
    }
    let reason = reason.and_then(|name| {
        let known = Reason::named(&name).filter(|reason| REASONS.contains(reason));
        if known.is_none() {
            let names = REASONS.map(Reason::name).join(", ");
            errors.push(FieldError::at("/reason", format!("must be one of: {names}")));
        }
        known
    });
    let since = bulk::time(since, "/since", &mut errors).unwrap_or(EVER);
    let until = bulk::time(until, "/until", &mut errors).map_or(now, |until| until.min(now));
    let client = bulk::client(caller, client, &mut errors);
    if errors.is_empty() {
        Ok(RewatchFilter { client, account, reason, since, until })
    } else {
        Err(errors)
    }
}
