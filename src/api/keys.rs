//! `GET /v1/keys`: what receivers check `v1a` signatures with.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::Caller;
use super::openapi::{QueryRefused, Refused};
use super::problem::Result;
use super::query::Query;
use super::shared::Shared;
use crate::config::SigningKey;

/// The clients that have keys.
#[derive(Serialize, ToSchema)]
pub struct KeyList {
    /// In the configuration's order.
    items: Vec<ClientKeys>,
}

/// One client's public keys.
#[derive(Serialize, ToSchema)]
pub struct ClientKeys {
    /// The client.
    client: String,
    /// Ed25519, `whpk_` and base64; newest first, several while rotating.
    public_keys: Vec<String>,
}

/// Read the public keys of `v1a` signatures
///
/// A client reads its own, an operator everybody's. A client without keys has no entry.
#[utoipa::path(get, path = "/v1/keys", operation_id = "listKeys", tag = "callbacks",
    responses((status = 200, description = "The keys in force", body = KeyList),
              QueryRefused, Refused))]
pub async fn keys(
    State(_shared): State<Arc<Shared>>,
    caller: Caller,
    uri: Uri,
) -> Result<Json<KeyList>> {
    Query::parse(uri.query()).finish()?;
    let own = &caller.client().name;
    let seen = caller.config.clients.iter().filter(|client| {
        !client.signing_keys.is_empty() && (caller.is_operator() || client.name == *own)
    });
    let items = seen.map(|client| ClientKeys {
        client: client.name.clone(),
        public_keys: client.signing_keys.iter().map(SigningKey::public).collect(),
    });
    Ok(Json(KeyList { items: items.collect() }))
}
