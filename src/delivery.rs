//! Delivery: due rows out of the store, one signed POST an attempt, and what follows from it.
//!
//! Around a pure brain ([`dispatch`]) that says what to do next, [`run`] is the loop that does it.
//! The rows stay in the store until an attempt is recorded there, so whatever happens to this
//! process, a delivery is at worst repeated, under the same `webhook-id`.

pub mod alert;
mod attempt;
pub mod breaker;
pub mod dispatch;
pub mod guard;
pub mod handover;
pub mod health;
pub mod ping;
pub mod redeliver;
pub mod retry;
pub mod send;
pub mod sign;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use self::alert::Closed;
use self::attempt::{Attempting, Complaints};
use self::breaker::{CoolDown, Pulse};
use self::dispatch::{Dispatch, Ended, Limits, Now, Step, Turned};
use self::handover::Handover;
use self::health::Question;
use self::send::Courier;
use crate::clock::{Clock, Steady};
use crate::config::Config;
use crate::observability::metrics::Metrics;
use crate::store::{self, DESTINATIONS_STEP, Delivery, Destination, DestinationPage, Hint, Outbox};

/// What delivery is made of.
pub struct Parts {
    /// Where due rows come from and attempts go to.
    pub outbox: Arc<dyn Outbox>,
    /// What just became due.
    pub hints: broadcast::Receiver<Hint>,
    /// Secrets, limits and the schedule, as they are now.
    pub config: watch::Receiver<Arc<Config>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What carries callbacks to receivers.
    pub courier: Arc<dyn Courier>,
    /// Who asks how the receivers are doing: [`health::desk`].
    pub questions: mpsc::Receiver<Question>,
    /// Told where deliveries ended undelivered.
    pub closed: mpsc::Sender<Closed>,
    /// What is under way of each lane, for whoever gives one up.
    pub handover: Handover,
    /// Whether what was read as due is still this daemon's to send.
    pub ours: Arc<dyn Fn() -> bool + Send + Sync>,
    /// A number in [-1, 1] for each wait; [`random_jitter`] outside of simulations.
    pub jitter: Arc<dyn Fn() -> f64 + Send + Sync>,
}

/// A uniformly random number in [-1, 1].
#[must_use]
pub fn random_jitter() -> f64 {
    rand::random_range(-1.0..=1.0)
}

/// After a suspend, which a sleep does not count, what is due comes at most this much later.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// How delivering ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Attempts that were cut off at the deadline. They are not counted and will be made again.
    pub cut_off: usize,
}

/// The longest that a stop waits for attempts under way; below systemd's `TimeoutStopSec`.
pub const DRAIN_MAX: Duration = Duration::from_secs(40);
/// For an attempt that took its whole timeout to be recorded as well.
const RECORDING: Duration = Duration::from_secs(5);

/// Delivers until `shutdown`, then lets the attempts under way end: for as long as one may take, at
/// most `drain_max`.
pub async fn run(parts: Parts, shutdown: CancellationToken, drain_max: Duration) -> Drained {
    let Parts { outbox, mut hints, mut config, clock, metrics, courier, .. } = parts;
    let Parts { mut questions, closed, ours, jitter, handover, .. } = parts;
    let complaints = Complaints::default();
    let attempting =
        Attempting { outbox, courier, clock, metrics, handover, closed, ours, jitter, complaints };
    let mut shell = Shell {
        dispatch: Dispatch::new(limits(&config.borrow())),
        attempting: Arc::new(attempting),
        attempts: JoinSet::new(),
        reads: JoinSet::new(),
    };
    let (mut hints_open, mut config_open) = (true, true);
    loop {
        let wait = shell.perform(&config);
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(over) = shell.attempts.join_next() => shell.attempted(finished(over)),
            Some(read) = shell.reads.join_next() => shell.read(finished(read)),
            changed = config.changed(), if config_open => {
                config_open = changed.is_ok();
                let now = shell.now();
                shell.dispatch.configure(limits(&config.borrow()), now);
            }
            hint = hints.recv(), if hints_open => match hint {
                Ok(Hint::Due(to)) => shell.dispatch.due(&to, shell.now()),
                Ok(Hint::Asked) => shell.dispatch.asked(),
                Ok(Hint::Watch(_) | Hint::Outcome { .. }) => {}
                Err(RecvError::Lagged(_)) => shell.dispatch.rescan(),
                // Scans find everything, only later.
                Err(RecvError::Closed) => hints_open = false,
            },
            Some(question) = questions.recv() => {
                // Whoever asked may have stopped waiting.
                let _ = question.send(shell.dispatch.origins(shell.now()));
            }
            () = sleep(wait) => {}
        }
    }
    let attempt_max = config.borrow().delivery.timeout.saturating_add(RECORDING);
    shell.drain(attempt_max.min(drain_max)).await
}

fn limits(config: &Config) -> Limits {
    let delivery = &config.delivery;
    Limits {
        per_origin: delivery.concurrency_per_host,
        cool_down: CoolDown::within(&delivery.retry_delays),
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait.min(SLEEP_MAX)).await,
        None => std::future::pending().await,
    }
}

/// A panic in a task is a bug: it ends delivery, as it would have without tasks.
fn finished<T>(joined: Result<T, JoinError>) -> T {
    joined.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

struct Attempted {
    to: Destination,
    registration_id: String,
    pulse: Pulse,
    ended: Ended,
}

enum Read {
    Destinations(store::Result<DestinationPage>),
    Asked(store::Result<Vec<Delivery>>),
    Due { to: Destination, asked: u32, rows: store::Result<Vec<Delivery>> },
}

struct Shell {
    dispatch: Dispatch,
    attempting: Arc<Attempting>,
    attempts: JoinSet<Attempted>,
    reads: JoinSet<Read>,
}

impl Shell {
    fn now(&self) -> Now {
        let clock = &self.attempting.clock;
        Now { wall: clock.wall(), steady: clock.steady() }
    }

    /// Does everything that is to be done now; returns how long there will be nothing more.
    fn perform(&mut self, config: &watch::Receiver<Arc<Config>>) -> Option<Duration> {
        loop {
            let now = self.now();
            match self.dispatch.next(now) {
                Step::Wait { until } => return until.map(|until: Steady| until.since(now.steady)),
                Step::Scan { after } => {
                    let outbox = Arc::clone(&self.attempting.outbox);
                    self.reads.spawn(async move {
                        Read::Destinations(outbox.destinations(&after, DESTINATIONS_STEP).await)
                    });
                }
                Step::FetchAsked { limit } => {
                    let outbox = Arc::clone(&self.attempting.outbox);
                    self.reads
                        .spawn(async move { Read::Asked(outbox.asked(now.wall, limit).await) });
                }
                Step::Fetch { to, limit } => {
                    let outbox = Arc::clone(&self.attempting.outbox);
                    self.reads.spawn(async move {
                        let rows = outbox.due(&to, now.wall, limit).await;
                        Read::Due { to, asked: limit, rows }
                    });
                }
                Step::Attempt { to, delivery } => {
                    let attempting = Arc::clone(&self.attempting);
                    let config = Arc::clone(&config.borrow());
                    self.attempts.spawn(async move {
                        let (pulse, ended) = attempting.attempt(&delivery, &config).await;
                        let registration_id = delivery.registration_id;
                        Attempted { to, registration_id, pulse, ended }
                    });
                }
            }
        }
    }

    fn attempted(&mut self, over: Attempted) {
        let Attempted { to, registration_id, pulse, ended } = over;
        let now = self.now();
        match self.dispatch.ended(&to, &registration_id, pulse, ended, now) {
            Some(Turned::Held) => {
                tracing::warn!(
                    origin = to.origin,
                    client = to.client,
                    "callbacks of this client to this origin keep failing: one delivery at a time \
                     is tried until one is accepted"
                );
            }
            Some(Turned::Back) => {
                tracing::info!(
                    origin = to.origin,
                    client = to.client,
                    "callbacks of this client to this origin are accepted again"
                );
            }
            None => {}
        }
    }

    fn read(&mut self, read: Read) {
        let now = self.now();
        match read {
            Read::Asked(Ok(rows)) => self.dispatch.fetched_asked(rows),
            Read::Asked(Err(error)) => {
                tracing::warn!(%error, "redeliveries could not be read, trying again");
                self.dispatch.fetch_asked_failed(now);
            }
            Read::Destinations(Ok(page)) => self.dispatch.scanned(page, now),
            Read::Due { to, asked, rows: Ok(rows) } => {
                self.dispatch.fetched(&to, rows, asked, now);
            }
            Read::Destinations(Err(error)) => {
                tracing::warn!(%error, "what is due could not be read, trying again");
                self.dispatch.scan_failed(now);
            }
            Read::Due { to, rows: Err(error), .. } => {
                tracing::warn!(%error, origin = to.origin, client = to.client, "due deliveries could not be read, trying again");
                self.dispatch.fetch_failed(&to, now);
            }
        }
    }

    async fn drain(mut self, limit: Duration) -> Drained {
        self.reads.abort_all();
        let all_ended = async { while self.attempts.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(limit, all_ended).await;
        // Nothing of these is recorded: the rows are still due, and their attempts uncounted.
        let cut_off = self.attempts.len();
        self.attempts.shutdown().await;
        self.attempting.handover.cut_off(self.attempting.clock.wall()).await;
        Drained { cut_off }
    }
}
