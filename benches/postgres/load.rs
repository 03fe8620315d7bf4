//! What daemons ask of their store, each caller on a lane of its own.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use outcomed::clock::Timestamp;
use outcomed::outcome::{Ids, Outcome};
use outcomed::store::fleet::{BEAT_EVERY, Fleet, Member};
use outcomed::store::postgres::Postgres;
use outcomed::store::{
    Attempt, AttemptDetails, Checkpoint, Destination, Ending, Lanes, Lease, NewRegistration, Next,
    Outbox, Progress, Registry, Reservation,
};
use outcomed::task::{Kind, LaneName, TaskId, TaskRef};
use tokio::time::Instant;

use crate::meter::say;
use crate::postgres_cluster::Cluster;

/// Lanes of a fleet's worth of tenants.
const TENANTS: usize = 1_000;

pub struct Load {
    cluster: &'static Cluster,
    database: String,
    store: Arc<Postgres>,
    me: Member,
    callers: usize,
    tasks: usize,
    lanes: Mutex<Vec<(Lease, Vec<TaskId>)>>,
}

impl Load {
    pub async fn new(cluster: &'static Cluster, callers: usize, tasks: usize) -> Self {
        let url = cluster.database();
        let database = url.rsplit('/').next().expect("a database").to_owned();
        let store = Postgres::open(&url).await.expect("the store opens");
        let me = store.join("bench", Timestamp(1)).await.expect("it joins");
        let store = Arc::new(store);
        let (beating, member) = (Arc::clone(&store), me.clone());
        // As a daemon does; it ends with the bench.
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(BEAT_EVERY / 2).await;
                beating.beat(&member, &[]).await.expect("it beats");
            }
        });
        Self { cluster, database, store, me, callers, tasks, lanes: Mutex::default() }
    }

    pub fn database(&self) -> (&'static Cluster, &str) {
        (self.cluster, &self.database)
    }

    async fn each<T>(&self, work: impl AsyncFn(usize) -> T) -> Vec<T> {
        join_all((0..self.callers).map(|caller| work(caller))).await
    }

    pub async fn register_one_by_one(&self, count: usize) {
        self.each(async |caller| {
            for n in 0..count {
                let one = vec![registration(caller, &format!("one-{caller}-{n}"))];
                self.store.register(one).await.expect("it registers");
            }
        })
        .await;
    }

    pub async fn register(&self, batch: usize) {
        self.each(async |caller| {
            let all: Vec<usize> = (0..self.tasks).collect();
            for part in all.chunks(batch) {
                let of = |n: &usize| registration(caller, &format!("{caller}-{n}"));
                self.store.register(part.iter().map(of).collect()).await.expect("it registers");
            }
        })
        .await;
    }

    /// Claims the lanes, and learns their tasks. Postgres learns what it holds, as it does by
    /// itself within a minute or so: until then some plans are those of empty tables.
    pub async fn take(&self) {
        self.cluster.psql(&self.database, "ANALYZE");
        let lanes = self.each(async |caller| {
            let claimed = self.store.claim(&self.me, &lane(caller)).await.expect("it claims");
            let lease = claimed.expect("nobody else does").lane.lease;
            let changes = self.store.changes(&lease, 0, 1_000_000).await.expect("it reads");
            (lease, changes.into_iter().map(|change| change.task).collect())
        });
        *self.lanes.lock().expect("no panic") = lanes.await;
    }

    fn lane(&self, caller: usize) -> (Lease, Vec<TaskId>) {
        self.lanes.lock().expect("no panic")[caller].clone()
    }

    pub async fn reserve(&self, count: i64) {
        self.each(async |caller| {
            let (lease, _) = self.lane(caller);
            for n in 0..count {
                let reservations = (0..20)
                    .map(|k| Reservation { at: Timestamp(n + k), polls: 50, boot: None })
                    .collect();
                let checkpoint =
                    Checkpoint { reservations: Some(reservations), ..Checkpoint::default() };
                self.store.checkpoint(&lease, checkpoint).await.expect("it is kept");
            }
        })
        .await;
    }

    pub async fn progress(&self, count: u32) {
        self.each(async |caller| {
            let (lease, tasks) = self.lane(caller);
            for n in 0..count {
                let progress = Progress { polls: n, ..Progress::default() };
                let progress = tasks.iter().take(50).map(|task| (*task, progress)).collect();
                let checkpoint = Checkpoint { progress, ..Checkpoint::default() };
                self.store.checkpoint(&lease, checkpoint).await.expect("it is kept");
            }
        })
        .await;
    }

    pub async fn settle(&self) {
        self.each(async |caller| {
            let (lease, tasks) = self.lane(caller);
            self.settle_these(&lease, &tasks).await;
        })
        .await;
    }

    /// The first lane's tasks, by so many at once.
    pub async fn settle_by(&self, callers: usize) {
        let (lease, tasks) = self.lane(0);
        let parts = tasks.chunks(tasks.len().div_ceil(callers));
        join_all(parts.map(|part| self.settle_these(&lease, part))).await;
    }

    async fn settle_these(&self, lease: &Lease, tasks: &[TaskId]) {
        for task in tasks {
            let progress = Progress { polls: 3, ..Progress::default() };
            let ending = Ending {
                task: *task,
                at: Timestamp(5_000),
                progress,
                log_id: Some("021737000000000000000000000000000000000000000000000000".into()),
            };
            let ids = Ids { application_id: Some("7047318856652261676".into()), ..Ids::default() };
            let settled = self.store.settle(lease, ending, Outcome::succeeded(ids)).await;
            settled.expect("it settles");
        }
    }

    pub async fn due(&self, count: usize) {
        self.each(async |caller| {
            for _ in 0..count {
                let due = self
                    .store
                    .due(&Destination::new("ats", origin(caller)), Timestamp(9_000), 16)
                    .await;
                assert_eq!(due.expect("it reads").len(), 16);
            }
        })
        .await;
    }

    pub async fn deliver(&self) {
        self.each(async |caller| {
            let due = self
                .store
                .due(&Destination::new("ats", origin(caller)), Timestamp(9_000), 1_000_000)
                .await;
            for delivery in due.expect("it reads").iter().take(self.tasks) {
                let done = self.store.record_attempt(delivery, attempt(), Next::Delivered).await;
                assert!(done.expect("it is recorded"));
            }
        })
        .await;
    }

    pub async fn find(&self) {
        self.each(async |caller| {
            for n in 0..self.tasks {
                let found = self.store.find(&format!("reg_{caller}-{n}")).await;
                assert!(found.expect("it reads").is_some());
            }
        })
        .await;
    }

    pub async fn beat(&self, count: usize) {
        self.each(async |_| {
            for _ in 0..count {
                self.store.beat(&self.me, &[]).await.expect("it beats");
            }
        })
        .await;
    }

    pub fn sizes(&self, tasks: usize) {
        let sql = format!(
            "SELECT string_agg(t || ' ' || pg_total_relation_size(t::regclass) / {tasks}, ', ')
             FROM unnest('{{task,registration,attempt}}'::text[]) t"
        );
        let sizes = self.cluster.psql(&self.database, &sql);
        say(&format!("bytes of tables and indexes for each task: {sizes}"));
    }
}

/// How quickly one daemon takes over many lanes.
pub async fn claims(cluster: &'static Cluster) {
    let load = Load::new(cluster, TENANTS, 1).await;
    join_all((0..TENANTS).map(async |tenant| {
        let one = vec![registration(tenant, &format!("{tenant}"))];
        load.store.register(one).await.expect("it registers");
    }))
    .await;
    let started = Instant::now();
    load.take().await;
    let took = started.elapsed().as_secs_f64();
    say(&format!("claiming {TENANTS} lanes and reading their tasks: {took:.2} s"));
    let started = Instant::now();
    load.store.beat(&load.me, &[]).await.expect("it beats");
    let took = started.elapsed().as_secs_f64() * 1e3;
    say(&format!("a beat of a daemon that holds {TENANTS} lanes: {took:.1} ms"));
    let started = Instant::now();
    load.store.holdings(Timestamp(1)).await.expect("it reads");
    let took = started.elapsed().as_secs_f64() * 1e3;
    say(&format!("finding which of {TENANTS} lanes have work: {took:.1} ms"));
}

fn lane(caller: usize) -> LaneName {
    LaneName { account: format!("tenant-{caller}"), kind: Kind::HireWebsiteDelivery }
}

fn origin(caller: usize) -> String {
    format!("https://app-{caller}.example:443")
}

fn registration(caller: usize, id: &str) -> NewRegistration {
    NewRegistration {
        id: format!("reg_{id}"),
        client: format!("app-{caller}"),
        task: TaskRef {
            kind: Kind::HireWebsiteDelivery,
            account: format!("tenant-{caller}"),
            website_id: "7047318856652261676".into(),
            delivery_task_id: format!("f1c2a0f138ec492d99d7ab73594158ad-{id}"),
        },
        callback_url: format!("https://app-{caller}.example/hooks/feishu"),
        callback_origin: origin(caller),
        callback_host: format!("app-{caller}.example"),
        metadata: r#"{"candidate":"42","source":"website"}"#.into(),
        created_at: Timestamp(1_000),
        give_up_at: Timestamp(3_601_000),
    }
}

fn attempt() -> Attempt {
    Attempt {
        number: 1,
        at: Timestamp(5_000),
        duration: Duration::from_millis(20),
        status: Some(204),
        error: None,
        reply_excerpt: None,
        verdict: "delivered".into(),
        details: AttemptDetails::default(),
    }
}
