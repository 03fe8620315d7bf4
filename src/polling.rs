//! Polling: one loop a lane, around a pure brain.
//!
//! ```text
//!   store ──changes──▶ worker ──events, now──▶ Lane (pure): plan, quota, hold, deadlines
//!     ▲                   │  ◀──next step──────┘
//!     └──checkpoint, settle, give up──┤
//!                         └──GET──▶ source
//! ```

pub mod board;
mod deadlines;
pub mod estimate;
pub mod hold;
pub mod lane;
pub mod plan;
pub mod quota;
mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::board::Board;
use self::worker::Worker;
use crate::clock::Clock;
use crate::config::{Polling, QuotaLimits};
use crate::observability::Metrics;
use crate::source::Source;
use crate::store::{Hint, Store};
use crate::task::LaneName;

/// How often the lanes are looked for anew, should a hint have been missed.
const RESCAN: Duration = Duration::from_secs(30);

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

/// What every lane works with.
#[derive(Clone)]
pub struct Context {
    /// Everything durable.
    pub store: Arc<dyn Store>,
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

/// Runs every lane that has tasks until shutdown, and returns once each has written down what it
/// must not forget.
pub async fn run(context: Context) {
    let mut hints = context.store.hints();
    let mut lanes: BTreeMap<LaneName, Arc<Notify>> = BTreeMap::new();
    let workers = TaskTracker::new();
    let mut rescan = tokio::time::interval(RESCAN);
    loop {
        tokio::select! {
            biased;
            () = context.shutdown.cancelled() => break,
            _ = rescan.tick() => wake_all(&context, &workers, &mut lanes).await,
            hint = hints.recv() => match hint {
                Ok(Hint::Watch(lane)) => wake(&context, &workers, &mut lanes, lane),
                Ok(Hint::Outcome { .. } | Hint::Due { .. }) => {}
                Err(RecvError::Lagged(_)) => wake_all(&context, &workers, &mut lanes).await,
                Err(RecvError::Closed) => break,
            },
        }
    }
    workers.close();
    workers.wait().await;
}

async fn wake_all(
    context: &Context,
    workers: &TaskTracker,
    lanes: &mut BTreeMap<LaneName, Arc<Notify>>,
) {
    match context.store.lanes().await {
        Ok(found) => found.into_iter().for_each(|lane| wake(context, workers, lanes, lane)),
        Err(error) => tracing::warn!(%error, "cannot look for lanes; trying again"),
    }
}

fn wake(
    context: &Context,
    workers: &TaskTracker,
    lanes: &mut BTreeMap<LaneName, Arc<Notify>>,
    lane: LaneName,
) {
    if let Some(changed) = lanes.get(&lane) {
        return changed.notify_one();
    }
    let changed = Arc::new(Notify::new());
    lanes.insert(lane.clone(), Arc::clone(&changed));
    workers.spawn(Worker::run(context.clone(), lane, changed));
}
