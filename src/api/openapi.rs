//! The routes, and the description of them that is made from the same list.

pub mod callback;

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::IntoResponse;
use axum::routing::get;
use serde_json::Value;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{OpenApi, RefOr, Schema};
use utoipa::{IntoResponses, OpenApi as _, PartialSchema, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::{Kind, Problem, ProblemBody};
use super::registrations::{batch, change, create, read};
use super::shared::Shared;
use super::{
    accounts, events, fleet, health, keys, observe, origins, outcomes, ping, redeliveries,
    rewatches,
};
use crate::clock::Timestamp;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "outcomed",
         description = "Register a Feishu delivery task and a callback; be told, once, how the \
                        task ended. Every error is an RFC 9457 problem with a stable `type`."),
    components(schemas(callback::CallbackBody, ProblemBody)),
    security(("token" = [])),
    modifiers(&Token)
)]
struct Description;

/// The bearer token that every client has.
struct Token;

impl utoipa::Modify for Token {
    fn modify(&self, openapi: &mut OpenApi) {
        use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
        let http = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(http));
    }
}

/// What any call may be refused with.
#[derive(IntoResponses)]
pub enum Refused {
    /// No token, or one that nobody has.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(ProblemBody),
    /// The token is good, but not for this.
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(ProblemBody),
    /// No such thing, or not this client's.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(ProblemBody),
    /// This client asks too much at once; see `Retry-After`.
    #[response(status = 429, content_type = "application/problem+json")]
    TooManyRequests(ProblemBody),
    /// Overloaded, stopping, or without its store; see `Retry-After`.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(ProblemBody),
}

/// What a call with parameters may be refused with besides.
#[derive(IntoResponses)]
pub enum QueryRefused {
    /// A parameter is wrong; `errors` names each.
    #[response(status = 422, content_type = "application/problem+json")]
    Invalid(ProblemBody),
}

/// What a call with a body may be refused with besides.
#[derive(IntoResponses)]
pub enum BodyRefused {
    /// Not JSON; `line` and `column` say where.
    #[response(status = 400, content_type = "application/problem+json")]
    Malformed(ProblemBody),
    /// The body came too slowly.
    #[response(status = 408, content_type = "application/problem+json")]
    TooSlow(ProblemBody),
    /// Over 64 KiB; a batch over 4 MiB.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(ProblemBody),
    /// Not `application/json`.
    #[response(status = 415, content_type = "application/problem+json")]
    NotJson(ProblemBody),
    /// Fields are wrong; `errors` names each.
    #[response(status = 422, content_type = "application/problem+json")]
    Invalid(ProblemBody),
}

impl PartialSchema for Timestamp {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .description(Some("RFC 3339, UTC, milliseconds"))
            .examples(["2026-11-22T10:00:00.123Z"])
            .into()
    }
}

impl ToSchema for Timestamp {}

fn described() -> (Router<Arc<Shared>>, OpenApi) {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(create::create, read::list))
        .routes(routes!(batch::batch))
        .routes(routes!(read::show, change::cancel))
        .routes(routes!(read::attempts))
        .routes(routes!(change::redeliver))
        .routes(routes!(change::rewatch))
        .routes(routes!(rewatches::create))
        .routes(routes!(rewatches::show, rewatches::cancel))
        .routes(routes!(redeliveries::create))
        .routes(routes!(redeliveries::show, redeliveries::cancel))
        .routes(routes!(outcomes::outcomes))
        .routes(routes!(ping::ping))
        .routes(routes!(keys::keys))
        .routes(routes!(accounts::accounts))
        .routes(routes!(origins::origins))
        .routes(routes!(fleet::fleet))
        .routes(routes!(events::event))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
        .split_for_parts()
}

/// The API's description: `OpenAPI` 3.1, with the callback as a webhook.
#[must_use]
pub fn document() -> Value {
    document_of(&described().1)
}

fn document_of(openapi: &OpenApi) -> Value {
    let mut document = serde_json::to_value(openapi).unwrap_or_default();
    document["webhooks"] = callback::webhooks();
    document
}

/// Every route, with what surrounds all of them.
pub(super) fn routes(shared: Arc<Shared>) -> Router {
    let (router, openapi) = described();
    let description = document_of(&openapi).to_string();
    let json = HeaderValue::from_static("application/json");
    let describe = get(async move || ([(header::CONTENT_TYPE, json)], description).into_response());
    router
        .route("/openapi.json", describe)
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(CatchPanicLayer::custom(observe::panicked))
        .layer(axum::middleware::from_fn_with_state(shared.clone(), observe::observe))
        .with_state(shared)
}

async fn unknown_path() -> Problem {
    Problem::new(Kind::NotFound, "there is nothing at this path; GET /openapi.json lists the calls")
}

async fn wrong_method() -> Problem {
    Problem::new(Kind::MethodNotAllowed, "the `Allow` header names the methods of this path")
}
