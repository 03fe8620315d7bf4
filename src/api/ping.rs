//! `POST /v1/callbacks/ping`: does the receiver's end work?

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use serde::Deserialize;
use url::Url;
use utoipa::ToSchema;

use super::attempt::AttemptView;
use super::auth::Caller;
use super::body::{self, BODY_BYTES_MAX};
use super::openapi::{BodyRefused, Refused};
use super::problem::{FieldError, Kind, Problem, Result};
use super::query::Query;
use super::shared::Shared;
use super::validate::callback_url;
use crate::config::Client;
use crate::store::Attempt;

/// A ping ends by its own deadline; this much later we stop believing in that.
const PING_GRACE: Duration = Duration::from_secs(5);

/// Sends one signed `ping`.
#[async_trait]
pub trait Pinger: Send + Sync {
    /// Sends it now, signed with this client's secrets, and says how it went. A receiver that
    /// fails is an attempt, too; an error is our own.
    async fn ping(&self, client: &Client, url: &Url) -> std::result::Result<Attempt, PingError>;
}

/// Why no ping could be sent.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PingError {
    /// The callback is not allowed; the text says why and what to do.
    #[error("{0}")]
    Refused(String),
    /// We failed before anything was sent.
    #[error("{0}")]
    Failed(String),
}

/// The body of a ping.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Ping {
    /// Where to; judged as a registration's callback is.
    #[schema(required = true, nullable = false, value_type = String, format = "uri")]
    url: Option<String>,
}

/// Send one signed ping now
///
/// The answer is the attempt, whether the receiver liked it or not.
#[utoipa::path(post, path = "/v1/callbacks/ping", operation_id = "pingCallback", tag = "callbacks", request_body = Ping,
    responses((status = 200, description = "How it went", body = AttemptView),
              BodyRefused, Refused))]
pub async fn ping(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<AttemptView>> {
    caller.require_signing_secret()?;
    Query::parse(uri.query()).finish()?;
    let deadline = shared.given.limits.body_time_max;
    let bytes = body::read_json(&headers, body, BODY_BYTES_MAX, deadline).await?;
    let ping: Ping = body::parse(&bytes)?;
    let client = caller.client();
    let text = ping.url.unwrap_or_default();
    let url = if text.is_empty() { Err("is required".to_owned()) } else { callback_url(&text) };
    let url = url.and_then(|url| (shared.given.judge_callback)(&url, client).map(|()| url));
    let url = url.map_err(refused)?;
    let _place = shared.pings.enter(&client.name)?;
    let deadline = caller.config.delivery.timeout + PING_GRACE;
    let pinged = tokio::time::timeout(deadline, shared.given.pinger.ping(client, &url)).await;
    match pinged {
        Ok(Ok(attempt)) => {
            if attempt.error.is_none() {
                shared.answer(shared.store().callback_accepts(&client.name, &text)).await?;
            }
            Ok(Json(attempt.into()))
        }
        Ok(Err(PingError::Refused(detail))) => Err(refused(detail)),
        Ok(Err(PingError::Failed(error))) => Err(failed(&error)),
        Err(_) => Err(failed("no result within the deadline")),
    }
}

fn refused(detail: String) -> Problem {
    Problem::invalid(vec![FieldError::at("/url", detail)])
}

fn failed(error: &str) -> Problem {
    tracing::error!(error, "a ping could not be sent");
    Problem::new(Kind::Internal, "the ping could not be sent; see the daemon's log")
}
