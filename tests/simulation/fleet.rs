//! The fleet's seam over the simulated leases, as Postgres implements it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use outcomed::clock::Timestamp;
use outcomed::store::fleet::{
    Claimed, Fleet, Holding, LEASE, LEASE_MARGIN, Member, MemberId, Present, Roster,
};
use outcomed::store::{DESTINATIONS_STEP, Destination, Hint, Lanes, Lease, Outbox, Result, walk};
use outcomed::task::LaneName;
use rand::RngExt;
use tokio::sync::watch;
use uuid::Uuid;

use super::leases::Owned;
use super::store::{ALL, Door};
use super::world::Shared;

/// One daemon's view of the fleet.
pub struct Members {
    pub door: Arc<Door>,
    pub world: Shared,
    pub node: usize,
}

fn span(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

async fn destinations(store: &impl Outbox) -> Result<Vec<(Destination, Timestamp)>> {
    walk(usize::MAX, |after| async move { store.destinations(&after, DESTINATIONS_STEP).await })
        .await
}

impl Members {
    fn now(&self) -> i64 {
        self.world.lock().now_of(self.node)
    }

    fn moved(&self) {
        self.world.lock().moves.send_modify(|moves| *moves += 1);
    }

    async fn take(&self, member: &Member, lane: &LaneName) -> Result<Option<Claimed>> {
        let store = self.door.enter("claim").await?;
        let now = self.now();
        let Some(took_over) = self.world.lock().leases.may_claim(member.id, lane, now) else {
            return Ok(None);
        };
        let taken = store.take(lane, Timestamp(now)).await?;
        for (to, _) in destinations(&*store).await? {
            self.door.hint(Hint::Due(to));
        }
        let (reserved, expires_at) = {
            let mut world = self.world.lock();
            let owned = Owned { owner: member.id, lease: taken.lease, since: now };
            world.claims += 1;
            world.leases.lanes.insert(lane.clone(), owned);
            world.leases.names.insert(taken.lease.lane, lane.clone());
            let reserved = world.leases.reserved.get(&taken.lease.lane).copied();
            (reserved, world.leases.members[&member.id].expires_at)
        };
        self.world.node_tells(
            self.node,
            format_args!("holds {} under epoch {}", lane.account, taken.lease.epoch),
        );
        Ok(Some(Claimed {
            lane: taken,
            lasts: span(expires_at - now).saturating_sub(LEASE_MARGIN),
            took_over,
            reserved_ago: reserved.map(|at| span(now - at)),
        }))
    }

    /// Gives lanes up, and ends their leases by new epochs.
    async fn free(&self, which: impl Fn(&Owned) -> bool) -> Result<()> {
        let store = self.door.enter("release").await?;
        let free: Vec<LaneName> = {
            let world = self.world.lock();
            let lanes = world.leases.lanes.iter().filter(|(_, owned)| which(owned));
            lanes.map(|(lane, _)| lane.clone()).collect()
        };
        for lane in free {
            store.take(&lane, Timestamp(self.now())).await?;
            self.world.lock().leases.lanes.remove(&lane);
            self.world.node_tells(self.node, format_args!("gives {} up", lane.account));
        }
        self.moved();
        Ok(())
    }
}

#[async_trait]
impl Fleet for Members {
    async fn join(&self, _name: &str, now: Timestamp) -> Result<Member> {
        self.door.enter("join").await?;
        let id = MemberId(Uuid::from_u128(self.world.lock().rng.random()));
        let member = Member { id, name: format!("d{}", self.node), since: now };
        let at = self.now();
        self.world.lock().leases.renew(&member, self.node, at);
        self.moved();
        self.door.leave("join", Ok(member)).await
    }

    async fn beat(&self, member: &Member, held: &[Lease]) -> Result<Roster> {
        self.door.enter("beat").await?;
        let now = self.now();
        let roster = {
            let mut world = self.world.lock();
            world.leases.renew(member, self.node, now);
            let mine = |lease: &Lease| {
                let mut lanes = world.leases.lanes.values();
                lanes.any(|owned| owned.lease == *lease && owned.owner == member.id)
            };
            Roster {
                members: world.leases.alive(now),
                lasts: LEASE.saturating_sub(LEASE_MARGIN),
                lost: held.iter().filter(|lease| !mine(lease)).copied().collect(),
                mine: world.leases.of(member.id),
            }
        };
        // What changed meanwhile, in case nobody said so: here whatever is held.
        if self.world.lock().faults.hints_lost {
            let told = roster.mine.iter().map(|(lane, _)| Hint::Watch(lane.clone()));
            told.for_each(|hint| self.door.hint(hint));
        }
        self.door.leave("beat", Ok(roster)).await
    }

    async fn claim(&self, member: &Member, lane: &LaneName) -> Result<Option<Claimed>> {
        let claimed = self.take(member, lane).await;
        self.door.leave("claim", claimed).await
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        let freed = self.free(|owned| owned.lease == *lease).await;
        self.door.leave("release", freed).await
    }

    async fn leave(&self, member: &Member) -> Result<()> {
        self.free(|owned| owned.owner == member.id).await?;
        self.world.lock().leases.members.remove(&member.id);
        self.moved();
        self.door.leave("leave", Ok(())).await
    }

    async fn holdings(&self, _now: Timestamp) -> Result<Vec<Holding>> {
        let store = self.door.enter("holdings").await?;
        let mut busy: BTreeSet<LaneName> = store.lanes().await?.into_iter().collect();
        for (to, _) in destinations(&*store).await? {
            let rows = store.due(&to, Timestamp(i64::MAX), ALL).await?;
            let leases = &self.world.lock().leases;
            busy.extend(rows.iter().filter_map(|row| leases.names.get(&row.lane).cloned()));
        }
        let now = self.now();
        let holdings = {
            let world = self.world.lock();
            let holding = |lane: LaneName| {
                let owned = world.leases.lanes.get(&lane);
                let alive = owned.filter(|owned| world.leases.is_alive(owned.owner, now));
                let owner = alive.map(|owned| world.leases.members[&owned.owner].member.clone());
                let held_for = alive.map(|owned| span(now - owned.since));
                Holding { lane, owner, held_for, takeovers: 0 }
            };
            busy.into_iter().map(holding).collect()
        };
        drop(store);
        self.door.leave("holdings", Ok(holdings)).await
    }

    async fn members(&self) -> Result<Vec<Present>> {
        self.door.enter("members").await?;
        let now = self.now();
        let alive = self.world.lock().leases.alive(now);
        let present = |member| Present { member, silent_for: Duration::ZERO, report: None };
        self.door.leave("members", Ok(alive.into_iter().map(present).collect())).await
    }

    async fn report(&self, _member: &Member, _report: &str) -> Result<()> {
        Ok(())
    }

    fn moves(&self) -> watch::Receiver<u64> {
        self.world.lock().moves.subscribe()
    }
}
