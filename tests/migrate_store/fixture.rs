//! A file with something in every state, an empty database, and what both say of themselves.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use outcomed::clock::{SystemClock, Timestamp};
use outcomed::config::secret::Secret;
use outcomed::outcome::{Ids, Outcome, Reason};
use outcomed::store::migration::{self, Migrated, MigrationError};
use outcomed::store::postgres::Postgres;
use outcomed::store::sqlite::{OpenError, Sqlite};
use outcomed::store::{
    AppTicket, Attempt, AttemptDetails, Checkpoint, Delivery, Destination, DestinationPlace,
    Ending, Filter, Lanes, Lease, NewRedelivery, NewRegistration, NewRewatch, Next, Notice, Outbox,
    Progress, RedeliveryFilter, Registry, Reservation, RewatchFilter, Rewatches, Store,
};
use outcomed::task::{Kind, LaneName, State, TaskId, TaskRef};
use outcomed::watching::Answer;

use crate::postgres_cluster::{Cluster, cluster};

pub const ACCOUNTS: [&str; 2] = ["default", "tenant-b"];
/// A receiver may answer anything.
const STRANGE: &str = "answered \0 and ü\n";

/// A file, and a database to move it to.
pub struct World {
    _directory: tempfile::TempDir,
    pub file: PathBuf,
    pub cluster: &'static Cluster,
    pub url: String,
}

/// A file that was filled with `tasks` tasks on each account.
pub async fn world(tasks: usize) -> World {
    world_on(cluster(), tasks).await
}

/// The same beside a cluster of one's own, which may be killed.
pub async fn world_on(cluster: &'static Cluster, tasks: usize) -> World {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("outcomed.db");
    let world = World { _directory: directory, file, cluster, url: cluster.database() };
    fill(&world.sqlite().unwrap(), tasks).await;
    world
}

impl World {
    pub fn sqlite(&self) -> Result<Sqlite, OpenError> {
        Sqlite::open_simulated(&self.file)
    }

    /// What a daemon that is started on the file is told.
    pub fn sqlite_refuses(&self) -> String {
        let opened = Sqlite::open(&self.file, Arc::new(SystemClock::new()), Arc::new(|_, _| {}));
        opened.err().expect("it must refuse").to_string()
    }

    pub async fn postgres(&self) -> Postgres {
        Postgres::open(&self.url).await.unwrap()
    }

    pub async fn postgres_refuses(&self) -> String {
        Postgres::open(&self.url).await.err().expect("it must refuse").to_string()
    }

    pub fn sql(&self, sql: &str) -> String {
        self.cluster.psql(self.url.rsplit('/').next().unwrap(), sql)
    }

    pub async fn run(&self) -> Result<Migrated, MigrationError> {
        migration::run(&self.file, &self.url, &SystemClock::new(), &|_| {}).await
    }

    pub async fn moved(&self) {
        assert!(matches!(self.run().await.unwrap(), Migrated::Now(_)));
    }

    pub async fn abandon(&self) -> Result<(), MigrationError> {
        migration::abandon(&self.file, &self.url, &SystemClock::new()).await
    }

    /// Copying takes a second or more.
    pub async fn slow_down(&self) {
        self.rig("BEFORE INSERT ON registration FOR EACH ROW", "PERFORM pg_sleep(0.001);").await;
    }

    /// Whether registrations are on their way into the database.
    pub fn is_copying(&self) -> bool {
        let copying = "SELECT count(*) FROM pg_stat_progress_copy
                       WHERE datname = current_database() AND relid = 'registration'::regclass";
        self.sql(copying) == "1"
    }

    /// The schema, with something that happens when rows come in.
    pub async fn rig(&self, when: &str, what: &str) {
        drop(self.postgres().await);
        self.sql(&format!(
            "CREATE FUNCTION rig() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN {what} RETURN NEW; END $$;
             CREATE TRIGGER rig {when} EXECUTE FUNCTION rig()"
        ));
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
        metadata: r#"{"n":9007199254740993,  "ü":"\u0000", "":[1.0]}"#.into(),
        created_at: Timestamp(1_000),
        give_up_at: Timestamp(61_000),
    }
}

fn attempt(number: u32, at: i64, ok: bool) -> Attempt {
    Attempt {
        number,
        at: Timestamp(at),
        duration: Duration::from_millis(20),
        status: ok.then_some(204),
        error: (!ok).then(|| STRANGE.into()),
        reply_excerpt: Some(STRANGE.into()),
        verdict: if ok { "delivered".into() } else { "retry".into() },
        details: AttemptDetails {
            connect: Some(Duration::from_millis(7)),
            first_byte: None,
            error_class: (!ok).then(|| "status".into()),
            reason: Some("schedule".into()),
        },
    }
}

/// What becomes of the task of this number: every state, and every way to it.
async fn live(store: &Sqlite, lease: &Lease, task: TaskId, n: usize, id: &str) {
    let progress = Progress {
        polls: 3,
        last_pending_at: Some(Timestamp(4_500)),
        not_found_since: n.is_multiple_of(2).then_some(Timestamp(4_600)),
        last_polled_at: Some(Timestamp(2_345)),
        last_answer: Some(Answer::Error(Some(1_002_001))),
    };
    let ending = Ending { task, at: Timestamp(5_000), progress, log_id: Some(format!("log-{n}")) };
    let outcome = if n.is_multiple_of(2) {
        Outcome::succeeded(Ids { application_id: Some("696066".into()), ..Ids::default() })
    } else {
        Outcome::unresolved(Reason::TaskNotFound)
    };
    match n % 8 {
        0 => return,
        1 => {
            let checkpoint = Checkpoint { progress: vec![(task, progress)], ..Default::default() };
            return store.checkpoint(lease, checkpoint).await.unwrap();
        }
        2 => return drop(store.cancel(&format!("reg_{id}"), Timestamp(4_000)).await.unwrap()),
        _ => store.settle(lease, ending, outcome).await.unwrap(),
    }
    let due = async || -> Delivery {
        let to = Destination::new("ats", "https://ats.example:443");
        let due = store.due(&to, Timestamp(9_000), 100_000).await.unwrap();
        due.into_iter().find(|due| due.registration_id == format!("reg_{id}")).unwrap()
    };
    let tried = async |ok, next| {
        let delivery = due().await;
        let number = delivery.attempts + 1;
        assert!(store.record_attempt(&delivery, attempt(number, 5_100, ok), next).await.unwrap());
    };
    match n % 8 {
        3 => {}
        4 => tried(true, Next::Delivered).await,
        5 => tried(false, Next::Undeliverable).await,
        6 => {
            tried(false, Next::Undeliverable).await;
            store.redeliver(&format!("reg_{id}"), Timestamp(6_000)).await.unwrap();
        }
        _ => {
            tried(false, Next::RetryAt(Timestamp(8_000))).await;
            tried(false, Next::RetryAt(Timestamp(18_000))).await;
        }
    }
}

async fn fill(store: &Sqlite, tasks: usize) {
    for (a, account) in ACCOUNTS.into_iter().enumerate() {
        let names: Vec<String> = (0..tasks).map(|n| format!("{a}{n:06}")).collect();
        let by = |client: &str, name: &String| {
            new(&format!("{name}{client}"), client, account, &format!("task-{name}"))
        };
        for part in names.chunks(1_000) {
            store.register(part.iter().map(|name| by("ats", name)).collect()).await.unwrap();
        }
        let few = names.iter().take(16).map(|name| by("crm", name)).collect();
        store.register(few).await.unwrap();
        let lease = store.take(&lane(account), Timestamp(0)).await.unwrap().lease;
        let checkpoint = Checkpoint {
            reservations: Some(vec![Reservation { at: Timestamp(3_000), polls: 50, boot: None }]),
            memory: Some(vec![1, 0, 255]),
            progress: Vec::new(),
        };
        store.checkpoint(&lease, checkpoint).await.unwrap();
        let changes = store.changes(&lease, 0, 1_000_000).await.unwrap();
        let named = changes.into_iter().map(|c| (c.watch.unwrap().delivery_task_id, c.task));
        let rows: BTreeMap<String, TaskId> = named.collect();
        // What makes a state is slow; a few of each are enough.
        for (n, (name, task)) in rows.into_iter().enumerate().take(64) {
            let id = format!("{}ats", name.strip_prefix("task-").unwrap());
            live(store, &lease, task, n, &id).await;
        }
    }
    for (id, client) in [("redel_1", None), ("redel_2", Some("ats")), ("redel_3", Some("crm"))] {
        let filter = RedeliveryFilter {
            client: client.map(str::to_owned),
            state: State::Undeliverable,
            since: Timestamp(0),
            until: Timestamp(9_000),
            callback_host: None,
        };
        let new = NewRedelivery {
            id: id.into(),
            owner: "ops".into(),
            filter,
            created_at: Timestamp(7_000),
        };
        store.begin_redelivery(new).await.unwrap();
    }
    store.cancel_redelivery("redel_3", Timestamp(7_001)).await.unwrap();
    store.step_redelivery(&[], 2, Timestamp(7_002)).await.unwrap();
    rewatch(store).await;
    for (subject, next) in [("account default", Some(9_000)), ("origin https://a:443", None)] {
        let notice = Notice {
            client: "ats".into(),
            subject: subject.into(),
            raised: true,
            since: Timestamp(1),
            at: Timestamp(2),
            id: "msg_1".into(),
            body: b"{\"\x00\xff\"}".to_vec(),
            attempts: 1,
            next_attempt_at: next.map(Timestamp),
        };
        store.keep_notice(&notice).await.unwrap();
    }
    let ticket = Secret::new("ticket-1");
    let ticket = AppTicket { app_id: "cli_1".into(), ticket, at: Timestamp(8_000) };
    store.keep_ticket(&ticket).await.unwrap();
    let to = Destination::new("crm", "https://crm.example:443");
    let crm = store.due(&to, Timestamp(9_000), 1).await.unwrap();
    for delivery in &crm {
        let attempt = attempt(1, 5_100, false);
        assert!(store.record_attempt(delivery, attempt, Next::Gone).await.unwrap());
    }
    store.ping(Timestamp(9)).await.unwrap();
}

/// A bulk rewatch in the middle of its work.
async fn rewatch(store: &Sqlite) {
    let filter = RewatchFilter {
        client: Some("ats".into()),
        account: Some("default".into()),
        reason: Some(Reason::TimedOut),
        since: Timestamp(0),
        until: Timestamp(99_000),
    };
    let (id, owner) = ("rwt_1".into(), "ops".into());
    let new = NewRewatch { id, owner, filter, created_at: Timestamp(7_000) };
    store.begin_rewatch(new).await.unwrap().unwrap();
    let page = store.rewatch_page(1, Timestamp(7_001)).await.unwrap().unwrap();
    store.rewatched(&page, 1, Timestamp(7_001)).await.unwrap();
}

/// Everything that the store's verbs tell without changing anything, as text.
pub async fn told<S: Store>(store: &S) -> Vec<String> {
    let mut told = Vec::new();
    let mut before: Option<String> = None;
    loop {
        let page = store.list(&Filter::default(), before.as_deref(), 1_000).await.unwrap().items;
        let Some(last) = page.last() else { break };
        before = Some(last.id.clone());
        for row in &page {
            told.push(serde_json::to_string(row).unwrap());
        }
        for row in page.iter().filter(|row| row.delivery.attempts > 0) {
            let attempts = store.attempts(&row.id).await.unwrap();
            assert_eq!(attempts.len(), row.delivery.attempts as usize);
            told.push(format!("{attempts:?}"));
        }
    }
    for client in ["ats", "crm"] {
        told.push(format!("{:?}", store.outcomes(client, 0, 100_000).await.unwrap()));
        let origin = format!("https://{client}.example:443");
        let due =
            store.due(&Destination::new(client, origin), Timestamp(99_000), 100_000).await.unwrap();
        told.push(format!("{due:?}"));
    }
    told.push(format!(
        "{:?}",
        store.destinations(&DestinationPlace::default(), 100).await.unwrap().found
    ));
    told.push(format!("{:?}", store.lanes().await.unwrap()));
    let mut counts = store.counts().await.unwrap();
    counts.sort_unstable();
    told.push(format!("{counts:?}"));
    for id in ["redel_1", "redel_2", "redel_3"] {
        told.push(format!("{:?}", store.redelivery(id).await.unwrap().unwrap()));
    }
    told.push(format!("{:?}", store.rewatch("rwt_1").await.unwrap().unwrap()));
    told.push(format!("{:?}", store.notices().await.unwrap()));
    for AppTicket { app_id, ticket, at } in store.tickets().await.unwrap() {
        told.push(format!("{app_id} {} {at}", ticket.expose()));
    }
    // As Postgres' store writes what Postgres cannot hold; JSON and Rust escape it each their way.
    told.iter()
        .map(|t| {
            t.replace("answered \\0", "answered \u{fffd}")
                .replace("answered \\u0000", "answered \u{fffd}")
        })
        .collect()
}

/// What a lane's next owner finds.
pub async fn taken<S: Store>(store: &S, account: &str) -> (Lease, String) {
    let taken = store.take(&lane(account), Timestamp(0)).await.unwrap();
    let changes = store.changes(&taken.lease, 0, 1_000_000).await.unwrap();
    let later = store.changes(&taken.lease, 5, 1_000_000).await.unwrap();
    let found = format!("{:?} {:?} {changes:?} {later:?}", taken.reservations, taken.memory);
    (taken.lease, found)
}
