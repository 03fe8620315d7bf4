//! What a person is told, and how often, across restarts; in virtual time, with the real store.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use outcomed::clock::{Clock, Steady, Timestamp};
use outcomed::config::{Client, Config, Role, SigningSecret};
use outcomed::delivery::alert::incident::Sight;
use outcomed::delivery::alert::{Alerts, Closed, GONE, run};
use outcomed::delivery::health::{OriginState, OriginStatus, desk};
use outcomed::delivery::send::{Courier, Parcel, Reply};
use outcomed::outcome::{Ids, Outcome};
use outcomed::store::sqlite::Sqlite;
use outcomed::store::{Ending, Lanes, NewRegistration, Progress, Registry};
use outcomed::task::{Kind, LaneName, TaskRef};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const ORIGIN: &str = "https://ats.example:443";

/// What is so, and what was sent.
struct World {
    started: Instant,
    origins: Mutex<Vec<OriginStatus>>,
    accounts: Mutex<BTreeMap<String, Sight>>,
    status: Mutex<u16>,
    /// Whether this daemon tells, of all.
    leads: AtomicBool,
    sent: Mutex<Vec<(String, Parcel, Value)>>,
}

impl Clock for World {
    fn wall(&self) -> Timestamp {
        Timestamp(1_795_341_600_000 + self.steady().0)
    }

    fn steady(&self) -> Steady {
        Steady(i64::try_from(self.started.elapsed().as_millis()).unwrap())
    }
}

#[async_trait]
impl Courier for World {
    async fn send(&self, parcel: Parcel) -> Reply {
        let event = serde_json::from_slice(&parcel.body).unwrap();
        let host = parcel.url.host_str().unwrap().to_owned();
        self.sent.lock().unwrap().push((host, parcel, event));
        Reply { status: Some(*self.status.lock().unwrap()), ..Reply::default() }
    }
}

impl World {
    fn origin(&self, state: OriginState) {
        let status = OriginStatus {
            origin: ORIGIN.into(),
            client: "crm".into(),
            refused_at: None,
            state,
            held_since: (state == OriginState::Held).then(|| self.wall()),
            next_probe_at: None,
            under_way: 0,
            room: 1,
            failures_in_a_row: u32::from(state == OriginState::Held) * 5,
        };
        *self.origins.lock().unwrap() = vec![status];
    }

    /// Who was sent what, since the last time this was asked.
    fn told(&self) -> Vec<(String, String)> {
        let sent = std::mem::take(&mut *self.sent.lock().unwrap());
        let word = |event: &Value| event["type"].as_str().unwrap().to_owned();
        sent.iter().map(|(host, _, event)| (host.clone(), word(event))).collect()
    }
}

fn told(hosts: &[&str], word: &str) -> Vec<(String, String)> {
    hosts.iter().map(|host| ((*host).to_owned(), word.to_owned())).collect()
}

fn client(name: &str, role: Role) -> Client {
    Client {
        name: name.to_owned(),
        role,
        token_sha256: [0; 32],
        signing_secrets: vec![SigningSecret::new(vec![7; 32])],
        signing_keys: Vec::new(),
        callback_allow: crate::courier::allow(&["10.0.0.0/8"]),
        tls_identity: None,
        alert_url: Some(format!("https://{name}.alerts.example/").parse().unwrap()),
    }
}

struct Daemon {
    world: Arc<World>,
    store: Arc<Sqlite>,
    closed: mpsc::Sender<Closed>,
    shutdown: CancellationToken,
    /// Keeps the store's file.
    directory: Arc<tempfile::TempDir>,
}

impl Daemon {
    async fn new() -> Self {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let store = Arc::new(Sqlite::open_simulated(&directory.path().join("a.db")).unwrap());
        let world = World {
            started: Instant::now(),
            origins: Mutex::default(),
            accounts: Mutex::default(),
            status: Mutex::new(204),
            leads: AtomicBool::new(true),
            sent: Mutex::default(),
        };
        // `ats` waits for the account; nobody else but the operator is concerned by it.
        let new = NewRegistration {
            id: "reg_1".into(),
            client: "ats".into(),
            task: TaskRef {
                kind: Kind::default(),
                account: "default".into(),
                website_id: "1".into(),
                delivery_task_id: "2".into(),
            },
            callback_url: "https://ats.example/hook".into(),
            callback_origin: ORIGIN.into(),
            callback_host: "ats.example".into(),
            metadata: "{}".into(),
            created_at: Timestamp(1),
            give_up_at: Timestamp(2),
        };
        store.register(vec![new]).await.unwrap();
        Self::start(Arc::new(world), store, directory)
    }

    fn start(world: Arc<World>, store: Arc<Sqlite>, directory: Arc<tempfile::TempDir>) -> Self {
        let (health, mut questions) = desk();
        let answering = Arc::clone(&world);
        tokio::spawn(async move {
            while let Some(question) = questions.recv().await {
                let _ = question.send(answering.origins.lock().unwrap().clone());
            }
        });
        let clients = vec![
            client("ats", Role::Client),
            client("crm", Role::Client),
            client("ops", Role::Operator),
        ];
        let config = Arc::new(Config { clients, ..Config::default() });
        let (closed, told) = mpsc::channel(8);
        let (accounts, leading) = (Arc::clone(&world), Arc::clone(&world));
        let alerts = Alerts {
            store: store.clone(),
            health,
            accounts: Arc::new(move || accounts.accounts.lock().unwrap().clone()),
            leads: Arc::new(move || leading.leads.load(Ordering::SeqCst)),
            closed: told,
            config: watch::channel(config).1,
            clock: world.clone(),
            courier: world.clone(),
        };
        let shutdown = CancellationToken::new();
        tokio::spawn(run(alerts, shutdown.clone()));
        Self { world, store, closed, shutdown, directory }
    }

    /// The loop ends, and another begins on the same store; nobody knows yet how anything is.
    async fn restart(self) -> Self {
        self.shutdown.cancel();
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.world.origins.lock().unwrap().clear();
        self.world.accounts.lock().unwrap().clear();
        Self::start(self.world, self.store, self.directory)
    }

    async fn minutes(&self, minutes: u64) -> Vec<(String, String)> {
        tokio::time::sleep(Duration::from_secs(60 * minutes)).await;
        self.world.told()
    }
}

#[tokio::test(start_paused = true)]
async fn a_suspended_account_is_told_once_to_those_who_wait_for_it_and_once_when_it_is_back() {
    let daemon = Daemon::new().await;
    let since = daemon.world.wall();
    let ill = || Sight::Ill { since, reason: "missing_scope".into() };
    let set = |daemon: &Daemon, sight| {
        daemon.world.accounts.lock().unwrap().insert("default".into(), sight);
    };
    set(&daemon, ill());
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(daemon.world.told(), []);
    assert_eq!(
        daemon.minutes(60).await,
        told(&["ats.alerts.example", "ops.alerts.example"], "account.suspended")
    );
    let daemon = daemon.restart().await;
    assert_eq!(daemon.minutes(30).await, [], "not knowing is no news");
    set(&daemon, ill());
    assert_eq!(daemon.minutes(30).await, [], "it was told before the restart");
    set(&daemon, Sight::Well);
    assert_eq!(
        daemon.minutes(30).await,
        told(&["ats.alerts.example", "ops.alerts.example"], "account.recovered")
    );
    set(&daemon, Sight::Ill { since: daemon.world.wall(), reason: "missing_scope".into() });
    assert_eq!(daemon.minutes(5).await.len(), 2, "another incident");
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_flaps_is_one_incident_and_the_event_is_signed_and_says_what() {
    let daemon = Daemon::new().await;
    daemon.world.origin(OriginState::Held);
    assert_eq!(daemon.minutes(9).await, []);
    tokio::time::sleep(Duration::from_secs(120)).await;
    let (host, parcel, event) = daemon.world.sent.lock().unwrap().remove(0);
    assert_eq!(host, "ops.alerts.example", "nothing of ats waits there");
    assert_eq!(
        (&event["type"], &event["data"]["origin"]),
        (&"delivery.disabled".into(), &ORIGIN.into())
    );
    assert_eq!(event["data"]["reason"], "unreachable");
    assert!(parcel.headers.id.starts_with("msg_") && parcel.headers.signature.starts_with("v1,"));
    assert_eq!(parcel.allow, crate::courier::allow(&["10.0.0.0/8"]), "judged as a callback is");
    for _ in 0..20 {
        daemon.world.origin(OriginState::Ok);
        tokio::time::sleep(Duration::from_secs(30)).await;
        daemon.world.origin(OriginState::Held);
        assert_eq!(daemon.minutes(2).await, []);
    }
    daemon.world.origin(OriginState::Ok);
    assert_eq!(daemon.minutes(5).await, told(&["ops.alerts.example"], "delivery.recovered"));
}

#[tokio::test(start_paused = true)]
async fn a_410_is_told_once_a_day_and_without_its_query() {
    let daemon = Daemon::new().await;
    for _ in 0..3 {
        let url = "https://ats.example/hook?key=secret".parse().unwrap();
        daemon.closed.send(Closed { client: "ats".into(), url, reason: GONE }).await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    let sent = daemon.world.sent.lock().unwrap().clone();
    assert_eq!(sent.len(), 1, "{sent:?}");
    let (host, _, event) = &sent[0];
    assert_eq!(host, "ats.alerts.example", "it is the client's own affair");
    assert_eq!(event["data"]["callback"], "https://ats.example/hook");
    assert_eq!(
        (&event["type"], &event["data"]["reason"]),
        (&"delivery.disabled".into(), &"gone".into())
    );
}

#[tokio::test(start_paused = true)]
async fn an_alert_that_is_refused_is_tried_five_times_with_one_id_and_given_up() {
    let daemon = Daemon::new().await;
    *daemon.world.status.lock().unwrap() = 500;
    let url = "https://ats.example/hook".parse().unwrap();
    daemon.closed.send(Closed { client: "ats".into(), url, reason: GONE }).await.unwrap();
    tokio::time::sleep(Duration::from_secs(12 * 3_600)).await;
    let sent = daemon.world.sent.lock().unwrap().clone();
    assert_eq!(sent.len(), 5);
    assert!(sent.iter().all(|(_, parcel, _)| parcel.headers.id == sent[0].1.headers.id));
    assert!(sent.iter().all(|(_, parcel, _)| parcel.body == sent[0].1.body));
}

#[tokio::test(start_paused = true)]
async fn an_incident_is_told_by_the_daemon_that_leads_and_by_no_other() {
    let daemon = Daemon::new().await;
    daemon.world.leads.store(false, Ordering::SeqCst);
    let ill = Sight::Ill { since: daemon.world.wall(), reason: "missing_scope".into() };
    daemon.world.accounts.lock().unwrap().insert("default".into(), ill);
    assert_eq!(daemon.minutes(30).await, []);
    daemon.world.leads.store(true, Ordering::SeqCst);
    assert_eq!(daemon.minutes(5).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_callbacks_are_accepted_is_not_told_that_anothers_are_not() {
    let daemon = Daemon::new().await;
    let lane = LaneName { account: "default".into(), kind: Kind::default() };
    let lease = daemon.store.take(&lane, Timestamp(1)).await.unwrap().lease;
    let task = daemon.store.changes(&lease, 0, 9).await.unwrap()[0].task;
    let ending = Ending { task, at: Timestamp(1), progress: Progress::default(), log_id: None };
    daemon.store.settle(&lease, ending, Outcome::succeeded(Ids::default())).await.unwrap();
    daemon.world.origin(OriginState::Held);
    assert_eq!(daemon.minutes(30).await, told(&["ops.alerts.example"], "delivery.disabled"));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_could_tell_for_a_day_is_told_all_the_same() {
    let daemon = Daemon::new().await;
    daemon.world.leads.store(false, Ordering::SeqCst);
    let url = "https://ats.example/hook".parse().unwrap();
    daemon.closed.send(Closed { client: "ats".into(), url, reason: GONE }).await.unwrap();
    assert_eq!(daemon.minutes(25 * 60).await, []);
    daemon.world.leads.store(true, Ordering::SeqCst);
    assert_eq!(daemon.minutes(5).await, told(&["ats.alerts.example"], "delivery.disabled"));
}
