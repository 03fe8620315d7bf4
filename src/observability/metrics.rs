//! What is counted. One method for each thing that happens, so that the names live here only.

mod fleet;
mod labels;
mod snapshot;

use std::sync::Mutex;
use std::time::Duration;

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::clock::Timestamp;
use crate::outcome::{Class, Outcome};
use crate::task::LaneName;
use labels::{
    AttemptLabels, LaneLabels, OutcomeLabels, PollLabels, RequestLabels, ResultLabel, RouteLabels,
    TokenLabels,
};
pub use snapshot::Snapshot;

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A round trip to Feishu, to a client or to the disk, up to the longest deadline of one.
const ROUND_TRIP: [f64; 13] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0];
/// Detection: tenths of a second on an idle lane, minutes on a crowded one.
const DETECTION: [f64; 13] =
    [0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 180.0, 600.0];
/// Delivery: milliseconds to a healthy receiver, a day and more to one that was down.
const DELIVERY: [f64; 14] = [
    0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1_800.0, 7_200.0, 21_600.0, 86_400.0,
    345_600.0,
];

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

fn round_trip() -> Histogram {
    Histogram::new(ROUND_TRIP)
}

fn detection() -> Histogram {
    Histogram::new(DETECTION)
}

/// The daemon's counters, a value: several daemons in one test process do not share them.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    polls: Family<PollLabels, Counter>,
    poll_seconds: Histograms<LaneLabels>,
    settled: Family<OutcomeLabels, Counter>,
    detection_seconds: Histograms<LaneLabels>,
    token_calls: Family<TokenLabels, Counter>,
    attempts: Family<AttemptLabels, Counter>,
    attempt_seconds: Histogram,
    delivery_seconds: Histogram,
    registration_requests: Family<ResultLabel, Counter>,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Histograms<RouteLabels>,
    store_writes: Counter,
    commit_seconds: Histogram,
    reload_ok: Gauge,
    reload_ok_at: Gauge,
    /// Of the fleet.
    pub fleet: fleet::Fleet,
    snapshot: Mutex<Snapshot>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("outcomed"),
            polls: Family::default(),
            poll_seconds: Family::new_with_constructor(round_trip),
            settled: Family::default(),
            detection_seconds: Family::new_with_constructor(detection),
            token_calls: Family::default(),
            attempts: Family::default(),
            attempt_seconds: round_trip(),
            delivery_seconds: Histogram::new(DELIVERY),
            registration_requests: Family::default(),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(round_trip),
            store_writes: Counter::default(),
            commit_seconds: round_trip(),
            reload_ok: Gauge::default(),
            reload_ok_at: Gauge::default(),
            fleet: fleet::Fleet::default(),
            snapshot: Mutex::default(),
        };
        metrics.reload_ok.set(1);
        metrics.name_polling();
        metrics.name_delivery();
        metrics.name_the_rest();
        metrics.fleet.name(&mut metrics.registry);
        metrics
    }
}

impl Metrics {
    fn name_polling(&mut self) {
        let registry = &mut self.registry;
        registry.register("polls", "Polls of Feishu that ended, by result", self.polls.clone());
        registry.register_with_unit(
            "poll_duration",
            "How long a poll took",
            Unit::Seconds,
            self.poll_seconds.clone(),
        );
        registry.register("tasks_settled", "Tasks whose outcome was stored", self.settled.clone());
        registry.register_with_unit(
            "detection_delay_bound",
            "At most how long before its outcome was seen a task had ended: the time since it was \
             last seen pending",
            Unit::Seconds,
            self.detection_seconds.clone(),
        );
        registry.register(
            "token_calls",
            "Calls for an access token, by result",
            self.token_calls.clone(),
        );
    }

    fn name_delivery(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "delivery_attempts",
            "Callback attempts that ended, by verdict and class of HTTP status",
            self.attempts.clone(),
        );
        registry.register_with_unit(
            "delivery_attempt_duration",
            "How long a callback attempt took",
            Unit::Seconds,
            self.attempt_seconds.clone(),
        );
        registry.register_with_unit(
            "delivery_delay",
            "How long after an outcome was stored its callback accepted it",
            Unit::Seconds,
            self.delivery_seconds.clone(),
        );
    }

    fn name_the_rest(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "registration_requests",
            "Registrations asked for, by result",
            self.registration_requests.clone(),
        );
        registry.register("http_requests", "API requests answered", self.requests.clone());
        registry.register_with_unit(
            "http_request_duration",
            "How long an API request took",
            Unit::Seconds,
            self.request_seconds.clone(),
        );
        registry.register(
            "store_writes",
            "Writes made durable by the store",
            self.store_writes.clone(),
        );
        registry.register_with_unit(
            "store_commit_duration",
            "How long a commit of the store took",
            Unit::Seconds,
            self.commit_seconds.clone(),
        );
        registry.register(
            "config_last_reload_successful",
            "Whether the configuration in force is the one last asked for",
            self.reload_ok.clone(),
        );
        registry.register_with_unit(
            "config_last_reload_success_timestamp",
            "When the configuration was last reloaded successfully; 0 if never",
            Unit::Seconds,
            self.reload_ok_at.clone(),
        );
    }

    /// One poll ended: `result` is `pending`, `settled`, `not_found`, `quota`, `token`, `account`,
    /// or a transient class.
    pub fn poll(&self, lane: &LaneName, result: &'static str, took: Duration) {
        self.polls.get_or_create(&PollLabels::new(lane, result)).inc();
        self.poll_seconds.get_or_create(&lane.into()).observe(took.as_secs_f64());
    }

    /// A task's outcome is stored, `delay_max` after it was last seen pending.
    pub fn settled(&self, lane: &LaneName, outcome: &Outcome, delay_max: Duration) {
        self.settled.get_or_create(&OutcomeLabels::new(lane, outcome)).inc();
        // An unresolved task did not end upstream, so there is nothing to have been late for.
        if outcome.outcome != Class::Unresolved {
            self.detection_seconds.get_or_create(&lane.into()).observe(delay_max.as_secs_f64());
        }
    }

    /// One token call ended: `ok`, `refused` or `failed`.
    pub fn token_call(&self, account: &str, result: &'static str) {
        self.token_calls.get_or_create(&TokenLabels { account: account.to_owned(), result }).inc();
    }

    /// One delivery attempt ended with `verdict`.
    pub fn attempt(&self, verdict: &'static str, status: Option<u16>, took: Duration) {
        self.attempts.get_or_create(&AttemptLabels::new(verdict, status)).inc();
        self.attempt_seconds.observe(took.as_secs_f64());
    }

    /// A callback accepted an outcome, `delay` after it was stored.
    pub fn delivered(&self, delay: Duration) {
        self.delivery_seconds.observe(delay.as_secs_f64());
    }

    /// A registration request was answered: `new`, `existing` or `refused`.
    pub fn registered(&self, result: &'static str) {
        self.registration_requests.get_or_create(&ResultLabel { result }).inc();
    }

    /// One API request was answered. `route` is the matched route, never the path: a path holds
    /// ids, and every new label value is a new time series for ever.
    pub fn request(&self, route: &str, method: &str, status: u16, took: Duration) {
        let route = RouteLabels::new(route, method);
        self.request_seconds.get_or_create(&route).observe(took.as_secs_f64());
        self.requests.get_or_create(&RequestLabels::new(route, status)).inc();
    }

    /// One commit of the store's writer.
    pub fn commit(&self, writes: usize, took: Duration) {
        self.store_writes.inc_by(u64::try_from(writes).unwrap_or(u64::MAX));
        self.commit_seconds.observe(took.as_secs_f64());
    }

    /// The configuration was reloaded, or could not be.
    pub fn reloaded(&self, ok: bool, now: Timestamp) {
        self.reload_ok.set(i64::from(ok));
        if ok {
            self.reload_ok_at.set(now.unix_seconds());
        }
    }

    /// What [`Metrics::render`] shows from now on besides what was counted. Whoever answers a
    /// scrape posts a fresh one first.
    pub fn show(&self, snapshot: Snapshot) {
        *self.lock() = snapshot;
    }

    /// Everything, in the `OpenMetrics` text format.
    #[must_use]
    pub fn render(&self) -> String {
        let gauges = self.lock().registries();
        let mut text = String::new();
        for registry in std::iter::once(&self.registry).chain(&gauges) {
            encode_registry(&mut text, registry).expect("a string takes every write");
        }
        encode_eof(&mut text).expect("a string takes every write");
        text
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Snapshot> {
        self.snapshot.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
