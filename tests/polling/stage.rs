//! One daemon's polling: a clock that can be paused and set, an upstream that notes when it is
//! reached, a fleet whose answers take their time, and a real store whose writes can be refused.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use outcomed::clock::{Clock, Steady, Timestamp};
use outcomed::config::{Polling, QuotaLimits};
use outcomed::observability::Metrics;
use outcomed::outcome::{Ids, Outcome};
use outcomed::polling::board::Board;
use outcomed::polling::{self, Context, Follower, Upstream, Upstreams};
use outcomed::source::{AccountProblem, Observation, PollError, Polled, Source};
use outcomed::store::fleet::{Alone, Claimed, Fleet, Holding, Member, Present, Roster};
use outcomed::store::sqlite::Sqlite;
use outcomed::store::{Lease, NewRegistration, Registry, Result};
use outcomed::task::{Kind, LaneName, State, TaskRef};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Some moment of 2026.
const EPOCH: i64 = 1_780_000_000_000;

/// Everything around the daemon. Time is tokio's, paused: [`tokio::time::advance`] is a process
/// that was stopped, whose timers are all over when it wakes.
pub struct Stage {
    started: Instant,
    /// How far the wall clock was set.
    pub wall_ahead: AtomicI64,
    /// How long the machine was suspended: both clocks count that, timers do not.
    pub suspended: AtomicI64,
    /// How long an upstream's connection takes, in milliseconds.
    pub connects_in: AtomicU64,
    /// Polls that began to connect.
    pub begun: AtomicU64,
    /// When a poll reached the upstream, and for which task.
    reached: Mutex<Vec<(i64, String)>>,
    /// Whether the upstream says that tasks succeeded.
    pub settles: AtomicBool,
    /// How long a beat, or a claim, takes to be answered, in milliseconds.
    pub beats_in: AtomicU64,
    pub claims_in: AtomicU64,
    /// Whether the fleet hears nothing any more.
    pub deaf: AtomicBool,
    /// Whether it hears, and its answers do not arrive.
    pub mute: AtomicBool,
    /// When the last beat was heard, and leases to be called lost by the next one.
    pub beaten_at: AtomicI64,
    pub lost: Mutex<Vec<Lease>>,
    /// What was claimed, followed and released, in order.
    pub followed: Mutex<Vec<String>>,
    /// Whether the account gets a token.
    pub refused: AtomicBool,
    /// When the last beat or claim that was answered was sent.
    asked: AtomicI64,
    /// How long leases last.
    lasts: Duration,
    pub store: Arc<Sqlite>,
    fleet: Alone,
    directory: TempDir,
}

impl Stage {
    /// Leases that last so long; `Duration::MAX`: for ever.
    pub fn new(lasts: Duration) -> Arc<Self> {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Sqlite::open_simulated(&directory.path().join("a.db")).unwrap());
        Arc::new(Self {
            started: Instant::now(),
            wall_ahead: AtomicI64::new(0),
            suspended: AtomicI64::new(0),
            connects_in: AtomicU64::new(10),
            begun: AtomicU64::new(0),
            reached: Mutex::default(),
            settles: AtomicBool::new(false),
            beats_in: AtomicU64::new(0),
            claims_in: AtomicU64::new(0),
            deaf: AtomicBool::new(false),
            mute: AtomicBool::new(false),
            beaten_at: AtomicI64::new(0),
            lost: Mutex::default(),
            followed: Mutex::default(),
            refused: AtomicBool::new(false),
            asked: AtomicI64::new(0),
            lasts,
            fleet: Alone::new(store.clone()),
            store,
            directory,
        })
    }

    pub fn now(&self) -> i64 {
        let awake = i64::try_from(self.started.elapsed().as_millis()).unwrap();
        awake + self.suspended.load(Ordering::SeqCst)
    }

    /// What the fleet and delivery were told of lanes.
    pub fn followed(&self) -> Vec<String> {
        self.followed.lock().unwrap().clone()
    }

    fn note(&self, what: &str, lane: i64) {
        self.followed.lock().unwrap().push(format!("{what} {lane}"));
    }

    /// A client registers these tasks.
    pub async fn register(&self, tasks: std::ops::Range<usize>) {
        self.register_for("default", tasks).await;
    }

    pub async fn register_for(&self, account: &str, tasks: std::ops::Range<usize>) {
        let new = |number| NewRegistration {
            id: format!("reg_{number:05}"),
            client: "ats".into(),
            task: TaskRef {
                kind: Kind::default(),
                account: account.into(),
                website_id: "7".into(),
                delivery_task_id: format!("t{number}"),
            },
            callback_url: "https://ats.example/hook".into(),
            callback_origin: "https://ats.example:443".into(),
            callback_host: "ats.example".into(),
            metadata: "{}".into(),
            created_at: self.wall(),
            give_up_at: self.wall().after(Duration::from_secs(3_600)),
        };
        self.store.register(tasks.map(new).collect()).await.unwrap();
    }

    pub async fn state(&self, task: usize) -> State {
        self.store.find(&format!("reg_{task:05}")).await.unwrap().unwrap().state
    }

    /// When polls reached the upstream.
    pub fn reached(&self) -> Vec<i64> {
        self.reached.lock().unwrap().iter().map(|(at, _)| *at).collect()
    }

    /// Polls that reached the upstream for this task.
    pub fn polls_of(&self, task: usize) -> usize {
        let name = format!("t{task}");
        self.reached.lock().unwrap().iter().filter(|(_, polled)| *polled == name).count()
    }

    /// Until when a lease may be used that was renewed by the last answer, counted as it must be:
    /// from the question.
    pub fn lease_ends(&self) -> i64 {
        self.asked.load(Ordering::SeqCst) + i64::try_from(self.lasts.as_millis()).unwrap()
    }

    /// The database refuses this, as a full disk would, until [`Stage::mend`].
    pub fn refuse(&self, what: &str) {
        self.sql(&format!(
            "CREATE TRIGGER refused BEFORE {what} BEGIN SELECT RAISE(ABORT, 'disk full'); END"
        ));
    }

    pub fn mend(&self) {
        self.sql("DROP TRIGGER refused");
    }

    /// What the lane has written of itself.
    pub fn lane(&self) -> String {
        let db = rusqlite::Connection::open(self.directory.path().join("a.db")).unwrap();
        db.query_row("SELECT reservations FROM lane", [], |row| row.get(0)).unwrap()
    }

    fn sql(&self, sql: &str) {
        let db = rusqlite::Connection::open(self.directory.path().join("a.db")).unwrap();
        db.execute_batch(sql).unwrap();
    }

    /// Starts a daemon's polling.
    pub async fn start(self: &Arc<Self>, quota: QuotaLimits) -> Running {
        let upstream = Upstream { source: self.clone(), quota };
        let both = ["default", "other"].map(|account| (account.to_owned(), upstream.clone()));
        self.start_with(watch::channel(Arc::new(both.into())).1).await
    }

    /// The same, with these accounts.
    pub async fn start_with(
        self: &Arc<Self>,
        upstreams: watch::Receiver<Arc<Upstreams>>,
    ) -> Running {
        let (board, shutdown) = (Arc::new(Board::default()), CancellationToken::new());
        let context = Context {
            store: self.store.clone(),
            fleet: self.clone(),
            member: self.fleet.join("here", self.wall()).await.unwrap(),
            follower: self.clone(),
            upstreams,
            settings: Polling {
                give_up_after: Duration::from_secs(3_600),
                not_found_grace: Duration::from_secs(30),
                poll_worth: Duration::from_millis(10),
            },
            clock: self.clone(),
            board: board.clone(),
            metrics: Arc::new(Metrics::default()),
            shutdown: shutdown.clone(),
        };
        Running { task: tokio::spawn(polling::run(context)), board, shutdown }
    }
}

/// A daemon at work.
pub struct Running {
    task: JoinHandle<()>,
    pub board: Arc<Board>,
    shutdown: CancellationToken,
}

impl Running {
    /// Tasks that its lanes watch.
    pub fn watched(&self) -> u64 {
        self.board.read().iter().map(|(_, lane)| lane.watched).sum()
    }

    /// SIGTERM.
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

impl Clock for Stage {
    fn wall(&self) -> Timestamp {
        Timestamp(EPOCH + self.now() + self.wall_ahead.load(Ordering::SeqCst))
    }

    fn steady(&self) -> Steady {
        Steady(self.now())
    }
}

#[async_trait]
impl Source for Stage {
    async fn prepare(&self) -> std::result::Result<(), PollError> {
        if self.refused.load(Ordering::SeqCst) {
            let message = "check the app_secret".to_owned();
            return Err(PollError::Account(AccountProblem { reason: "bad_secret", message }));
        }
        Ok(())
    }

    async fn observe(&self, _website: &str, task: &str) -> std::result::Result<Polled, PollError> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(self.connects_in.load(Ordering::SeqCst))).await;
        self.reached.lock().unwrap().push((self.now(), task.to_owned()));
        let settled = self.settles.load(Ordering::SeqCst);
        let observation = if settled {
            Observation::Settled(Outcome::succeeded(Ids::default()))
        } else {
            Observation::Pending { unknown_status: None }
        };
        Ok(Polled { observation, log_id: None })
    }
}

impl Follower for Stage {
    fn claimed(&self, lane: i64) {
        self.note("claimed", lane);
    }

    fn given_up(&self, lane: i64) -> BoxFuture<'static, ()> {
        self.note("given up", lane);
        Box::pin(std::future::ready(()))
    }
}

impl Stage {
    /// What a question to the fleet goes through. One that nobody hears is never answered.
    async fn heard(&self, answered_in: &AtomicU64) -> i64 {
        let asked = self.now();
        if self.deaf.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_millis(answered_in.load(Ordering::SeqCst))).await;
        asked
    }
}

#[async_trait]
impl Fleet for Stage {
    async fn join(&self, name: &str, now: Timestamp) -> Result<Member> {
        self.fleet.join(name, now).await
    }
    async fn beat(&self, member: &Member, held: &[Lease]) -> Result<Roster> {
        let asked = self.heard(&self.beats_in).await;
        let roster = self.fleet.beat(member, held).await?;
        self.beaten_at.store(self.now(), Ordering::SeqCst);
        if self.mute.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.asked.fetch_max(asked, Ordering::SeqCst);
        let lost = std::mem::take(&mut *self.lost.lock().unwrap());
        Ok(Roster { lasts: self.lasts, lost, ..roster })
    }
    async fn claim(&self, member: &Member, lane: &LaneName) -> Result<Option<Claimed>> {
        let asked = self.heard(&self.claims_in).await;
        let claimed = self.fleet.claim(member, lane).await?;
        self.asked.fetch_max(asked, Ordering::SeqCst);
        Ok(claimed.map(|claimed| Claimed { lasts: self.lasts, ..claimed }))
    }
    async fn release(&self, lease: &Lease) -> Result<()> {
        self.note("released", lease.lane);
        self.fleet.release(lease).await
    }
    async fn leave(&self, member: &Member) -> Result<()> {
        self.fleet.leave(member).await
    }
    async fn holdings(&self, now: Timestamp) -> Result<Vec<Holding>> {
        self.fleet.holdings(now).await
    }
    async fn members(&self) -> Result<Vec<Present>> {
        self.heard(&self.beats_in).await;
        if self.mute.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.fleet.members().await
    }
    async fn report(&self, member: &Member, report: &str) -> Result<()> {
        self.fleet.report(member, report).await
    }
    fn moves(&self) -> watch::Receiver<u64> {
        self.fleet.moves()
    }
}
