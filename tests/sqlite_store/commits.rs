//! What is one commit, and what becomes of writes that share one with a write that fails.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{join, join_all};
use outcomed::clock::{SystemClock, Timestamp};
use outcomed::outcome::{Ids, Outcome, Reason};
use outcomed::store::sqlite::Sqlite;
use outcomed::store::{
    Checkpoint, Ending, Lanes, Lease, NewRegistration, NewRewatch, Outbox, Progress, Registry,
    Reservation, RewatchFilter, Rewatches, Store, StoreError,
};
use outcomed::task::{Kind, LaneName, State, TaskId, TaskRef};

/// A store that counts the writes of every commit.
struct Counted {
    store: Sqlite,
    commits: Arc<Mutex<Vec<usize>>>,
    directory: tempfile::TempDir,
}

fn new(id: usize, client: &str, task: &str) -> NewRegistration {
    NewRegistration {
        id: format!("reg_{id:03}"),
        client: client.into(),
        task: TaskRef {
            kind: Kind::default(),
            account: "default".into(),
            website_id: "7".into(),
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

impl Counted {
    fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let commits = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&commits);
        let on_commit = Arc::new(move |writes, _| seen.lock().unwrap().push(writes));
        let path = directory.path().join("a.db");
        let store = Sqlite::open(&path, Arc::new(SystemClock::new()), on_commit).unwrap();
        Self { store, commits, directory }
    }

    /// The one write that was done since the last time was one commit.
    fn one_commit(&self, what: &str) {
        let commits = std::mem::take(&mut *self.commits.lock().unwrap());
        assert_eq!(commits, [1], "{what}");
    }

    fn sql(&self, sql: &str) {
        let path: &Path = &self.directory.path().join("a.db");
        rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap();
    }

    async fn take(&self) -> Lease {
        let lane = LaneName { account: "default".into(), kind: Kind::default() };
        self.store.take(&lane, Timestamp(0)).await.unwrap().lease
    }

    async fn state(&self, id: usize) -> Option<State> {
        self.store.find(&format!("reg_{id:03}")).await.unwrap().map(|it| it.state)
    }

    /// The row of the first task that is watched.
    async fn task(&self, lease: &Lease) -> TaskId {
        self.store.changes(lease, 0, 10).await.unwrap()[0].task
    }
}

fn ending(task: TaskId) -> Ending {
    Ending { task, at: Timestamp(70_000), progress: Progress::default(), log_id: None }
}

fn success() -> Outcome {
    Outcome::succeeded(Ids::default())
}

#[tokio::test]
async fn whatever_belongs_together_is_one_commit() {
    let db = Counted::open();
    let same_task = ["ats", "crm", "erp"].map(|client| new(client.len(), client, "t"));
    let [mut a, mut b, mut c] = same_task;
    (a.id, b.id, c.id) = ("reg_001".into(), "reg_002".into(), "reg_003".into());
    db.store.register(vec![a, b, c]).await.unwrap();
    db.one_commit("a batch of registrations");
    let lease = db.take().await;
    db.one_commit("an owner");
    let task = db.task(&lease).await;
    let checkpoint = Checkpoint {
        reservations: Some(vec![Reservation { at: Timestamp(2_000), polls: 8, boot: None }]),
        memory: Some(vec![1]),
        progress: vec![(task, Progress { polls: 3, ..Progress::default() })],
    };
    db.store.checkpoint(&lease, checkpoint).await.unwrap();
    db.one_commit("a checkpoint");
    db.store.settle(&lease, ending(task), success()).await.unwrap();
    db.one_commit("an outcome and the deliveries that it makes due");
    assert_eq!(db.state(3).await, Some(State::Delivering));
    db.store.redeliver("reg_001", Timestamp(90_000)).await.unwrap();
    db.one_commit("a redelivery");
    db.store.register(vec![new(4, "ats", "late"), new(5, "crm", "late")]).await.unwrap();
    db.one_commit("a batch of registrations");
    let late = db.task(&lease).await;
    db.store.give_up(&lease, ending(late), Outcome::unresolved(Reason::TimedOut)).await.unwrap();
    db.one_commit("the end of everybody's time, and the deliveries that it makes due");
    assert_eq!(db.state(5).await, Some(State::Delivering));
    db.store.cancel("reg_004", Timestamp(91_000)).await.unwrap();
    db.one_commit("a cancellation");
}

#[tokio::test]
async fn a_write_that_fails_midway_leaves_nothing_and_takes_nobody_along() {
    let db = Counted::open();
    db.store.register(vec![new(0, "ats", "t")]).await.unwrap();
    let lease = db.take().await;
    let task = db.task(&lease).await;
    // The outcome is written by then; what fails is making its delivery due.
    db.sql(
        "CREATE TRIGGER refused BEFORE UPDATE OF body ON registration
         BEGIN SELECT RAISE(ABORT, 'refused'); END",
    );
    let settling = db.store.settle(&lease, ending(task), success());
    let others = (1..200).map(|n| {
        let new = new(n, "crm", &format!("other{n}"));
        async { db.store.register(vec![new]).await }
    });
    let (settled, others) = join(settling, join_all(others)).await;
    settled.unwrap_err();
    for other in others {
        other.unwrap();
    }
    assert_eq!(db.state(199).await, Some(State::Watching));
    db.sql("DROP TRIGGER refused");
    db.store.settle(&lease, ending(task), success()).await.unwrap();
    assert_eq!(db.state(0).await, Some(State::Delivering), "the first try left nothing behind");
}

#[tokio::test]
async fn when_a_failure_takes_its_whole_commit_along_nobody_in_it_is_told_otherwise() {
    let db = Counted::open();
    db.store.register(vec![new(0, "ats", "t")]).await.unwrap();
    let lease = db.take().await;
    let task = db.task(&lease).await;
    // As a full disk does.
    db.sql(
        "CREATE TRIGGER refused BEFORE UPDATE OF body ON registration
         BEGIN SELECT RAISE(ROLLBACK, 'disk full'); END",
    );
    let mut hints = db.store.hints();
    let first = (1..100).map(|n| db.store.register(vec![new(n, "crm", &format!("other{n}"))]));
    let settling = db.store.settle(&lease, ending(task), success());
    let last = (100..200).map(|n| db.store.register(vec![new(n, "crm", &format!("other{n}"))]));
    let (first, (settled, last)) = join(join_all(first), join(settling, join_all(last))).await;
    settled.unwrap_err();
    let mut refused = 0;
    for (n, told) in (1..).zip(first.into_iter().chain(last)) {
        assert_eq!(db.state(n).await.is_some(), told.is_ok(), "{n}");
        refused += u32::from(told.is_err());
    }
    assert!(refused > 0, "some shared its commit");
    let mut hinted = 0;
    while hints.try_recv().is_ok() {
        hinted += 1;
    }
    assert_eq!(hinted, 199 - refused, "nobody hears of what did not happen");
}

#[tokio::test]
async fn nothing_that_clients_ask_for_takes_the_room_of_polling_and_delivery() {
    let db = Counted::open();
    db.store.register(vec![new(0, "ats", "t")]).await.unwrap();
    // The writer waits for somebody who looks at the file with `sqlite3`.
    let other = rusqlite::Connection::open(db.directory.path().join("a.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let waiting = (0..2_048).map(|_| db.store.cancel("reg_none", Timestamp(1)));
    let mut waiting = join_all(waiting);
    assert!(futures_util::poll!(&mut waiting).is_pending());
    let filter = RewatchFilter {
        client: None,
        account: None,
        reason: None,
        since: Timestamp(0),
        until: Timestamp(9),
    };
    let (id, owner) = ("rwt_1".to_owned(), "ats".to_owned());
    let rewatch = NewRewatch { id, owner, filter, created_at: Timestamp(9) };
    let second = Duration::from_secs(1);
    let asking = async {
        [
            ("begin", db.store.begin_rewatch(rewatch).await.map(drop)),
            ("cancel", db.store.cancel_rewatch("rwt_1", Timestamp(9)).await.map(drop)),
            ("ping", db.store.callback_accepts("ats", "https://ats.example/hook").await),
        ]
    };
    let refused = tokio::time::timeout(second, asking).await.expect("refused at once");
    for (what, answer) in refused {
        assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{what}: {answer:?}");
    }
    let mut own = std::pin::pin!(db.store.ping(Timestamp(9)));
    assert!(futures_util::poll!(&mut own).is_pending(), "the daemon's own is not refused");
    other.execute_batch("ROLLBACK").unwrap();
    own.await.unwrap();
    waiting.await.into_iter().for_each(|done| assert!(done.unwrap().is_none()));
}
