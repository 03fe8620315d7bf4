//! A store to test, and short ways to fill it.

use std::sync::Arc;

use outcomed::clock::{SystemClock, Timestamp};
use outcomed::outcome::{Ids, Outcome, Reason};
use outcomed::store::postgres::Postgres;
use outcomed::store::sqlite::Sqlite;
use outcomed::store::{Ending, Lease, NewRegistration, Progress, Registered, Store, TakenLane};
use outcomed::task::{Kind, LaneName, Registration, TaskId, TaskRef};

use crate::postgres_cluster::cluster;

/// A store, and what must outlive it.
pub struct Fixture {
    pub store: Arc<dyn Store>,
    _directory: Option<tempfile::TempDir>,
}

/// An empty `SQLite` store in a file of its own.
pub fn sqlite() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let store = Sqlite::open(
        &directory.path().join("test.db"),
        Arc::new(SystemClock::new()),
        Arc::new(|_, _| {}),
    )
    .unwrap();
    Fixture { store: Arc::new(store), _directory: Some(directory) }
}

/// An empty Postgres database of its own.
pub fn postgres() -> Fixture {
    let url = cluster().database();
    let open = async { Postgres::open(&url).await.unwrap() };
    let runtime = tokio::runtime::Handle::current();
    let store = tokio::task::block_in_place(|| runtime.block_on(open));
    Fixture { store: Arc::new(store), _directory: None }
}

pub fn lane() -> LaneName {
    LaneName { account: "default".into(), kind: Kind::HireWebsiteDelivery }
}

/// A registration by `client` of the task `task`, with the callback `https://CLIENT.example/hook`.
pub fn new(id: &str, client: &str, task: &str) -> NewRegistration {
    NewRegistration {
        id: format!("reg_{id}"),
        client: client.into(),
        task: TaskRef {
            kind: Kind::HireWebsiteDelivery,
            account: "default".into(),
            website_id: "7047318856652261676".into(),
            delivery_task_id: task.into(),
        },
        callback_url: format!("https://{client}.example/hook"),
        callback_origin: format!("https://{client}.example:443"),
        callback_host: format!("{client}.example"),
        metadata: r#"{"n":9007199254740993}"#.into(),
        created_at: Timestamp(1_000),
        give_up_at: Timestamp(61_000),
    }
}

impl Fixture {
    pub async fn register(&self, new: NewRegistration) -> Registration {
        match self.store.register(vec![new]).await.unwrap().pop().unwrap() {
            Registered::New(registration) | Registered::Existing(registration) => registration,
        }
    }

    pub async fn find(&self, id: &str) -> Registration {
        self.store.find(&format!("reg_{id}")).await.unwrap().expect("it was registered")
    }

    pub async fn take(&self) -> TakenLane {
        self.store.take(&lane(), Timestamp(0)).await.unwrap()
    }

    /// The row of the lane's task of that name.
    pub async fn task(&self, lease: &Lease, name: &str) -> TaskId {
        let changes = self.store.changes(lease, 0, 1_000).await.unwrap();
        let named = |change: &&outcomed::store::Change| {
            change.watch.as_ref().is_some_and(|watch| watch.delivery_task_id == name)
        };
        changes.iter().find(named).expect("the task is watched").task
    }

    /// Registers, and settles as a success at `at`.
    pub async fn settled(&self, id: &str, client: &str, task: &str, at: i64) {
        self.register(new(id, client, task)).await;
        let lease = self.take().await.lease;
        let task = self.task(&lease, task).await;
        self.store.settle(&lease, ending(task, at), success()).await.unwrap();
    }
}

pub fn ending(task: TaskId, at: i64) -> Ending {
    let progress =
        Progress { polls: 3, last_pending_at: Some(Timestamp(at - 500)), ..Progress::default() };
    Ending { task, at: Timestamp(at), progress, log_id: Some("log-1".into()) }
}

pub fn success() -> Outcome {
    Outcome::succeeded(Ids { application_id: Some("6960663240925956657".into()), ..Ids::default() })
}

pub fn timed_out() -> Outcome {
    Outcome::unresolved(Reason::TimedOut)
}
