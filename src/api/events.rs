//! `POST /v1/feishu/events/{app_id}`: Feishu's own event push, for store apps.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use serde_json::Value;

use super::body;
use super::openapi::{BodyRefused, Refused};
use super::problem::{Kind, Problem, Result};
use super::segment::Segment;
use super::shared::Shared;
use crate::observability::lines::shown;
use crate::store::StoreError;

/// Feishu's events are a few hundred bytes.
const EVENT_BYTES_MAX: usize = 16 * 1024;

/// Takes Feishu's event pushes: judges that they are Feishu's, and keeps what they bring.
#[async_trait]
pub trait EventSink: Send + Sync {
    /// Whether this app's events are taken at all.
    fn knows(&self, app_id: &str) -> bool;

    /// Handles one push to the app, whose body may be encrypted.
    async fn handle(
        &self,
        app_id: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> std::result::Result<EventReply, EventRefusal>;
}

/// What Feishu is answered, with 200.
#[derive(Clone, Debug, PartialEq)]
pub struct EventReply(pub Value);

/// Why a push was refused.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EventRefusal {
    /// No store app with this id is configured.
    #[error("no account of kind `store` has this app_id")]
    UnknownApp,
    /// It cannot be Feishu's: wrong token, signature or encryption.
    #[error("the event is not authentic: {0}")]
    NotAuthentic(String),
    /// It is no event.
    #[error("the event cannot be read: {0}")]
    Malformed(String),
    /// It is good, and could not be kept: Feishu pushes it again.
    #[error(transparent)]
    NotKept(StoreError),
}

impl From<EventRefusal> for Problem {
    fn from(refusal: EventRefusal) -> Self {
        let detail = refusal.to_string();
        match refusal {
            EventRefusal::NotKept(error) => error.into(),
            EventRefusal::UnknownApp => Self::new(Kind::NotFound, detail),
            EventRefusal::NotAuthentic(_) => {
                let challenge = HeaderValue::from_static("Feishu-Event");
                Self::new(Kind::Unauthorized, detail).header(header::WWW_AUTHENTICATE, challenge)
            }
            EventRefusal::Malformed(_) => Self::new(Kind::MalformedRequest, detail),
        }
    }
}

/// Take an event of Feishu
///
/// The URL to configure as the store app's event URL. Authenticated by the event's own token,
/// signature and encryption, not by a bearer token.
#[utoipa::path(post, path = "/v1/feishu/events/{app_id}", operation_id = "takeFeishuEvent", tag = "feishu", security(()),
    params(("app_id" = String, Path, description = "`cli_…`")),
    request_body(content = Object, description = "The event as Feishu sends it"),
    responses((status = 200, description = "Taken; the URL check is answered with its challenge",
               body = Object),
              BodyRefused, Refused))]
pub async fn event(
    State(shared): State<Arc<Shared>>,
    Segment(app_id): Segment,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>> {
    let events = &shared.given.events;
    if !events.knows(&app_id) {
        return Err(body::closing(refused(&shared, &app_id, EventRefusal::UnknownApp)));
    }
    let _place = shared.events.enter(&app_id).map_err(body::closing)?;
    let deadline = shared.given.limits.event_time_max;
    let bytes = body::read_from_stranger(&headers, body, EVENT_BYTES_MAX, deadline).await?;
    let handled = events.handle(&app_id, &headers, &bytes).await;
    let reply = handled.map_err(|refusal| refused(&shared, &app_id, refusal))?;
    Ok(Json(reply.0))
}

/// Anybody can have this line written, so it is short, and written a few times a second at most.
fn refused(shared: &Shared, app_id: &str, refusal: EventRefusal) -> Problem {
    if shared.given.lines.admit("event pushes refused", shared.given.clock.steady()) {
        tracing::warn!(app_id = shown(app_id), %refusal, "an event push was refused");
    }
    Problem::from(refusal)
}
