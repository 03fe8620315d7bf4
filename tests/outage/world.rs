//! A clock that only the story moves, receivers that do what it says, and the daemon's own
//! delivery loop between them and its own store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use outcomed::clock::{Clock, Steady, Timestamp};
use outcomed::config::{Client, Config, Role, SigningSecret};
use outcomed::delivery::send::{Class, Courier, Parcel, Reply};
use outcomed::delivery::{self, Parts, health};
use outcomed::observability::Metrics;
use outcomed::outcome::{Ids, Outcome};
use outcomed::store::sqlite::Sqlite;
use outcomed::store::{Ending, Lanes, NewRegistration, Progress, Registry, Store};
use outcomed::task::{Kind, LaneName, State, TaskRef};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

/// 2026-11-22T10:00:00Z
const EPOCH: i64 = 1_795_341_600_000;

/// One settling is one commit: as many as the store swallows at once without thinking.
const CALLBACKS_OF_A_TASK: usize = 100;

/// What a receiver does with one request.
pub enum Act {
    /// Answers with this status, and perhaps `Retry-After`, at once.
    Status(u16, Option<&'static str>),
    /// Accepts after so many milliseconds.
    Takes(i64),
    /// Accepts, but the reply is lost.
    LoseReply,
    /// No connection.
    Refuse,
    /// No answer within the deadline.
    Hang,
}

type Script = Box<dyn Fn(&Url, i64, u32) -> Act + Send + Sync>;

/// The receivers, and what reached them.
pub struct World {
    script: Script,
    started: Instant,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    requests: usize,
    under_way: BTreeMap<String, usize>,
    most_at_once: usize,
    /// Requests whose signature was of another second.
    stale: usize,
    /// Attempts after which the receiver was reached, by URL.
    reached: BTreeMap<String, u32>,
    accepted: BTreeMap<String, Vec<i64>>,
    lost: BTreeSet<String>,
}

impl World {
    /// Receivers that act by URL, time since the start, and how often the URL was reached.
    pub fn new(script: impl Fn(&Url, i64, u32) -> Act + Send + Sync + 'static) -> Arc<Self> {
        let seen = Mutex::default();
        Arc::new(Self { script: Box::new(script), started: Instant::now(), seen })
    }

    /// Milliseconds since the start.
    pub fn now(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    pub fn requests(&self) -> usize {
        self.seen().requests
    }

    pub fn stale(&self) -> usize {
        self.seen().stale
    }

    pub fn most_at_once(&self) -> usize {
        self.seen().most_at_once
    }

    pub fn accepted(&self) -> BTreeMap<String, Vec<i64>> {
        self.seen().accepted.clone()
    }

    pub fn accepted_at(&self, url: &str) -> Option<i64> {
        self.seen().accepted.get(url).map(|times| times[0])
    }

    pub fn was_lost(&self, url: &str) -> bool {
        self.seen().lost.contains(url)
    }

    fn begin(&self, url: &Url) -> Act {
        let now = self.now();
        let mut seen = self.seen();
        seen.requests += 1;
        let at_once = seen.under_way.entry(url.host_str().unwrap().to_owned()).or_default();
        *at_once += 1;
        let at_once = *at_once;
        seen.most_at_once = seen.most_at_once.max(at_once);
        let reached = seen.reached.entry(url.to_string()).or_default();
        *reached += 1;
        let act = (self.script)(url, now, *reached);
        if matches!(act, Act::Refuse) {
            *reached -= 1;
        }
        act
    }

    fn accept(&self, url: &Url) {
        let now = self.now();
        self.seen().accepted.entry(url.to_string()).or_default().push(now);
    }
}

impl Clock for World {
    fn wall(&self) -> Timestamp {
        Timestamp(EPOCH + self.now())
    }

    fn steady(&self) -> Steady {
        Steady(self.now())
    }
}

#[async_trait]
impl Courier for World {
    async fn send(&self, parcel: Parcel) -> Reply {
        let act = self.begin(&parcel.url);
        let now = self.wall().unix_seconds().to_string();
        self.seen().stale += usize::from(parcel.headers.timestamp != now);
        let status = |status| Reply { status: Some(status), ..Reply::default() };
        let reply = match act {
            Act::Status(code, retry_after) => {
                Reply { retry_after: retry_after.map(str::to_owned), ..status(code) }
            }
            Act::Takes(milliseconds) => {
                self.accept(&parcel.url);
                tokio::time::sleep(Duration::from_millis(milliseconds.unsigned_abs())).await;
                status(200)
            }
            Act::LoseReply => {
                self.accept(&parcel.url);
                self.seen().lost.insert(parcel.url.to_string());
                Reply::broken(Class::Reset, "the reply was lost")
            }
            Act::Refuse => Reply::broken(Class::Connect, "connection refused"),
            Act::Hang => {
                tokio::time::sleep(parcel.timeout).await;
                Reply::broken(Class::Timeout, "no reply")
            }
        };
        *self.seen().under_way.get_mut(parcel.url.host_str().unwrap()).unwrap() -= 1;
        reply
    }
}

/// A running delivery loop; it stops when this is dropped.
pub struct Scene {
    world: Arc<World>,
    store: Arc<Sqlite>,
    shutdown: CancellationToken,
    /// Whether what is due is this daemon's.
    pub owned: Arc<AtomicBool>,
    registered: Mutex<usize>,
    version: Mutex<u64>,
    _directory: tempfile::TempDir,
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Scene {
    /// Starts the loop with the built-in settings and this jitter.
    pub fn start(world: &Arc<World>, jitter: f64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Sqlite::open_simulated(&directory.path().join("outage.db")).unwrap());
        let shutdown = CancellationToken::new();
        let owned = Arc::new(AtomicBool::new(true));
        let owns = Arc::clone(&owned);
        let parts = Parts {
            outbox: store.clone(),
            hints: store.hints(),
            config: watch::channel(Arc::new(config())).1,
            clock: world.clone(),
            metrics: Arc::new(Metrics::default()),
            courier: world.clone(),
            questions: health::desk().1,
            closed: tokio::sync::mpsc::channel(1).0,
            handover: delivery::handover::Handover::new(store.clone()),
            ours: Arc::new(move || owns.load(Ordering::SeqCst)),
            jitter: Arc::new(move || jitter),
        };
        tokio::spawn(delivery::run(parts, shutdown.clone(), Duration::ZERO));
        let (registered, version) = (Mutex::default(), Mutex::default());
        let world = world.clone();
        Self { world, store, shutdown, owned, registered, version, _directory: directory }
    }

    pub fn store(&self) -> &Sqlite {
        &self.store
    }

    /// Tasks that all these callbacks wait for end now. Returns the registrations' ids.
    pub async fn settled(&self, urls: &[String]) -> Vec<String> {
        let mut ids = Vec::new();
        for some in urls.chunks(CALLBACKS_OF_A_TASK) {
            ids.extend(self.settle_one(some).await);
        }
        ids
    }

    async fn settle_one(&self, urls: &[String]) -> Vec<String> {
        let now = self.world.wall();
        let first = {
            let mut registered = self.registered.lock().unwrap();
            *registered += urls.len();
            *registered - urls.len()
        };
        let new = |(number, url): (usize, &String)| {
            let host = Url::parse(url).unwrap().host_str().unwrap().to_owned();
            NewRegistration {
                id: format!("reg_{:07}", first + number),
                client: "ats".into(),
                task: task(first),
                callback_url: url.clone(),
                callback_origin: format!("https://{host}:443"),
                callback_host: host,
                metadata: "{}".into(),
                created_at: now,
                give_up_at: now.after(Duration::from_secs(60)),
            }
        };
        let all: Vec<NewRegistration> = urls.iter().enumerate().map(new).collect();
        let ids = all.iter().map(|new| new.id.clone()).collect();
        self.store.register(all).await.unwrap();
        let lease = self.store.take(&task(first).lane(), now).await.unwrap().lease;
        let seen = *self.version.lock().unwrap();
        let changes = self.store.changes(&lease, seen, 1_000).await.unwrap();
        let change = changes.iter().find(|change| change.watch.is_some()).unwrap();
        *self.version.lock().unwrap() = change.version;
        let progress = Progress::default();
        let ending = Ending { task: change.task, at: now, progress, log_id: None };
        self.store.settle(&lease, ending, Outcome::succeeded(Ids::default())).await.unwrap();
        ids
    }

    /// Waits until the counts of registrations by state are as `done` wants them.
    pub async fn until(&self, done: impl Fn(&[(State, u64)]) -> bool) {
        while !done(&self.store.counts().await.unwrap()) {
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
    }
}

fn task(number: usize) -> TaskRef {
    let lane = LaneName { account: "default".into(), kind: Kind::default() };
    TaskRef {
        kind: lane.kind,
        account: lane.account,
        website_id: "1".into(),
        delivery_task_id: format!("task-{number}"),
    }
}

fn config() -> Config {
    let client = Client {
        name: "ats".into(),
        role: Role::Client,
        token_sha256: [0; 32],
        signing_secrets: vec![SigningSecret::new(vec![7; 32])],
        signing_keys: Vec::new(),
        callback_allow: Vec::new(),
        tls_identity: None,
        alert_url: None,
    };
    Config { clients: vec![client], ..Config::default() }
}
