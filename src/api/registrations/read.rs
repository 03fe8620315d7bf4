//! Looking at registrations: one, many, and one's attempts.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::attempt::AttemptView;
use crate::api::auth::Caller;
use crate::api::cursor;
use crate::api::openapi::{QueryRefused, Refused};
use crate::api::problem::Result;
use crate::api::query::Query;
use crate::api::segment::Segment;
use crate::api::shared::Shared;
use crate::api::wait::{self, WAIT_MAX};
use crate::api::watch;
use crate::store::{Filter, Listed};
use crate::task::{Registration, State as RegistrationState};

const LIST_LIMIT_DEFAULT: u32 = 50;
const LIST_LIMIT_MAX: u32 = 1000;

/// A page of registrations.
#[derive(Serialize, ToSchema)]
pub struct RegistrationPage {
    /// Newest first.
    items: Vec<Registration>,
    /// Where the next page begins; null on the last one.
    next_cursor: Option<String>,
}

/// Every attempt of a registration.
#[derive(Serialize, ToSchema)]
pub struct AttemptList {
    /// Oldest first.
    items: Vec<AttemptView>,
}

/// Look at one registration
///
/// With `wait` it answers as soon as the outcome is known (or the registration is over some other
/// way), and otherwise when the wait is over.
#[utoipa::path(get, path = "/v1/registrations/{id}", operation_id = "showRegistration", tag = "registrations",
    params(("id" = String, Path, description = "`reg_…`"),
           ("wait" = Option<String>, Query, description = "at most 60s", example = "30s")),
    responses((status = 200, description = "As it is now", body = Registration),
              QueryRefused, Refused))]
pub async fn show(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(id): Segment,
    uri: Uri,
) -> Result<Json<Registration>> {
    let mut query = Query::parse(uri.query());
    let wait = query.duration("wait", WAIT_MAX);
    query.finish()?;
    let found = wait::until(
        &shared,
        &caller.client().name,
        wait,
        |outcome_of| outcome_of == id,
        |found: &Registration| found.state != RegistrationState::Watching,
        || async { caller.sees(shared.answer(shared.store().find(&id)).await?) },
    )
    .await?;
    Ok(Json(watch::as_it_is_now(&shared, found).await))
}

/// List registrations, newest first
///
/// One page costs a bounded number of rows looked at (10,000). Where few of many fit the filter, a
/// page may be shorter than `limit`, even empty, and still have a `next_cursor`: go on until it is
/// null.
#[utoipa::path(get, path = "/v1/registrations", operation_id = "listRegistrations", tag = "registrations",
    params(("state" = Option<RegistrationState>, Query),
           ("account" = Option<String>, Query),
           ("delivery_task_id" = Option<String>, Query),
           ("callback_host" = Option<String>, Query),
           ("client" = Option<String>, Query, description = "for operators"),
           ("limit" = Option<u32>, Query, description = "1 to 1000, 50 unless given"),
           ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before")),
    responses(
        (status = 200, description = "One page", body = RegistrationPage,
         headers(("Link" = String, description = "RFC 8288, rel=\"next\"; absent on the last"))),
        QueryRefused, Refused))]
pub async fn list(State(shared): State<Arc<Shared>>, caller: Caller, uri: Uri) -> Result<Response> {
    let mut query = Query::parse(uri.query());
    let filter = Filter {
        client: client(&mut query, &caller),
        state: query.read("state", state),
        account: query.text("account"),
        delivery_task_id: query.text("delivery_task_id"),
        callback_host: query.text("callback_host").map(|host| host.to_ascii_lowercase()),
    };
    let limit = query.limit("limit", LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX);
    let before = query.read("cursor", cursor::registration);
    query.finish()?;
    // One more than asked tells whether there is a next page.
    let listed = shared.store().list(&filter, before.as_deref(), limit + 1);
    let Listed { mut items, resume } = shared.answer(listed).await?;
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let last = items.last().filter(|_| more).map(|last| last.id.clone());
    let next = last.or(resume).map(|id| cursor::after_registration(&id));
    let link = next.as_deref().and_then(|next| link(&uri, next));
    let items = items.into_iter().map(|it| watch::with_account(&shared, it)).collect();
    let mut response = Json(RegistrationPage { items, next_cursor: next }).into_response();
    if let Some(link) = link {
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}

/// List a registration's attempts
#[utoipa::path(get, path = "/v1/registrations/{id}/attempts", operation_id = "listAttempts", tag = "registrations",
    params(("id" = String, Path, description = "`reg_…`")),
    responses((status = 200, description = "Every attempt", body = AttemptList),
              QueryRefused, Refused))]
pub async fn attempts(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(id): Segment,
    uri: Uri,
) -> Result<Json<AttemptList>> {
    Query::parse(uri.query()).finish()?;
    caller.sees(shared.answer(shared.store().find(&id)).await?)?;
    let attempts = shared.answer(shared.store().attempts(&id)).await?;
    Ok(Json(AttemptList { items: attempts.into_iter().map(AttemptView::from).collect() }))
}

/// A client sees its own; an operator everybody's, or one's.
fn client(query: &mut Query, caller: &Caller) -> Option<String> {
    let own = caller.client().name.clone();
    if caller.is_operator() {
        return query.text("client");
    }
    let refuse = |name: &str| {
        if name == own {
            Ok(())
        } else {
            Err("another client's registrations are not yours to see")
        }
    };
    query.read("client", refuse);
    Some(own)
}

fn state(name: &str) -> std::result::Result<RegistrationState, String> {
    RegistrationState::named(name).ok_or_else(|| {
        let names = RegistrationState::ALL.map(RegistrationState::name);
        format!("unknown state; known are: {}", names.join(", "))
    })
}

/// RFC 8288: the same call with another cursor.
fn link(uri: &Uri, next: &str) -> Option<HeaderValue> {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    let given = uri.query().unwrap_or_default();
    for (name, value) in url::form_urlencoded::parse(given.as_bytes()) {
        if name != "cursor" {
            query.append_pair(&name, &value);
        }
    }
    let query = query.append_pair("cursor", next).finish();
    HeaderValue::try_from(format!("<{}?{query}>; rel=\"next\"", uri.path())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_the_same_call_with_another_cursor() {
        let uri: Uri = "/v1/registrations?account=%3E%22&cursor=a&limit=2".parse().unwrap();
        assert_eq!(
            link(&uri, "b").unwrap(),
            "</v1/registrations?account=%3E%22&limit=2&cursor=b>; rel=\"next\""
        );
    }
}
