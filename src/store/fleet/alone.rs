//! A fleet of one: a store that only this daemon can have open.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use uuid::Uuid;

use super::{Claimed, Fleet, Holding, Member, MemberId, Present, Roster};
use crate::clock::Timestamp;
use crate::store::{Lease, Result, Store};
use crate::task::LaneName;

/// Nobody else comes or goes.
static STILL: LazyLock<watch::Sender<u64>> = LazyLock::new(|| watch::channel(0).0);

/// The only member there is; it owns everything for ever.
pub struct Alone {
    store: Arc<dyn Store>,
    member: Mutex<Option<Member>>,
}

impl Alone {
    /// A fleet of one on this store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, member: Mutex::new(None) }
    }

    fn member(&self) -> std::sync::MutexGuard<'_, Option<Member>> {
        self.member.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Fleet for Alone {
    async fn join(&self, name: &str, now: Timestamp) -> Result<Member> {
        let member = Member { id: MemberId(Uuid::now_v7()), name: name.to_owned(), since: now };
        *self.member() = Some(member.clone());
        Ok(member)
    }

    async fn beat(&self, member: &Member, _held: &[Lease]) -> Result<Roster> {
        let (members, lasts) = (vec![member.clone()], Duration::MAX);
        Ok(Roster { members, lasts, lost: Vec::new(), mine: Vec::new() })
    }

    async fn claim(&self, member: &Member, lane: &LaneName) -> Result<Option<Claimed>> {
        let lane = self.store.take(lane, member.since).await?;
        let (took_over, reserved_ago) = (false, None);
        Ok(Some(Claimed { lane, lasts: Duration::MAX, took_over, reserved_ago }))
    }

    async fn release(&self, _lease: &Lease) -> Result<()> {
        Ok(())
    }

    async fn leave(&self, _member: &Member) -> Result<()> {
        *self.member() = None;
        Ok(())
    }

    async fn holdings(&self, now: Timestamp) -> Result<Vec<Holding>> {
        let owner = self.member().clone();
        let held_for = owner.as_ref().map(|owner| now.since(owner.since));
        let holding = |lane| Holding { lane, owner: owner.clone(), held_for, takeovers: 0 };
        Ok(self.store.lanes().await?.into_iter().map(holding).collect())
    }

    async fn members(&self) -> Result<Vec<Present>> {
        let alone = |member| Present { member, silent_for: Duration::ZERO, report: None };
        Ok(self.member().clone().map(alone).into_iter().collect())
    }

    async fn report(&self, _member: &Member, _report: &str) -> Result<()> {
        Ok(())
    }

    fn moves(&self) -> watch::Receiver<u64> {
        STILL.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreError;
    use crate::store::sqlite::Sqlite;
    use crate::task::Kind;

    #[tokio::test]
    async fn a_fleet_of_one_owns_every_lane_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.db");
        let store: Arc<dyn Store> = Arc::new(Sqlite::open_simulated(&file).unwrap());
        let fleet = Alone::new(Arc::clone(&store));
        let me = fleet.join("here", Timestamp(1_000)).await.unwrap();
        let lane = LaneName { account: "default".into(), kind: Kind::HireWebsiteDelivery };
        let first = fleet.claim(&me, &lane).await.unwrap().unwrap();
        let roster = fleet.beat(&me, &[first.lane.lease]).await.unwrap();
        assert_eq!((roster.members, roster.lost), (vec![me.clone()], vec![]));
        assert_eq!((first.lasts, roster.lasts), (Duration::MAX, Duration::MAX));
        let second = fleet.claim(&me, &lane).await.unwrap().unwrap();
        assert!(second.lane.lease.epoch > first.lane.lease.epoch);
        let refused =
            store.checkpoint(&first.lane.lease, crate::store::Checkpoint::default()).await;
        assert!(matches!(refused, Err(StoreError::LeaseLost)), "its own earlier lease is over");
    }
}
