//! `GET /v1/origins`: how each receiver does, for operators.

use std::collections::{BTreeMap, BTreeSet};
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
use crate::delivery::health::{OriginState, OriginStatus, by_origin};
use crate::store::{DESTINATIONS_STEP, Destination, walk};

/// Destinations read from the store for one answer, at some 400 bytes each.
const LISTED_MAX: usize = 20_000;

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
    /// The same for each client: one client's failing callbacks hold up no other's.
    clients: Vec<ClientView>,
}

/// How one client's callbacks at an origin do.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OriginClient)]
pub struct ClientView {
    /// The client.
    client: String,
    /// As of the origin.
    #[schema(pattern = "^(ok|unproven|held)$")]
    state: &'static str,
    /// Since when they are held.
    held_since: Option<Timestamp>,
    /// When the next probe may go out.
    next_probe_at: Option<Timestamp>,
    /// Failures since the last sign of life.
    failures_in_a_row: u32,
    /// Attempts under way.
    under_way: u32,
    /// Attempts that may be under way at once.
    room: u32,
    /// When the earliest unfinished delivery is, or was, due; null when there is none.
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
    let store = shared.store();
    let due =
        walk(LISTED_MAX, |after| async move { store.backlog(&after, DESTINATIONS_STEP).await });
    let due = shared.answer(due).await?;
    let known = shared.given.health.everywhere().await;
    Ok(Json(OriginList { items: views(known, due) }))
}

/// Joins what the delivery loop remembers with what the store knows to be unfinished.
fn views(mut known: Vec<OriginStatus>, due: Vec<(Destination, Timestamp)>) -> Vec<OriginView> {
    let mut due: BTreeMap<Destination, Timestamp> = due.into_iter().collect();
    let mut clients: BTreeMap<String, Vec<ClientView>> = BTreeMap::new();
    let is_known: BTreeSet<Destination> =
        known.iter().map(|it| Destination::new(&it.client, &it.origin)).collect();
    let unknown = due.keys().filter(|to| !is_known.contains(*to));
    known.extend(unknown.map(unproven).collect::<Vec<_>>());
    for status in &known {
        let at = due.remove(&Destination::new(&status.client, &status.origin));
        clients.entry(status.origin.clone()).or_default().push(client(status, at));
    }
    let view = |status: OriginStatus| {
        let clients = clients.remove(&status.origin).unwrap_or_default();
        OriginView {
            earliest_due_at: clients.iter().filter_map(|it| it.earliest_due_at).min(),
            clients,
            state: status.state.name(),
            held_since: status.held_since,
            next_probe_at: status.next_probe_at,
            failures_in_a_row: status.failures_in_a_row,
            under_way: status.under_way,
            room: status.room,
            origin: status.origin,
        }
    };
    by_origin(known).into_iter().map(view).collect()
}

/// As what nobody remembers.
fn unproven(to: &Destination) -> OriginStatus {
    OriginStatus {
        origin: to.origin.clone(),
        client: to.client.clone(),
        state: OriginState::Unproven,
        held_since: None,
        refused_at: None,
        next_probe_at: None,
        failures_in_a_row: 0,
        under_way: 0,
        room: 1,
    }
}

fn client(status: &OriginStatus, earliest_due_at: Option<Timestamp>) -> ClientView {
    ClientView {
        client: status.client.clone(),
        state: status.state.name(),
        held_since: status.held_since,
        next_probe_at: status.next_probe_at,
        failures_in_a_row: status.failures_in_a_row,
        under_way: status.under_way,
        room: status.room,
        earliest_due_at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_the_store_knows_of_is_listed_too() {
        let known = OriginStatus {
            state: OriginState::Held,
            held_since: Some(Timestamp(5)),
            next_probe_at: Some(Timestamp(9)),
            room: 0,
            failures_in_a_row: 7,
            ..unproven(&Destination::new("ats", "https://b"))
        };
        let due = [("https://a", "ats", 1), ("https://b", "ats", 2), ("https://b", "crm", 3)];
        let due = due.map(|(origin, client, at)| (Destination::new(client, origin), Timestamp(at)));
        let items = serde_json::to_value(views(vec![known], due.to_vec())).unwrap();
        assert_eq!(items[0]["origin"], "https://a");
        assert_eq!(items[0]["state"], "unproven");
        assert_eq!(items[1]["origin"], "https://b");
        assert_eq!(items[1]["state"], "held", "as ill as it is to one of them");
        assert_eq!(items[1]["earliest_due_at"], "1970-01-01T00:00:00.002Z");
        assert_eq!(items[1]["failures_in_a_row"], 7);
        let clients = &items[1]["clients"];
        assert_eq!((&clients[0]["client"], &clients[0]["state"]), (&"ats".into(), &"held".into()));
        assert_eq!(
            (&clients[1]["client"], &clients[1]["state"]),
            (&"crm".into(), &"unproven".into())
        );
        assert_eq!(clients[1]["earliest_due_at"], "1970-01-01T00:00:00.003Z");
    }
}
