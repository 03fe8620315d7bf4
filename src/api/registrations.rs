//! `/v1/registrations`: the calls by which clients register and follow up.

pub mod batch;
pub mod change;
pub mod create;
pub mod read;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::problem::{Kind, Problem, Result};
use crate::store::Registered;
use crate::task::Registration;

/// What a registration's answer is: 201 for a new one, 200 for one that was there before.
fn status(registered: &Registered) -> StatusCode {
    match registered {
        Registered::New(_) => StatusCode::CREATED,
        Registered::Existing(_) => StatusCode::OK,
    }
}

fn inner(registered: Registered) -> Registration {
    match registered {
        Registered::New(registration) | Registered::Existing(registration) => registration,
    }
}

/// The answer to the only registration of a call.
fn only(registered: Vec<Registered>) -> Result<Registered> {
    let missing = || Problem::new(Kind::Internal, "the store answered for no registration");
    registered.into_iter().next().ok_or_else(missing)
}

/// The resource, with the place where it is found again.
fn located(status: StatusCode, registration: Registration) -> Response {
    let location = format!("/v1/registrations/{}", registration.id);
    let mut response = (status, Json(registration)).into_response();
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}
