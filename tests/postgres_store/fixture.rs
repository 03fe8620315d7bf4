//! Daemons on one database, and short ways to fill it.

use std::time::Duration;

use outcomed::clock::Timestamp;
use outcomed::outcome::{Ids, Outcome};
use outcomed::store::fleet::{Claimed, Fleet, Member};
use outcomed::store::postgres::Postgres;
use outcomed::store::{Ending, Hint, Lanes, Lease, NewRegistration, Progress, Registry};
use outcomed::task::{Kind, LaneName, TaskId, TaskRef};
use tokio::sync::broadcast::Receiver;

use crate::postgres_cluster::{Cluster, cluster};

/// No event in these tests takes nearly as long.
pub const SOON: Duration = Duration::from_secs(20);

/// A database, and what is behind it.
pub struct Database {
    pub cluster: &'static Cluster,
    pub url: String,
}

pub fn database() -> Database {
    Database { cluster: cluster(), url: cluster().database() }
}

/// A daemon that has joined the fleet.
pub struct Daemon {
    pub store: Postgres,
    pub me: Member,
}

impl Database {
    pub async fn open(&self) -> Postgres {
        Postgres::open(&self.url).await.unwrap()
    }

    pub async fn daemon(&self, name: &str) -> Daemon {
        let store = self.open().await;
        let me = store.join(name, Timestamp(1_000)).await.unwrap();
        Daemon { store, me }
    }

    pub fn sql(&self, sql: &str) -> String {
        self.cluster.psql(self.url.rsplit('/').next().unwrap(), sql)
    }

    /// As if this member had been silent for longer than its lease.
    pub fn expire(&self, daemon: &Daemon) {
        let id = daemon.me.id.0;
        self.sql(&format!(
            "UPDATE member SET expires_at = clock_timestamp() - interval '1 ms' WHERE id = '{id}'"
        ));
    }

    /// As if this member had been alive for an hour.
    pub fn settle_in(&self, daemon: &Daemon) {
        let id = daemon.me.id.0;
        self.sql(&format!(
            "UPDATE member SET alive_since = alive_since - interval '1 hour' WHERE id = '{id}'"
        ));
    }
}

impl Daemon {
    pub async fn claim(&self, account: &str) -> Option<Claimed> {
        self.store.claim(&self.me, &lane(account)).await.unwrap()
    }

    /// Registers a task in this lane, and returns its row.
    pub async fn watch(&self, lease: &Lease, account: &str, id: &str) -> TaskId {
        self.store.register(vec![new(id, "ats", account, id)]).await.unwrap();
        let changes = self.store.changes(lease, 0, 10_000).await.unwrap();
        let named = |watch: &outcomed::store::Watch| watch.delivery_task_id == id;
        changes.iter().find(|c| c.watch.as_ref().is_some_and(named)).unwrap().task
    }
}

pub fn lane(account: &str) -> LaneName {
    LaneName { account: account.into(), kind: Kind::HireWebsiteDelivery }
}

pub fn new(id: &str, client: &str, account: &str, task: &str) -> NewRegistration {
    NewRegistration {
        id: format!("reg_{id}"),
        client: client.into(),
        task: TaskRef {
            kind: Kind::HireWebsiteDelivery,
            account: account.into(),
            website_id: "7047318856652261676".into(),
            delivery_task_id: task.into(),
        },
        callback_url: format!("https://{client}.example/hook"),
        callback_origin: format!("https://{client}.example:443"),
        callback_host: format!("{client}.example"),
        metadata: "{}".into(),
        created_at: Timestamp(1_000),
        give_up_at: Timestamp(61_000),
    }
}

pub fn ending(task: TaskId) -> Ending {
    let progress = Progress { polls: 3, ..Progress::default() };
    Ending { task, at: Timestamp(5_000), progress, log_id: None }
}

pub fn success() -> Outcome {
    Outcome::succeeded(Ids::default())
}

/// Waits for a hint of this kind.
pub async fn hinted(hints: &mut Receiver<Hint>, wanted: impl Fn(&Hint) -> bool) {
    let found = async { while !wanted(&hints.recv().await.unwrap()) {} };
    tokio::time::timeout(SOON, found).await.expect("the hint comes");
}
