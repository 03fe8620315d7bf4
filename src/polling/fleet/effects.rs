//! What the shell asks of the fleet, each as a future that ends in an [`Event`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::super::Follower;
use crate::clock::{Reading, Steady};
use crate::store::fleet::{Claimed, Fleet, Member, Roster};
use crate::store::{Lease, Result, StoreError};
use crate::task::LaneName;

/// A beat that hangs is given up while there is time for another before the lease ends.
const BEAT_MAX: Duration = Duration::from_secs(2);
/// Claims and releases are tried again with every beat.
const CLAIM_MAX: Duration = Duration::from_secs(4);

/// What happened.
pub(super) enum Event {
    /// A beat, and what was to be seen: every lane with something to do, if that could be read.
    Beaten { asked: Reading, heard: Result<(Roster, Option<BTreeSet<LaneName>>)> },
    /// A claim.
    Claimed { lane: LaneName, asked: Steady, got: Result<Option<Claimed>> },
    /// A lane was given up, or not.
    Released { lane: LaneName, done: Result<()> },
}

type Effect = BoxFuture<'static, Event>;

pub(super) fn beat(
    fleet: Arc<dyn Fleet>,
    member: Member,
    held: Vec<Lease>,
    lapsed: bool,
    asked: Reading,
) -> Effect {
    async move {
        // Whoever is heard but hears nothing must not keep its lanes from the others: once its
        // lease has run out it only knocks, which renews nothing, until it is answered.
        if lapsed && let Err(error) = within(BEAT_MAX, fleet.members()).await {
            return Event::Beaten { asked, heard: Err(error) };
        }
        let heard = match within(BEAT_MAX, fleet.beat(&member, &held)).await {
            Ok(roster) => {
                let holdings = within(BEAT_MAX, fleet.holdings(asked.wall)).await.ok();
                Ok((roster, holdings.map(|all| all.into_iter().map(|it| it.lane).collect())))
            }
            Err(error) => Err(error),
        };
        Event::Beaten { asked, heard }
    }
    .boxed()
}

pub(super) fn claim(
    fleet: Arc<dyn Fleet>,
    member: Member,
    lane: LaneName,
    asked: Steady,
) -> Effect {
    async move {
        let got = within(CLAIM_MAX, fleet.claim(&member, &lane)).await;
        Event::Claimed { lane, asked, got }
    }
    .boxed()
}

pub(super) fn release(
    fleet: Arc<dyn Fleet>,
    follower: Arc<dyn Follower>,
    lane: LaneName,
    lease: Lease,
) -> Effect {
    async move {
        follower.given_up(lease.lane).await;
        let done = within(CLAIM_MAX, fleet.release(&lease)).await;
        Event::Released { lane, done }
    }
    .boxed()
}

async fn within<T>(limit: Duration, asked: impl Future<Output = Result<T>>) -> Result<T> {
    let late = || Err(StoreError::Unavailable(format!("no answer in {} s", limit.as_secs())));
    tokio::time::timeout(limit, asked).await.unwrap_or_else(|_| late())
}
