//! `GET /v1/origins`: how each receiver does, for operators.

use std::collections::BTreeMap;
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
use crate::clock::Timestamp;
use crate::delivery::health::{OriginState, OriginStatus};

/// Every callback origin with something to deliver, or that was lately delivered to.
#[derive(Serialize, ToSchema)]
pub struct OriginList {
    /// By origin.
    items: Vec<OriginView>,
}

/// How one origin does.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Origin)]
pub struct OriginView {
    /// `scheme://host:port`
    origin: String,
    /// `ok`: it answered last. `unproven`: nobody can say. `held`: its breaker is open; it gets
    /// single probes, and what waits behind it uses up no attempts.
    #[schema(pattern = "^(ok|unproven|held)$")]
    state: &'static str,
    /// Since when it is held.
    held_since: Option<Timestamp>,
    /// When the next probe may go out.
    next_probe_at: Option<Timestamp>,
    /// Failures since the last sign of life.
    failures_in_a_row: u32,
    /// Attempts under way.
    under_way: u32,
    /// Attempts that may be under way at once.
    room: u32,
    /// When its earliest unfinished delivery is, or was, due; null when there is none.
    earliest_due_at: Option<Timestamp>,
}

/// Look at the receivers
#[utoipa::path(get, path = "/v1/origins", operation_id = "listOrigins", tag = "callbacks",
    responses((status = 200, description = "Every origin", body = OriginList),
              QueryRefused, Refused))]
pub async fn origins(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    uri: Uri,
) -> Result<Json<OriginList>> {
    caller.require_operator()?;
    Query::parse(uri.query()).finish()?;
    let due = shared.answer(shared.store().backlog()).await?;
    let known = shared.given.health.everywhere().await;
    Ok(Json(OriginList { items: views(known, due) }))
}

/// Joins what the delivery loop remembers with what the store knows to be unfinished.
fn views(known: Vec<OriginStatus>, due: Vec<(String, Timestamp)>) -> Vec<OriginView> {
    let mut due: BTreeMap<String, Timestamp> = due.into_iter().collect();
    let known = known.into_iter().map(|it| view(&mut due, it)).collect::<Vec<_>>();
    let unknown = due.into_iter().map(|(origin, at)| OriginView {
        origin,
        state: OriginState::Unproven.name(),
        held_since: None,
        next_probe_at: None,
        failures_in_a_row: 0,
        under_way: 0,
        room: 1,
        earliest_due_at: Some(at),
    });
    let mut items: Vec<OriginView> = unknown.chain(known).collect();
    items.sort_by(|a, b| a.origin.cmp(&b.origin));
    items
}

fn view(due: &mut BTreeMap<String, Timestamp>, status: OriginStatus) -> OriginView {
    OriginView {
        earliest_due_at: due.remove(&status.origin),
        state: status.state.name(),
        held_since: status.held_since,
        next_probe_at: status.next_probe_at,
        failures_in_a_row: status.failures_in_a_row,
        under_way: status.under_way,
        room: status.room,
        origin: status.origin,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_the_store_knows_of_is_listed_too() {
        let known = OriginStatus {
            origin: "https://b".into(),
            state: OriginState::Held,
            held_since: Some(Timestamp(5)),
            next_probe_at: Some(Timestamp(9)),
            under_way: 0,
            room: 0,
            failures_in_a_row: 7,
        };
        let due = [("https://a", 1), ("https://b", 2)];
        let due = due.map(|(origin, at)| (origin.to_owned(), Timestamp(at))).to_vec();
        let items = serde_json::to_value(views(vec![known], due)).unwrap();
        assert_eq!(items[0]["origin"], "https://a");
        assert_eq!(items[0]["state"], "unproven");
        assert_eq!(items[1]["origin"], "https://b");
        assert_eq!(items[1]["state"], "held");
        assert_eq!(items[1]["earliest_due_at"], "1970-01-01T00:00:00.002Z");
        assert_eq!(items[1]["failures_in_a_row"], 7);
    }
}
