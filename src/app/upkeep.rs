//! What goes on beside the data's way: forgetting, the status line, the scrape's gauges, the
//! watchdog.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::api::Door;
use crate::clock::Clock;
use crate::config::Config;
use crate::delivery::health::{Health, OriginState, OriginStatus, by_origin};
use crate::observability::process::Process;
use crate::observability::{Lines, Metrics, Snapshot};
use crate::polling::board::Board;
use crate::service::watchdog::keep_probing;
use crate::service::{Notifier, Watchdog, notify, status};
use crate::store::{self, Old, Store, StoreError};

/// How often the status line and the gauges are renewed.
const SHOW_EVERY: Duration = Duration::from_secs(5);
/// How often what is old is looked for.
const PRUNE_EVERY: Duration = Duration::from_secs(600);
/// Rows forgotten in one commit: few enough that no other write waits noticeably.
const PRUNE_STEP: u32 = 200;
/// The pause between two such commits.
const PRUNE_PAUSE: Duration = Duration::from_millis(100);
/// How long it is believed that a callback URL is gone: the next outcome asks again.
const GONE_KEPT: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// A lane comes round every 15 s at the latest, the store is probed every 2 s.
const LANE_SILENT_MAX: Duration = Duration::from_secs(60);
const STORE_SILENT_MAX: Duration = Duration::from_secs(60);
/// Both are asked every 2 s, and answer within milliseconds.
const DELIVERY_SILENT_MAX: Duration = Duration::from_secs(60);
const API_SILENT_MAX: Duration = Duration::from_secs(60);

/// What upkeep works with.
pub(super) struct Upkeep {
    pub(super) store: Arc<dyn Store>,
    pub(super) board: Arc<Board>,
    pub(super) health: Health,
    pub(super) config: watch::Receiver<Arc<Config>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) lines: Arc<Lines>,
    pub(super) notifier: Notifier,
    /// Where the API can be asked.
    pub(super) doors: Vec<Door>,
    pub(super) shutdown: CancellationToken,
}

impl Upkeep {
    /// Until shutdown.
    pub(super) async fn run(self) {
        let shutdown = self.shutdown.clone();
        let watchdog = self.watchdog();
        let work = async { tokio::join!(self.show(), self.prune(), watchdog) };
        tokio::select! {
            () = shutdown.cancelled() => {}
            _ = work => {}
        }
    }

    async fn show(&self) {
        let mut counts = Vec::new();
        loop {
            // A store that is away has not lost its registrations.
            counts = self.store.counts().await.unwrap_or(counts);
            let lanes = self.board.read_known();
            let (standing, now) = (self.board.standing(), self.clock.steady());
            self.notifier.status(&status::status_line(&lanes, &counts, &standing, now));
            let process = Process::read();
            let origins = by_state(&by_origin(self.health.origins().await));
            let counts = counts.clone();
            self.metrics.show(Snapshot { lanes, counts, origins, process, now });
            for (kind, lines) in self.lines.suppressed() {
                tracing::warn!(
                    kind,
                    lines,
                    "that many more log lines of this kind were suppressed"
                );
            }
            tokio::time::sleep(SHOW_EVERY).await;
        }
    }

    async fn prune(&self) {
        loop {
            tokio::time::sleep(PRUNE_EVERY).await;
            let kept = self.config.borrow().retention.clone();
            let now = self.clock.wall();
            let store = &self.store;
            let attempts = now.before(kept.attempts);
            in_steps(|| store.forget(Old::Attempts, attempts, PRUNE_STEP)).await;
            in_steps(|| store.prune(now.before(kept.delivered), PRUNE_STEP)).await;
            let undeliverable = now.before(kept.undeliverable);
            in_steps(|| store.forget(Old::Undeliverable, undeliverable, PRUNE_STEP)).await;
            let redeliveries = now.before(kept.delivered);
            in_steps(|| store.forget(Old::Redeliveries, redeliveries, PRUNE_STEP)).await;
            let gone = now.before(GONE_KEPT);
            in_steps(|| store.forget(Old::GoneCallbacks, gone, PRUNE_STEP)).await;
            in_steps(|| store.forget(Old::Rewatches, redeliveries, PRUNE_STEP)).await;
        }
    }

    /// Tells systemd that all is well only while the lanes come round and the store, the delivery
    /// loop and each of the API's listeners answer.
    async fn watchdog(&self) {
        if let Some(period) = notify::watchdog_period() {
            self.watch(period).await;
        }
    }

    async fn watch(&self, period: Duration) {
        let mut watchdog = Watchdog::default();
        let now = self.clock.steady();
        let store_beat = watchdog.heartbeat("store", STORE_SILENT_MAX, now);
        let board = Arc::clone(&self.board);
        watchdog.watch("lanes", LANE_SILENT_MAX, move || board.slowest());
        let probe = || {
            let (store, now) = (Arc::clone(&self.store), self.clock.wall());
            async move {
                if !lives(&store.ping(now).await) {
                    std::future::pending::<()>().await;
                }
            }
        };
        let probing =
            keep_probing(store_beat, Arc::clone(&self.clock), self.shutdown.clone(), probe);
        let delivery_beat = watchdog.heartbeat("delivery", DELIVERY_SILENT_MAX, now);
        let (clock, end) = (Arc::clone(&self.clock), self.shutdown.clone());
        let delivery = keep_probing(delivery_beat, clock, end, || self.health.answered());
        let doors = self.doors.iter().map(|door| {
            let beat = watchdog.heartbeat("api", API_SILENT_MAX, now);
            let clock = Arc::clone(&self.clock);
            keep_probing(beat, clock, self.shutdown.clone(), || door.answered())
        });
        let doors = join_all(doors.collect::<Vec<_>>());
        let pinging = watchdog.run(
            self.notifier.clone(),
            Arc::clone(&self.clock),
            period,
            self.shutdown.clone(),
        );
        tokio::join!(probing, delivery, doors, pinging);
    }
}

/// Whether a store that answered so lives. One that refuses a write (a full disk, a busy file, a
/// database that is away) does: a restart would not help it, and it is the store's to report. One
/// that has stopped is helped by a restart only.
fn lives(pinged: &store::Result<()>) -> bool {
    !matches!(pinged, Err(StoreError::Stopped(_)))
}

fn by_state(origins: &[OriginStatus]) -> Vec<(&'static str, u64)> {
    let count = |state: OriginState| origins.iter().filter(|it| it.state == state).count() as u64;
    OriginState::ALL.map(|state| (state.name(), count(state))).to_vec()
}

/// Forgets step by step until there is nothing old left.
async fn in_steps<F: Future<Output = store::Result<u32>>>(mut forget: impl FnMut() -> F) {
    loop {
        match forget().await {
            Ok(PRUNE_STEP..) => tokio::time::sleep(PRUNE_PAUSE).await,
            Ok(_) => return,
            Err(error) => {
                return tracing::warn!(%error, "what is old cannot be forgotten now");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;
    use crate::clock::{Steady, Timestamp};
    use crate::config::{QuotaLimits, Retention};
    use crate::delivery::health::desk;
    use crate::outcome::{Ids, Outcome};
    use crate::polling::board::LaneStatus;
    use crate::store::sqlite::Sqlite;
    use crate::store::{
        Attempt, AttemptDetails, Destination, Ending, NewRegistration, Next, Progress,
        Registry as _,
    };
    use crate::task::{Kind, LaneName, TaskRef};

    #[test]
    fn a_store_that_has_stopped_is_silence_and_one_that_refuses_is_alive() {
        assert!(lives(&Ok(())));
        assert!(lives(&Err(StoreError::Unavailable("database or disk is full".into()))));
        assert!(lives(&Err(StoreError::Fault("a bug".into()))));
        assert!(!lives(&Err(StoreError::Stopped("its thread has ended"))));
    }

    /// Tokio's time, which a test passes at once.
    struct Passing(tokio::time::Instant);

    impl Clock for Passing {
        fn wall(&self) -> Timestamp {
            Timestamp(crate::clock::millis(self.0.elapsed()))
        }
        fn steady(&self) -> Steady {
            Steady(self.wall().0)
        }
    }

    /// Ends the task of that name at once, and its delivery with `next`; returns the row's id.
    async fn ended(store: &dyn Store, name: &str, next: Next) -> String {
        let task = TaskRef {
            kind: Kind::default(),
            account: "default".into(),
            website_id: "7".into(),
            delivery_task_id: name.into(),
        };
        let new = NewRegistration {
            id: format!("reg_{name}"),
            client: "ats".into(),
            task: task.clone(),
            callback_url: format!("https://a.example/{name}"),
            callback_origin: "https://a.example:443".into(),
            callback_host: "a.example".into(),
            metadata: "{}".into(),
            created_at: Timestamp(0),
            give_up_at: Timestamp(60_000),
        };
        store.register(vec![new]).await.unwrap();
        let (at, to) = (Timestamp(1), Destination::new("ats", "https://a.example:443"));
        let lease = store.take(&task.lane(), at).await.unwrap().lease;
        let task = store.changes(&lease, 0, 9).await.unwrap().pop().unwrap().task;
        let ending = Ending { task, at, progress: Progress::default(), log_id: None };
        store.settle(&lease, ending, Outcome::succeeded(Ids::default())).await.unwrap();
        let due = store.due(&to, at, 9).await.unwrap().remove(0);
        let attempt = Attempt {
            number: 1,
            at,
            duration: Duration::ZERO,
            status: None,
            error: None,
            reply_excerpt: None,
            verdict: "x".into(),
            details: AttemptDetails::default(),
        };
        store.record_attempt(&due, attempt, next).await.unwrap();
        due.registration_id
    }

    fn upkeep(store: Arc<Sqlite>, health: Health, config: Config, notifier: Notifier) -> Upkeep {
        Upkeep {
            store,
            board: Arc::default(),
            health,
            config: watch::channel(Arc::new(config)).1,
            clock: Arc::new(Passing(tokio::time::Instant::now())),
            metrics: Arc::default(),
            lines: Arc::default(),
            notifier,
            doors: Vec::new(),
            shutdown: CancellationToken::new(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_service_manager_hears_nothing_while_a_lane_or_delivery_hangs() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Sqlite::open_simulated(&directory.path().join("a.db")).unwrap());
        let manager = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        manager.set_nonblocking(true).unwrap();
        let pings = || std::iter::from_fn(|| manager.recv(&mut [0; 64]).ok()).count();
        let (health, mut questions) = desk();
        let notifier = Notifier::to(directory.path().join("notify"));
        let upkeep = upkeep(store, health, Config::default(), notifier);
        let lane = LaneName { account: "default".into(), kind: Kind::default() };
        let at_work = |alive_at| LaneStatus {
            suspended: None,
            failing: None,
            answered: None,
            watched: 1,
            polls_last_second: 0,
            polls_last_minute: 0,
            quota: QuotaLimits::default(),
            figures: None,
            alive_at,
        };
        // Which part gets on, in each stretch of three minutes.
        for (lanes, delivery) in [(true, true), (false, true), (true, true), (true, false)] {
            let mut watching = Box::pin(upkeep.watch(Duration::from_secs(20)));
            upkeep.board.post(&lane, at_work(upkeep.clock.steady()));
            for second in 0..180 {
                if lanes {
                    upkeep.board.post(&lane, at_work(upkeep.clock.steady()));
                }
                if second == 90 {
                    pings();
                }
                let serving = async {
                    while let Some(question) = questions.recv().await {
                        if delivery || second < 20 {
                            let _ = question.send(Vec::new());
                        } else {
                            std::mem::forget(question);
                        }
                    }
                };
                let second = tokio::time::sleep(Duration::from_secs(1));
                tokio::select! {
                    () = second => {}
                    () = serving => {}
                    () = &mut watching => {}
                }
            }
            assert_eq!(pings() > 0, lanes && delivery, "lanes {lanes}, delivery {delivery}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn everything_is_kept_for_as_long_as_is_configured_for_it() {
        const DAY: Duration = Duration::from_secs(86_400);
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Sqlite::open_simulated(&directory.path().join("a.db")).unwrap());
        let retention = Retention { delivered: 2 * DAY, undeliverable: 6 * DAY, attempts: DAY };
        let config = Config { retention, ..Config::default() };
        let delivered = ended(&*store, "told", Next::Delivered).await;
        let undeliverable = ended(&*store, "lost", Next::Undeliverable).await;
        let upkeep = upkeep(store.clone(), desk().0, config, Notifier::default());
        let kept = async || {
            let mut kept = [0; 3];
            for (number, id) in [&delivered, &undeliverable].into_iter().enumerate() {
                kept[number] = usize::from(store.find(id).await.unwrap().is_some());
                kept[2] += store.attempts(id).await.unwrap().len();
            }
            kept
        };
        let pruning = upkeep.prune();
        tokio::pin!(pruning);
        let _ = tokio::time::timeout(DAY / 2, &mut pruning).await;
        assert_eq!(kept().await, [1, 1, 2]);
        let _ = tokio::time::timeout(DAY, &mut pruning).await;
        assert_eq!(kept().await, [1, 1, 0], "attempts go first");
        let _ = tokio::time::timeout(3 * DAY, &mut pruning).await;
        assert_eq!(kept().await, [0, 1, 0]);
        let _ = tokio::time::timeout(3 * DAY, &mut pruning).await;
        assert_eq!(kept().await, [0, 0, 0]);
    }
}
