//! The fleet: several daemons on one store, each lane owned by one of them at a time.
//!
//! A member's lanes are its own for as long as it beats. One that falls silent expires by the
//! database's clock and its lanes are claimed by the others; one that leaves hands them over at
//! once. Whatever a former owner still writes is refused ([`StoreError::LeaseLost`]), because
//! claiming a lane makes a new epoch.
//!
//! [`StoreError::LeaseLost`]: super::StoreError::LeaseLost

mod alone;

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use uuid::Uuid;

pub use self::alone::Alone;
use super::{Lease, Result, TakenLane};
use crate::clock::Timestamp;
use crate::task::LaneName;

/// How long a member that has fallen silent keeps its lanes. With [`BEAT_EVERY`] and the time that
/// claiming takes, a dead daemon's lanes are polled again within ten seconds.
pub const LEASE: Duration = Duration::from_secs(6);

/// How often a member says that it is alive: two beats may be lost without losing a lane.
pub const BEAT_EVERY: Duration = Duration::from_secs(2);

/// How long before its lease ends a member stops using it: what a request still takes on the way
/// to the upstream, and what two clocks may differ by in [`LEASE`].
pub const LEASE_MARGIN: Duration = Duration::from_millis(500);

/// A member's identity: a new one for every run of a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub Uuid);

/// A daemon of the fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which.
    pub id: MemberId,
    /// What people call it: its host's name.
    pub name: String,
    /// When it joined, by its own clock.
    pub since: Timestamp,
}

/// What a beat came to.
#[derive(Clone, Debug)]
pub struct Roster {
    /// The members that are alive, in the order of their ids.
    pub members: Vec<Member>,
    /// How long all leases that are not lost may be used, counted from just before the beat was
    /// asked for, on a clock that never jumps.
    pub lasts: Duration,
    /// Those of the leases held that are another's by now.
    pub lost: Vec<Lease>,
    /// Every lane that is the member's by the store, whether it knows or not.
    pub mine: Vec<(LaneName, Lease)>,
}

/// A lane that was claimed.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The lane, as its last owner left it.
    pub lane: TakenLane,
    /// How long it may be used without another beat, counted as in [`Roster::lasts`].
    pub lasts: Duration,
    /// It was taken from an owner that had expired.
    pub took_over: bool,
    /// How long ago its last reservation was stored, by the store's clock: daemons' clocks differ.
    pub reserved_ago: Option<Duration>,
}

/// A member as the others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// Who.
    pub member: Member,
    /// How long ago it last beat.
    pub silent_for: Duration,
    /// What it last said of itself.
    pub report: Option<String>,
}

/// A lane with something to do, and who does it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The lane.
    pub lane: LaneName,
    /// Its owner, if that one is alive.
    pub owner: Option<Member>,
    /// How long the owner has had it.
    pub held_for: Option<Duration>,
    /// How often it was taken from an owner that had expired.
    pub takeovers: u64,
}

/// What daemons that share a store ask of it.
#[async_trait]
pub trait Fleet: Send + Sync {
    /// Makes this daemon a member, for [`LEASE`] unless it beats.
    async fn join(&self, name: &str, now: Timestamp) -> Result<Member>;

    /// Says that the member is alive, which renews all its leases, and looks around.
    async fn beat(&self, member: &Member, held: &[Lease]) -> Result<Roster>;

    /// Takes a lane that is free, expired or the member's own already (then under a new epoch).
    /// `None`: it is another's, or this member has expired itself.
    async fn claim(&self, member: &Member, lane: &LaneName) -> Result<Option<Claimed>>;

    /// Gives a lane up, for another to claim at once. Nothing is written under this lease any more.
    async fn release(&self, lease: &Lease) -> Result<()>;

    /// Gives up whatever the member still holds, and goes. It must not beat any more: that would
    /// make it a member again.
    async fn leave(&self, member: &Member) -> Result<()>;

    /// Every lane with a registration that is watching or delivering, by name.
    async fn holdings(&self, now: Timestamp) -> Result<Vec<Holding>>;

    /// The members that are alive, by id.
    async fn members(&self) -> Result<Vec<Present>>;

    /// Says to the other members what this one is doing, in place of what it said before.
    async fn report(&self, member: &Member, report: &str) -> Result<()>;

    /// Changes when another daemon has come, gone or given a lane up: a hint to beat at once.
    fn moves(&self) -> watch::Receiver<u64>;
}

/// The lanes that `me` is to hold: for each lane, every member comes to the same one, and when a
/// member comes or goes only the lanes that it wins or leaves move (rendezvous hashing).
pub fn assign<'a>(
    members: &[MemberId],
    lanes: impl IntoIterator<Item = &'a LaneName>,
    me: MemberId,
) -> BTreeSet<LaneName> {
    let mine = |lane: &&LaneName| owner(members, lane) == Some(me);
    lanes.into_iter().filter(mine).cloned().collect()
}

/// Whose a lane is.
fn owner(members: &[MemberId], lane: &LaneName) -> Option<MemberId> {
    members.iter().copied().max_by_key(|member| (weight(*member, lane), *member))
}

/// The same in every version and on every machine: FNV-1a, with its bits mixed by the end of
/// `SplitMix64`.
fn weight(member: MemberId, lane: &LaneName) -> u64 {
    let parts = [member.0.as_bytes(), lane.account.as_bytes(), &[0], lane.kind.name().as_bytes()];
    let fnv = parts.into_iter().flatten().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mixed = (fnv ^ (fnv >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Kind;

    fn lanes(count: u32) -> Vec<LaneName> {
        let lane = |n| LaneName { account: format!("tenant-{n}"), kind: Kind::HireWebsiteDelivery };
        (0..count).map(lane).collect()
    }

    fn members(count: u128) -> Vec<MemberId> {
        // As they are in life: one of each daemon's ids is like the next but for a few bytes.
        (0..count).map(|n| MemberId(Uuid::from_u128((0x0199_u128 << 112) + n))).collect()
    }

    #[test]
    fn every_lane_has_one_owner_and_all_agree_whatever_their_order() {
        let (lanes, members) = (lanes(500), members(4));
        let mut reversed = members.clone();
        reversed.reverse();
        let mut owned = 0;
        for me in &members {
            let mine = assign(&members, &lanes, *me);
            assert_eq!(mine, assign(&reversed, &lanes, *me));
            owned += mine.len();
        }
        assert_eq!(owned, 500);
        assert!(assign(&[], &lanes, members[0]).is_empty());
    }

    #[test]
    fn lanes_spread_evenly() {
        let members = members(3);
        for me in &members {
            let mine = assign(&members, &lanes(10_000), *me).len();
            assert!((3_133..=3_533).contains(&mine), "{mine} of 10,000, five sigma are 236");
        }
    }

    #[test]
    fn only_the_lanes_of_the_one_that_went_move() {
        let (lanes, members) = (lanes(2_000), members(4));
        let (gone, rest) = members.split_first().unwrap();
        for lane in &lanes {
            let before = owner(&members, lane).unwrap();
            let after = owner(rest, lane).unwrap();
            assert!(before == after || before == *gone);
        }
    }
}
