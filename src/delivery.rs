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
use self::health::Question;
use self::send::Courier;
use crate::clock::{Clock, Steady, Timestamp};
use crate::config::Config;
use crate::observability::metrics::Metrics;
use crate::store::{self, Delivery, Hint, Outbox};

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

/// How delivering ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Attempts that were cut off at the deadline. They are not counted and will be made again.
    pub cut_off: usize,
}

/// Delivers until `shutdown`, then lets the attempts under way end for at most `drain`.
pub async fn run(parts: Parts, shutdown: CancellationToken, drain: Duration) -> Drained {
    let Parts { outbox, mut hints, mut config, clock, metrics, courier, .. } = parts;
    let Parts { mut questions, closed, ours, jitter, .. } = parts;
    let complaints = Complaints::default();
    let attempting =
        Attempting { outbox, courier, clock, metrics, closed, ours, jitter, complaints };
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
                shell.dispatch.configure(limits(&config.borrow()));
            }
            hint = hints.recv(), if hints_open => match hint {
                Ok(Hint::Due { origin }) => shell.dispatch.due(&origin, shell.now()),
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
    shell.drain(drain).await
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
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

/// A panic in a task is a bug: it ends delivery, as it would have without tasks.
fn finished<T>(joined: Result<T, JoinError>) -> T {
    joined.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

struct Attempted {
    origin: String,
    registration_id: String,
    pulse: Pulse,
    ended: Ended,
}

enum Read {
    Origins(store::Result<Vec<(String, Timestamp)>>),
    Due { origin: String, asked: u32, rows: store::Result<Vec<Delivery>> },
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
                Step::Scan => {
                    let outbox = Arc::clone(&self.attempting.outbox);
                    self.reads.spawn(async move { Read::Origins(outbox.origins().await) });
                }
                Step::Fetch { origin, limit } => {
                    let outbox = Arc::clone(&self.attempting.outbox);
                    self.reads.spawn(async move {
                        let rows = outbox.due(&origin, now.wall, limit).await;
                        Read::Due { origin, asked: limit, rows }
                    });
                }
                Step::Attempt { origin, delivery } => {
                    let attempting = Arc::clone(&self.attempting);
                    let config = Arc::clone(&config.borrow());
                    self.attempts.spawn(async move {
                        let (pulse, ended) = attempting.attempt(&delivery, &config).await;
                        let registration_id = delivery.registration_id;
                        Attempted { origin, registration_id, pulse, ended }
                    });
                }
            }
        }
    }

    fn attempted(&mut self, over: Attempted) {
        let Attempted { origin, registration_id, pulse, ended } = over;
        let now = self.now();
        match self.dispatch.ended(&origin, &registration_id, pulse, ended, now) {
            Some(Turned::Held) => {
                tracing::warn!(
                    origin,
                    "a receiver is unwell: it gets single probes until it is back"
                );
            }
            Some(Turned::Back) => tracing::info!(origin, "a receiver is back"),
            None => {}
        }
    }

    fn read(&mut self, read: Read) {
        let now = self.now();
        match read {
            Read::Origins(Ok(found)) => self.dispatch.scanned(found, now),
            Read::Due { origin, asked, rows: Ok(rows) } => {
                self.dispatch.fetched(&origin, rows, asked, now);
            }
            Read::Origins(Err(error)) => {
                tracing::warn!(%error, "what is due could not be read, trying again");
                self.dispatch.scan_failed(now);
            }
            Read::Due { origin, rows: Err(error), .. } => {
                tracing::warn!(%error, origin, "due deliveries could not be read, trying again");
                self.dispatch.fetch_failed(&origin, now);
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
        Drained { cut_off }
    }
}
