//! `GET /v1/fleet`: the daemons on this store and whose each lane is, for operators.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::Caller;
use super::duration;
use super::openapi::{QueryRefused, Refused};
use super::problem::Result;
use super::query::Query;
use super::shared::Shared;
use crate::clock::Timestamp;
use crate::store::fleet::{Holding, MemberId, Present};

/// The daemons on this store, and the lanes that have something to do.
#[derive(Debug, Serialize, ToSchema)]
pub struct FleetView {
    /// The daemon that answers.
    answered_by: String,
    /// Every daemon that is alive, the one that joined first at the top.
    members: Vec<MemberView>,
    /// Every lane that has something to do, by name.
    lanes: Vec<LaneView>,
    /// How often one of these lanes was taken from a daemon that had gone without a word.
    takeovers: u64,
}

/// One daemon.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Member)]
pub struct MemberView {
    /// A new one for every run.
    id: String,
    /// Its host's name.
    name: String,
    /// When it joined.
    since: Timestamp,
    /// How long ago it last said that it is alive.
    #[schema(example = "850ms")]
    silent_for: String,
    /// How many of the lanes below are its own.
    lanes: usize,
}

/// One lane.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Lane)]
pub struct LaneView {
    /// Its account.
    account: String,
    /// Its kind of task.
    kind: &'static str,
    /// The id of the member that holds it; null while it is being handed over.
    member: Option<String>,
    /// How long that one has held it.
    #[schema(example = "2m")]
    held_for: Option<String>,
    /// How often it was taken from a daemon that had gone without a word.
    takeovers: u64,
}

/// Look at the fleet
#[utoipa::path(get, path = "/v1/fleet", operation_id = "showFleet", tag = "accounts",
    responses((status = 200, description = "The daemons and their lanes", body = FleetView),
              QueryRefused, Refused))]
pub async fn fleet(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    uri: Uri,
) -> Result<Json<FleetView>> {
    caller.require_operator()?;
    Query::parse(uri.query()).finish()?;
    let fleet = &shared.given.fleet;
    let members = shared.answer(fleet.members()).await?;
    let holdings = shared.answer(fleet.holdings(shared.given.clock.wall())).await?;
    Ok(Json(view(shared.given.member, members, &holdings)))
}

fn view(me: MemberId, members: Vec<Present>, holdings: &[Holding]) -> FleetView {
    let mut held: BTreeMap<MemberId, usize> = BTreeMap::new();
    for owner in holdings.iter().filter_map(|holding| holding.owner.as_ref()) {
        *held.entry(owner.id).or_default() += 1;
    }
    let member = |present: Present| MemberView {
        id: present.member.id.0.to_string(),
        lanes: held.get(&present.member.id).copied().unwrap_or(0),
        name: present.member.name,
        since: present.member.since,
        silent_for: duration::print(present.silent_for),
    };
    let lane = |holding: &Holding| LaneView {
        account: holding.lane.account.clone(),
        kind: holding.lane.kind.name(),
        member: holding.owner.as_ref().map(|owner| owner.id.0.to_string()),
        held_for: holding.held_for.map(|held| duration::print(seconds(held))),
        takeovers: holding.takeovers,
    };
    FleetView {
        answered_by: me.0.to_string(),
        takeovers: holdings.iter().map(|holding| holding.takeovers).sum(),
        lanes: holdings.iter().map(lane).collect(),
        members: members.into_iter().map(member).collect(),
    }
}

/// Whole ones: nobody reads a lane's age to the millisecond.
fn seconds(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::store::fleet::Member;
    use crate::task::{Kind, LaneName};

    fn member(n: u128) -> Member {
        let id = MemberId(Uuid::from_u128(n));
        Member { id, name: format!("host-{n}"), since: Timestamp(0) }
    }

    #[test]
    fn members_are_shown_with_their_lanes_and_lanes_with_their_takeovers() {
        let present = |n| Present {
            member: member(n),
            silent_for: Duration::from_millis(850),
            report: Some("{}".into()),
        };
        let holding = |account: &str, owner: Option<u128>, takeovers| Holding {
            lane: LaneName { account: account.into(), kind: Kind::HireWebsiteDelivery },
            owner: owner.map(member),
            held_for: owner.map(|_| Duration::from_secs(120)),
            takeovers,
        };
        let holdings = [holding("a", Some(1), 0), holding("b", Some(1), 3), holding("c", None, 2)];
        let shown = view(member(2).id, vec![present(1), present(2)], &holdings);
        let shown = serde_json::to_value(shown).unwrap();
        assert_eq!(shown["answered_by"], "00000000-0000-0000-0000-000000000002");
        assert_eq!(shown["members"][0]["lanes"], 2);
        assert_eq!(shown["members"][1]["lanes"], 0);
        assert_eq!(shown["members"][0]["silent_for"], "850ms");
        assert_eq!(shown["takeovers"], 5);
        assert_eq!(shown["lanes"][1]["member"], "00000000-0000-0000-0000-000000000001");
        assert_eq!(shown["lanes"][1]["held_for"], "2m");
        assert_eq!(shown["lanes"][2]["member"], serde_json::Value::Null);
        assert_eq!(shown["lanes"][2]["takeovers"], 2);
    }
}
