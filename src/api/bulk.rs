//! What calls that begin work on many registrations have in common.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::auth::Caller;
use super::problem::{FieldError, Kind, Problem, Result};
use crate::clock::Timestamp;

/// No registration ended before this.
pub const EVER: Timestamp = Timestamp(0);

/// Work on many registrations that a client has asked for.
pub trait Bulk: Sized {
    /// What it is called.
    const NAME: &str;

    /// Who asked for it.
    fn owner(&self) -> &str;
}

/// What is found, if this caller may see it.
pub fn seen<B: Bulk>(caller: &Caller, found: Option<B>) -> Result<B> {
    let may_see = |it: &B| caller.is_operator() || it.owner() == caller.client().name;
    found.filter(may_see).ok_or_else(|| {
        let detail = format!("there is no {} with this id for this client", B::NAME);
        Problem::new(Kind::NotFound, detail)
    })
}

/// Reads a time, or notes what is wrong with it.
pub fn time(
    text: Option<String>,
    pointer: &str,
    errors: &mut Vec<FieldError>,
) -> Option<Timestamp> {
    text?.parse().map_err(|error: String| errors.push(FieldError::at(pointer, error))).ok()
}

/// Whose registrations are meant: an operator names a client or nobody, a client itself.
pub fn client(
    caller: &Caller,
    wanted: Option<String>,
    errors: &mut Vec<FieldError>,
) -> Option<String> {
    let own = caller.client().name.clone();
    match (caller.is_operator(), wanted) {
        (true, client) => client,
        (false, Some(other)) if other != own => {
            errors.push(FieldError::at("/client", "another client's registrations are not yours"));
            None
        }
        (false, _) => Some(own),
    }
}

/// 202, with the place where its progress is.
pub fn accepted(location: &str, view: impl Serialize) -> Response {
    let mut response = (StatusCode::ACCEPTED, Json(view)).into_response();
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}
