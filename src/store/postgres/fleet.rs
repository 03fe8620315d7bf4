//! The fleet's seam over Postgres: the leases and what members tell each other.

use std::collections::BTreeMap;

use async_trait::async_trait;
use tokio::sync::watch;
use uuid::Uuid;

use super::session::on_session;
use super::{Postgres, lock, members};
use crate::clock::Timestamp;
use crate::store::fleet::{Claimed, Fleet, Holding, Member, MemberId, Present, Roster};
use crate::store::{Hint, Lease, Result};
use crate::task::LaneName;

#[async_trait]
impl Fleet for Postgres {
    async fn join(&self, name: &str, now: Timestamp) -> Result<Member> {
        let id = Uuid::now_v7();
        let member = Member { id: MemberId(id), name: name.to_owned(), since: now };
        on_session!(self.fleet, |db| members::join(&db, &member))?;
        *lock(&self.me) = Some(id);
        self.hints.tell_moves();
        Ok(member)
    }

    async fn beat(&self, member: &Member, held: &[Lease]) -> Result<Roster> {
        let (roster, mine) = on_session!(self.beats, |db| members::beat(&db, member, held))?;
        let now: BTreeMap<i64, i64> = mine.iter().map(|m| (m.lease.lane, m.version)).collect();
        let before = std::mem::replace(&mut *lock(&self.seen), now);
        for lane in mine {
            if before.get(&lane.lease.lane) != Some(&lane.version) {
                self.hints.tell_here(Hint::Watch(lane.name));
            }
        }
        Ok(roster)
    }

    async fn claim(&self, member: &Member, lane: &LaneName) -> Result<Option<Claimed>> {
        let mut due = Vec::new();
        let claimed = on_session!(self.fleet, |db| members::claim(&db, member, lane, &mut due))?;
        for hint in due {
            self.hints.tell_here(hint);
        }
        Ok(claimed)
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        let released = on_session!(self.fleet, |db| members::release(&db, *lease))?;
        if released.is_some() {
            self.hints.tell_moves();
        }
        Ok(())
    }

    async fn leave(&self, member: &Member) -> Result<()> {
        on_session!(self.fleet, |db| members::leave(&db, member.id.0))?;
        self.hints.tell_moves();
        Ok(())
    }

    async fn holdings(&self, _now: Timestamp) -> Result<Vec<Holding>> {
        on_session!(self.fleet, |db| members::holdings(&db))
    }

    async fn members(&self) -> Result<Vec<Present>> {
        on_session!(self.fleet, |db| members::present(&db))
    }

    async fn report(&self, member: &Member, report: &str) -> Result<()> {
        on_session!(self.fleet, |db| members::report(&db, member.id.0, report))
    }

    fn moves(&self) -> watch::Receiver<u64> {
        self.hints.moves()
    }
}
