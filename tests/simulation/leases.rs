//! Whose each lane is, as a shared database would keep it: judged by the world's time alone.

use std::collections::BTreeMap;

use outcomed::clock::millis;
use outcomed::store::Lease;
use outcomed::store::fleet::{LEASE, Member, MemberId};
use outcomed::task::LaneName;

/// A member's row.
#[derive(Clone, Debug)]
pub struct Row {
    pub member: Member,
    pub node: usize,
    pub expires_at: i64,
    pub alive_since: i64,
}

/// No daemon.
const DEAD: usize = usize::MAX;

impl Row {
    /// Its process is over, though its lease may last.
    pub fn bury(&mut self) {
        self.node = DEAD;
    }
}

/// A lane's owner and lease.
#[derive(Clone, Copy, Debug)]
pub struct Owned {
    pub owner: MemberId,
    pub lease: Lease,
    pub since: i64,
}

/// Both tables.
#[derive(Debug, Default)]
pub struct Leases {
    pub members: BTreeMap<MemberId, Row>,
    pub lanes: BTreeMap<LaneName, Owned>,
    /// The name of every lane that was ever claimed.
    pub names: BTreeMap<i64, LaneName>,
    /// When each lane's last reservation was stored.
    pub reserved: BTreeMap<i64, i64>,
}

impl Leases {
    pub fn alive(&self, now: i64) -> Vec<Member> {
        let alive = self.members.values().filter(|row| row.expires_at > now);
        alive.map(|row| row.member.clone()).collect()
    }

    pub fn is_alive(&self, member: MemberId, now: i64) -> bool {
        self.members.get(&member).is_some_and(|row| row.expires_at > now)
    }

    /// A beat: the member's row is the lease of all its lanes.
    pub fn renew(&mut self, member: &Member, node: usize, now: i64) {
        let expires_at = now + millis(LEASE);
        let row = self.members.entry(member.id).or_insert_with(|| Row {
            member: member.clone(),
            node,
            expires_at,
            alive_since: now,
        });
        if row.expires_at <= now {
            row.alive_since = now;
        }
        row.expires_at = expires_at;
    }

    /// Whether the lane may be claimed now, and whether that takes it from one that is gone.
    pub fn may_claim(&self, member: MemberId, lane: &LaneName, now: i64) -> Option<bool> {
        if !self.is_alive(member, now) {
            return None;
        }
        let Some(owned) = self.lanes.get(lane) else { return Some(false) };
        if owned.owner == member {
            return Some(false);
        }
        let seasoned = self.members[&member].alive_since <= now - millis(LEASE);
        (!self.is_alive(owned.owner, now) && seasoned).then_some(true)
    }

    /// Whether the lane's owner, whoever it is, is alive: the epoch is for the store to check.
    pub fn is_owned_by_the_living(&self, lane: i64, now: i64) -> bool {
        let owned = self.lanes.values().find(|owned| owned.lease.lane == lane);
        owned.is_some_and(|owned| self.is_alive(owned.owner, now))
    }

    /// Which daemon holds the lane now, if any.
    pub fn holder(&self, account: &str, now: i64) -> Option<usize> {
        let (_, owned) = self.lanes.iter().find(|(lane, _)| lane.account == account)?;
        let row = self.members.get(&owned.owner).filter(|row| row.expires_at > now)?;
        Some(row.node)
    }

    /// What is this member's.
    pub fn of(&self, member: MemberId) -> Vec<(LaneName, Lease)> {
        let mine = self.lanes.iter().filter(|(_, owned)| owned.owner == member);
        mine.map(|(lane, owned)| (lane.clone(), owned.lease)).collect()
    }

    /// The account whose lane this is.
    pub fn account(&self, lane: i64) -> Option<String> {
        self.names.get(&lane).map(|name| name.account.clone())
    }
}
