//! What the API is given, its limits, and what all handlers share.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::events::EventSink;
use super::gate::Gate;
use super::health::Readiness;
use super::ping::Pinger;
use super::problem::{Problem, Result};
use crate::clock::Clock;
use crate::config::{Client, Config};
use crate::delivery::health::Health;
use crate::ids::Ids;
use crate::observability::{Lines, Metrics};
use crate::polling::board::Board;
use crate::store::fleet::{Fleet, MemberId};
use crate::store::{self, Store, StoreError};

/// Whether a client may be called back there; the text says why not and what to do.
pub type JudgeCallback =
    Arc<dyn Fn(&Url, &Client) -> std::result::Result<(), String> + Send + Sync>;

/// What the API is given.
#[derive(Clone)]
pub struct ApiState {
    /// Everything durable.
    pub store: Arc<dyn Store>,
    /// The settings as they are now; a reload is seen by the next request.
    pub config: watch::Receiver<Arc<Config>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Who owns which lane.
    pub fleet: Arc<dyn Fleet>,
    /// This daemon in it.
    pub member: MemberId,
    /// What the lanes are doing.
    pub board: Arc<Board>,
    /// How the receivers are doing.
    pub health: Health,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Judges callback URLs.
    pub judge_callback: JudgeCallback,
    /// Sends a `ping`.
    pub pinger: Arc<dyn Pinger>,
    /// Takes Feishu's event pushes.
    pub events: Arc<dyn EventSink>,
    /// Log lines that strangers can cause.
    pub lines: Arc<Lines>,
    /// The limits; `Limits::default()` outside tests.
    pub limits: Limits,
}

/// The API's limits. Each keeps one kind of greed or slowness from taking the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once. For one more the longest idle one makes way; if all are busy it is
    /// told 503. Well under systemd's `LimitNOFILE`.
    pub connections_max: usize,
    /// For a request's head, and for an idle connection: longer than reverse proxies' usual
    /// pauses between two requests, short enough that silent sockets do not pile up.
    pub header_time_max: Duration,
    /// For a request's body: 4 MiB at 140 kB/s.
    pub body_time_max: Duration,
    /// For a client to take some bytes of our reply before it is given up.
    pub write_time_max: Duration,
    /// For one answer of the store: a failover of the database fits, a client's patience as well.
    pub store_time_max: Duration,
    /// For unfinished requests once we are told to stop; below systemd's `TimeoutStopSec`.
    pub drain_time_max: Duration,
    /// Long polls at once; half of the connections stay for everything else.
    pub waiters_max: usize,
    /// Long polls of one client at once.
    pub waiters_per_client_max: usize,
    /// Requests of one client under way at once: a quarter of the connections.
    pub requests_per_client_max: usize,
    /// Batches in memory at once: 8 × 4 MiB.
    pub batches_max: usize,
    /// Batches of one client at once.
    pub batches_per_client_max: usize,
    /// Pings under way at once.
    pub pings_max: usize,
    /// Pings of one client at once.
    pub pings_per_client_max: usize,
    /// Events of Feishu being read at once: anybody can send what looks like one.
    pub events_max: usize,
    /// Events to one app at once.
    pub events_per_app_max: usize,
    /// For an event's body, of which Feishu sends a few hundred bytes at once.
    pub event_time_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            header_time_max: Duration::from_secs(15),
            body_time_max: Duration::from_secs(30),
            write_time_max: Duration::from_secs(30),
            store_time_max: Duration::from_secs(15),
            drain_time_max: Duration::from_secs(20),
            waiters_max: 512,
            waiters_per_client_max: 128,
            requests_per_client_max: 256,
            batches_max: 8,
            batches_per_client_max: 2,
            pings_max: 16,
            pings_per_client_max: 4,
            events_max: 64,
            events_per_app_max: 16,
            event_time_max: Duration::from_secs(5),
        }
    }
}

/// What all handlers share.
pub struct Shared {
    /// What the API was given.
    pub given: ApiState,
    /// Gives ids to registrations.
    pub ids: Ids,
    /// Admits long polls.
    pub waiters: Gate,
    /// Admits requests of clients.
    pub requests: Gate,
    /// Admits batches.
    pub batches: Gate,
    /// Admits pings.
    pub pings: Gate,
    /// Admits events, by app.
    pub events: Gate,
    /// What the store last said to a readiness check.
    pub readiness: Readiness,
    /// Cancelled when the daemon is stopping.
    pub shutdown: CancellationToken,
}

impl Shared {
    /// Gets everything ready.
    pub fn new(given: ApiState, shutdown: CancellationToken) -> Arc<Self> {
        let limits = given.limits;
        Arc::new(Self {
            given,
            ids: Ids::default(),
            waiters: Gate::new(
                limits.waiters_max,
                limits.waiters_per_client_max,
                "long polls",
                "wait on GET /v1/outcomes, where one long poll covers every registration, or ask \
                 without `wait`",
            ),
            requests: Gate::new(
                limits.connections_max,
                limits.requests_per_client_max,
                "requests",
                "wait for their answers before sending more",
            ),
            batches: Gate::new(
                limits.batches_max,
                limits.batches_per_client_max,
                "batches",
                "send this one again when another is answered",
            ),
            pings: Gate::new(
                limits.pings_max,
                limits.pings_per_client_max,
                "pings",
                "send this one again when another is answered",
            ),
            events: Gate::new(
                limits.events_max,
                limits.events_per_app_max,
                "events",
                "send this one again",
            ),
            readiness: Readiness::default(),
            shutdown,
        })
    }

    /// The settings as they are now.
    pub fn config(&self) -> Arc<Config> {
        self.given.config.borrow().clone()
    }

    /// The store.
    pub fn store(&self) -> &dyn Store {
        self.given.store.as_ref()
    }

    /// Says that the store failed, as often as a person can read it: clients ask on.
    fn note(&self, error: &StoreError) {
        let fault = matches!(error, StoreError::Corrupt(_) | StoreError::Fault(_));
        let line = if fault { "store fault" } else { "store failed" };
        if !self.given.lines.admit(line, self.given.clock.steady()) {
            return;
        }
        if fault {
            tracing::error!(%error, "the store failed an API request");
        } else {
            tracing::warn!(%error, "the store failed an API request");
        }
    }

    /// The store's answer, or the problem that it gave none.
    pub async fn answer<T>(&self, asked: impl Future<Output = store::Result<T>>) -> Result<T> {
        let deadline = self.given.limits.store_time_max;
        if let Ok(answer) = tokio::time::timeout(deadline, asked).await {
            return answer.map_err(|error| {
                self.note(&error);
                error.into()
            });
        }
        if self.given.lines.admit("store silent", self.given.clock.steady()) {
            tracing::warn!("the store did not answer an API request in time");
        }
        let advice = "the store did not answer in time; send the request again: a repeated \
                      registration is answered with the first one";
        Err(Problem::store_unavailable(advice))
    }
}
