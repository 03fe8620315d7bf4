//! `/healthz`, `/readyz`, `/metrics`: for service managers, load balancers and scrapers.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{FromRequestParts as _, Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::accounts;
use super::auth::Caller;
use super::openapi::Refused;
use super::problem::{Problem, ProblemBody, Result};
use super::shared::Shared;
use crate::clock::Steady;

/// A check writes to the store durably; everybody who asks within this time shares one answer.
const READINESS_CACHED_FOR: Duration = Duration::from_secs(1);
const OPENMETRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// What the store last said to a readiness check.
#[derive(Debug, Default)]
pub struct Readiness(Mutex<Option<(Steady, std::result::Result<(), Problem>)>>);

impl Readiness {
    /// Asks the store, unless somebody just did.
    async fn check(&self, shared: &Shared) -> std::result::Result<(), Problem> {
        let mut last = self.0.lock().await;
        let clock = &shared.given.clock;
        if let Some((at, answer)) = last.as_ref()
            && clock.steady().since(*at) < READINESS_CACHED_FOR
        {
            return answer.clone();
        }
        let answer = shared.answer(shared.store().ping(clock.wall())).await;
        *last = Some((clock.steady(), answer.clone()));
        answer
    }
}

/// Is the process alive?
#[utoipa::path(get, path = "/healthz", operation_id = "healthz", tag = "health", security(()),
    responses((status = 200, description = "It is", body = Object)))]
pub async fn healthz() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// Can a registration be accepted durably?
///
/// A suspended or failing account is listed but does not make the daemon unready.
#[utoipa::path(get, path = "/readyz", operation_id = "readyz", tag = "health", security(()),
    responses((status = 200, description = "It can", body = Object),
              (status = 503, description = "Not now", body = ProblemBody,
               content_type = "application/problem+json")))]
pub async fn readyz(State(shared): State<Arc<Shared>>) -> Result<Json<Value>> {
    let config = shared.config();
    let board = shared.given.board.read_all();
    let of = |state| accounts::in_state(state, &config.accounts, &board);
    let (suspended, failing) = (of("suspended"), of("failing"));
    let stopping = shared.shutdown.is_cancelled();
    let store =
        if stopping { Err(Problem::draining()) } else { shared.readiness.check(&shared).await };
    let word = |good| if good { "ok" } else { "failed" };
    let checks = json!([
        {"name": "store", "status": if stopping { "skipped" } else { word(store.is_ok()) }},
        {"name": "not_stopping", "status": word(!stopping)},
    ]);
    match store {
        Ok(()) => {
            Ok(Json(json!({"status": "ready", "checks": checks, "suspended_accounts": suspended,
                "failing_accounts": failing})))
        }
        Err(problem) => Err(problem
            .with("checks", checks)
            .with("suspended_accounts", suspended)
            .with("failing_accounts", failing)),
    }
}

/// Read the counters, in the `OpenMetrics` text format
///
/// Needs an operator's token unless `http.open_metrics` is set.
#[utoipa::path(get, path = "/metrics", operation_id = "metrics", tag = "health",
    responses((status = 200, description = "The counters",
               content_type = "application/openmetrics-text", body = String),
              Refused))]
pub async fn metrics(State(shared): State<Arc<Shared>>, request: Request) -> Result<Response> {
    if !shared.config().http.open_metrics {
        let (mut parts, _) = request.into_parts();
        Caller::from_request_parts(&mut parts, &shared).await?.require_operator()?;
    }
    let text = shared.given.metrics.render();
    Ok(([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response())
}
