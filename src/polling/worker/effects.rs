//! What a lane's shell does, each as a future that ends in an [`Event`].

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_retry::RetryIf;
use tokio_retry::strategy::ExponentialBackoff;

use super::progress::Written;
use crate::clock::{Clock, Steady, Timestamp};
use crate::outcome::Outcome;
use crate::polling::Upstream;
use crate::polling::fleet::seat::{Term, fenced};
use crate::polling::plan::study::Study;
use crate::source::{AccountProblem, Observation, PollError, Polled, TransientClass};
use crate::store::{self, Change, Checkpoint, Ending, Lease, Store, StoreError};
use crate::task::TaskId;

/// Changes read at once.
pub(super) const CHANGES_MAX: u32 = 1000;
/// A source has its own deadline; this one only bounds what a broken source could do.
const SOURCE_MAX: Duration = Duration::from_secs(60);
/// The longest wait between two tries of a write that must not be lost.
const STORE_BACKOFF_MAX: Duration = Duration::from_secs(5);

/// What a poll came to.
pub(super) type PollResult = Result<Polled, PollError>;

/// What happened.
pub(super) enum Event {
    /// A reservation of so many polls is stored, with the progress of tasks, or neither is.
    Reserved { polls: u32, progress: Written, stored: store::Result<()> },
    /// The progress of tasks alone is stored, or not.
    ProgressWritten { progress: Written, stored: store::Result<()> },
    /// The source is ready, or not.
    Prepared(Result<(), PollError>),
    /// A poll ended.
    Replied { task: TaskId, sent: Steady, received: Steady, result: Box<PollResult> },
    /// A task's end is stored, for all (`None`) or for those whose time was over.
    Ended { task: TaskId, next: store::Result<Option<Timestamp>> },
    /// What there was to learn is worked out.
    Learned(Box<Study>),
    /// Changed tasks.
    Loaded(store::Result<Vec<Change>>),
}

/// What a lane's shell does.
pub(super) type Effect = BoxFuture<'static, Event>;

pub(super) fn prepare(upstream: Result<Upstream, AccountProblem>) -> Effect {
    async move {
        let upstream = match upstream {
            Ok(upstream) => upstream,
            Err(problem) => return Event::Prepared(Err(PollError::Account(problem))),
        };
        let ready = tokio::time::timeout(SOURCE_MAX, upstream.source.prepare()).await;
        Event::Prepared(ready.unwrap_or_else(|_| Err(overdue())))
    }
    .boxed()
}

/// Learns a step at a time, between which polls go out and other lanes have their turn.
pub(super) fn study(mut study: Study) -> Effect {
    async move {
        while !study.step() {
            tokio::task::yield_now().await;
        }
        Event::Learned(Box::new(study))
    }
    .boxed()
}

pub(super) fn poll(
    upstream: Result<Upstream, AccountProblem>,
    clock: Arc<dyn Clock>,
    term: Term,
    task: TaskId,
    website: Arc<str>,
    delivery_task: String,
    sent: Steady,
) -> Effect {
    async move {
        let result = match upstream {
            Err(problem) => Err(PollError::Account(problem)),
            Ok(upstream) => {
                let poll = upstream.source.observe(&website, &delivery_task);
                let poll = fenced(poll, Arc::clone(&clock), term);
                let poll = tokio::time::timeout(SOURCE_MAX, poll).await;
                poll.unwrap_or_else(|_| Some(Err(overdue()))).unwrap_or_else(|| Err(run_out()))
            }
        };
        Event::Replied { task, sent, received: clock.steady(), result: Box::new(result) }
    }
    .boxed()
}

/// It may have been sent, and counts as such.
fn run_out() -> PollError {
    let detail = "the daemon was stopped or asleep, or its lease ran out, meanwhile".to_owned();
    PollError::Transient { class: TransientClass::Timeout, detail }
}

fn overdue() -> PollError {
    PollError::Transient {
        class: TransientClass::Timeout,
        detail: format!("no answer within {} s", SOURCE_MAX.as_secs()),
    }
}

pub(super) fn reserve(
    store: Arc<dyn Store>,
    lease: Lease,
    checkpoint: Checkpoint,
    polls: u32,
    progress: Written,
) -> Effect {
    async move {
        let stored = store.checkpoint(&lease, checkpoint).await;
        Event::Reserved { polls, progress, stored }
    }
    .boxed()
}

pub(super) fn write_progress(
    store: Arc<dyn Store>,
    lease: Lease,
    checkpoint: Checkpoint,
    progress: Written,
) -> Effect {
    async move {
        let stored = store.checkpoint(&lease, checkpoint).await;
        Event::ProgressWritten { progress, stored }
    }
    .boxed()
}

pub(super) fn settle(
    store: Arc<dyn Store>,
    lease: Lease,
    ending: Ending,
    outcome: Outcome,
) -> Effect {
    async move {
        let task = ending.task;
        let stored = until_stored(|| store.settle(&lease, ending.clone(), outcome.clone())).await;
        Event::Ended { task, next: stored.map(|()| None) }
    }
    .boxed()
}

pub(super) fn give_up(
    store: Arc<dyn Store>,
    lease: Lease,
    ending: Ending,
    outcome: Outcome,
) -> Effect {
    async move {
        let next = until_stored(|| store.give_up(&lease, ending.clone(), outcome.clone())).await;
        Event::Ended { task: ending.task, next }
    }
    .boxed()
}

pub(super) fn load(store: Arc<dyn Store>, lease: Lease, version: u64) -> Effect {
    async move { Event::Loaded(until_stored(|| store.changes(&lease, version, CHANGES_MAX)).await) }
        .boxed()
}

/// A page of what is watched, for a lane that begins.
pub(super) fn first_load(store: Arc<dyn Store>, lease: Lease, version: u64) -> Effect {
    async move { Event::Loaded(until_stored(|| store.watched(&lease, version, CHANGES_MAX)).await) }
        .boxed()
}

/// Tries until the store has answered: what was learned from a poll must not be lost to a full
/// disk. The wait is bounded, the number of tries is not; shutdown ends it from outside. Without
/// jitter: the store has one writer, and a simulation must replay.
pub(super) async fn until_stored<T, F>(verb: impl FnMut() -> F) -> store::Result<T>
where
    F: Future<Output = store::Result<T>>,
{
    let waits = ExponentialBackoff::from_millis(2).factor(50).max_delay(STORE_BACKOFF_MAX);
    RetryIf::start(waits, verb, |error: &StoreError| {
        let again = matches!(error, StoreError::Unavailable(_));
        if again {
            tracing::warn!(%error, "the store did not take it; trying again");
        }
        again
    })
    .await
}

/// A word for a good answer, for metrics.
pub(super) trait Told {
    fn word(&self) -> &'static str;
}

impl Told for () {
    fn word(&self) -> &'static str {
        "ready"
    }
}

impl Told for Polled {
    fn word(&self) -> &'static str {
        match self.observation {
            Observation::Pending { .. } => "pending",
            Observation::NotFound => "not_found",
            Observation::Settled(_) => "settled",
        }
    }
}
