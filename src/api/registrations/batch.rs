//! `POST /v1/registrations/batch`.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{inner, status};
use crate::api::auth::Caller;
use crate::api::body::{self, BATCH_BYTES_MAX, BODY_BYTES_MAX};
use crate::api::openapi::{BodyRefused, Refused};
use crate::api::problem::{FieldError, Kind, Problem, ProblemBody, Result};
use crate::api::query::Query;
use crate::api::shared::Shared;
use crate::api::validate::{Judge, Wanted};
use crate::api::watch;
use crate::clock::Timestamp;
use crate::store::{NewRegistration, Registered};
use crate::task::Registration;

/// One commit of the store; more would keep others waiting.
const BATCH_ITEMS_MAX: usize = 1000;

/// The body of a batch.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// At most 1,000.
    #[schema(required = true, nullable = false, value_type = Vec<Wanted>, max_items = 1000)]
    registrations: Option<Vec<Box<RawValue>>>,
}

/// What became of a batch, in its order.
#[derive(Serialize, ToSchema)]
pub struct BatchResults {
    results: Vec<BatchResult>,
}

/// What became of one registration of a batch.
#[derive(Serialize, ToSchema)]
pub struct BatchResult {
    /// What the status would have been, had it come alone: 201, 200, 413 or 422.
    status: u16,
    /// Present if it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    registration: Option<Registration>,
    /// Present if it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Option<ProblemBody>)]
    problem: Option<Value>,
}

impl BatchResult {
    fn of(shared: &Shared, registered: Registered) -> Self {
        let status = status(&registered).as_u16();
        let registration = watch::with_account(shared, inner(registered));
        Self { status, registration: Some(registration), problem: None }
    }
}

impl From<Problem> for BatchResult {
    fn from(problem: Problem) -> Self {
        let status = problem.status().as_u16();
        Self { status, registration: None, problem: Some(problem.to_json()) }
    }
}

/// Register many at once
///
/// The good ones stand, whatever is wrong with the others. Pointers in an item's problem are
/// relative to that item.
#[utoipa::path(post, path = "/v1/registrations/batch", operation_id = "registerBatch",
    tag = "registrations", request_body = Batch,
    responses((status = 200, description = "Each one's result, in order", body = BatchResults),
              BodyRefused, Refused))]
pub async fn batch(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<BatchResults>> {
    caller.require_signing_secret()?;
    Query::parse(uri.query()).finish()?;
    let _place = shared.batches.enter(&caller.client().name)?;
    let deadline = shared.given.limits.body_time_max;
    let bytes = body::read_json(&headers, body, BATCH_BYTES_MAX, deadline).await?;
    let batch: Batch = body::parse(&bytes)?;
    let items = items(batch)?;
    let now = shared.given.clock.wall();
    let judged = items.iter().map(|item| judge(&shared, &caller, item, now)).collect();
    let results = store(&shared, judged).await?;
    for result in &results {
        shared.given.metrics.registered(match result.status {
            201 => "new",
            200 => "existing",
            _ => "refused",
        });
    }
    Ok(Json(BatchResults { results }))
}

fn items(batch: Batch) -> Result<Vec<Box<RawValue>>> {
    let refused = |detail: String| Problem::invalid(vec![FieldError::at("/registrations", detail)]);
    let items = batch.registrations.ok_or_else(|| refused("is required".to_owned()))?;
    if items.len() > BATCH_ITEMS_MAX {
        let count = items.len();
        return Err(refused(format!("has {count} items; at most {BATCH_ITEMS_MAX} are taken")));
    }
    Ok(items)
}

fn judge(
    shared: &Shared,
    caller: &Caller,
    item: &RawValue,
    now: Timestamp,
) -> Result<NewRegistration> {
    // Alone it would have been refused for its size, so it is here, too.
    if item.get().len() > BODY_BYTES_MAX {
        let detail = format!("a registration may have at most {BODY_BYTES_MAX} bytes");
        return Err(Problem::new(Kind::TooLarge, detail));
    }
    let wanted: Wanted = body::parse(item.get().as_bytes())?;
    let judge = Judge {
        client: caller.client(),
        config: &caller.config,
        callback: &shared.given.judge_callback,
        now,
    };
    judge.accept(wanted, shared.ids.next(now)).map_err(Problem::invalid)
}

/// Stores the good ones in one commit and puts everything back in order.
async fn store(shared: &Shared, judged: Vec<Result<NewRegistration>>) -> Result<Vec<BatchResult>> {
    let good: Vec<NewRegistration> =
        judged.iter().filter_map(|item| item.as_ref().ok().cloned()).collect();
    let registered = if good.is_empty() {
        Vec::new()
    } else {
        shared.answer(shared.store().register(good)).await?
    };
    let mut registered = registered.into_iter();
    judged
        .into_iter()
        .map(|item| match item {
            Err(problem) => Ok(problem.into()),
            Ok(_) => registered.next().map(|it| BatchResult::of(shared, it)).ok_or_else(|| {
                Problem::new(Kind::Internal, "the store answered for too few registrations")
            }),
        })
        .collect()
}
