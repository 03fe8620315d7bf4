//! Around every request: refuse it when stopping, count it, log it, survive its panics.

use std::any::Any;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::problem::{Kind, Problem};
use super::shared::Shared;

/// Routes that answer even while the daemon is stopping: they say that it is.
const ALWAYS: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// The middleware.
pub async fn observe(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().cloned();
    let route = path.as_ref().map_or("unmatched", MatchedPath::as_str);
    let method = method(request.method());
    let clock = &shared.given.clock;
    let started = clock.steady();
    let mut response = if shared.shutdown.is_cancelled() && !ALWAYS.contains(&route) {
        Problem::draining().into_response()
    } else {
        next.run(request).await
    };
    let took = clock.steady().since(started);
    let status = response.status().as_u16();
    shared.given.metrics.request(route, method, status, took);
    if status < 400 || shared.given.lines.admit("requests refused", clock.steady()) {
        tracing::debug!(route, method, status, took_ms = took.as_millis(), "answered");
    }
    // Answers carry callback URLs and metadata, and change by the second.
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(no_store);
    response
}

/// Anybody can invent methods; metrics must not grow with their imagination.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// A handler's panic is one request's failure.
#[expect(clippy::needless_pass_by_value, reason = "the signature tower-http asks for")]
pub fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    tracing::error!(panic = text, "an API request panicked");
    Problem::new(Kind::Internal, "report this with the daemon's log of this moment").into_response()
}
