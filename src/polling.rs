//! Polling: one loop a lane, around a pure brain.
//!
//! ```text
//!   fleet ◀──beat, claim──▶ shell: one worker for each lane that is this daemon's
//!   store ──changes──▶ worker ──events, now──▶ Lane (pure): plan, failing, quota, hold
//!     ▲                   │  ◀──next step──────┘
//!     └──checkpoint, settle, give up──┤
//!                         └──GET──▶ source
//! ```

pub mod board;
mod deadlines;
pub mod estimate;
pub mod failing;
mod fleet;
pub mod hold;
pub mod lane;
pub mod plan;
mod probe;
pub mod quota;
mod restored;
mod rewatch;
mod trouble;
mod unresolved;
mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::board::Board;
use crate::clock::Clock;
use crate::config::{Polling, QuotaLimits};
use crate::observability::Metrics;
use crate::source::Source;
use crate::store::Store;
use crate::store::fleet::{Fleet, Member};

/// An account's upstream.
#[derive(Clone)]
pub struct Upstream {
    /// Where its observations come from.
    pub source: Arc<dyn Source>,
    /// What may be spent on them.
    pub quota: QuotaLimits,
}

/// Every configured account's upstream, by the account's name.
pub type Upstreams = BTreeMap<String, Upstream>;

/// Who is told of the lanes that this daemon has, and can hold up for a moment that one is given up:
/// what of a lane is under way elsewhere in this daemon must not begin anew at its next owner.
pub trait Follower: Send + Sync {
    /// The lane's row is this daemon's.
    fn claimed(&self, lane: i64);

    /// The lane's row is given up, or lost. Over within a second or so.
    fn given_up(&self, lane: i64) -> BoxFuture<'static, ()>;
}

/// Nobody follows.
impl Follower for () {
    fn claimed(&self, _lane: i64) {}

    fn given_up(&self, _lane: i64) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// What every lane works with.
#[derive(Clone)]
pub struct Context {
    /// Everything durable.
    pub store: Arc<dyn Store>,
    /// Who owns which lane.
    pub fleet: Arc<dyn Fleet>,
    /// This daemon, which has joined it.
    pub member: Member,
    /// Who follows which lanes are ours.
    pub follower: Arc<dyn Follower>,
    /// The configured accounts, as they now are.
    pub upstreams: watch::Receiver<Arc<Upstreams>>,
    /// How tasks are polled.
    pub settings: Polling,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where each lane says what it is doing.
    pub board: Arc<Board>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// When it fires, no new poll is sent.
    pub shutdown: CancellationToken,
}

/// Runs the lanes that are this daemon's until shutdown, and returns once each has written down
/// what it must not forget and is given up. Meanwhile works off bulk
/// rewatches, and asks for a token for every account without a lane.
pub async fn run(context: Context) {
    tokio::join!(fleet::run(context.clone()), rewatch::run(context.clone()), probe::run(context));
}
