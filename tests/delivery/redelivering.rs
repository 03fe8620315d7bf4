//! A bulk redelivery from the row to the receivers, across restarts of the daemon's loops.

use std::sync::Arc;
use std::time::Duration;

use outcomed::clock::{Clock, SystemClock, Timestamp};
use outcomed::delivery::redeliver;
use outcomed::outcome::{Ids, Outcome};
use outcomed::store::sqlite::Sqlite;
use outcomed::store::{
    Attempt, AttemptDetails, Ending, Lanes, NewRedelivery, NewRegistration, Next, Outbox, Progress,
    Redelivery, RedeliveryFilter, RedeliveryState, Registry,
};
use outcomed::task::{Kind, LaneName, State, TaskRef};
use tokio_util::sync::CancellationToken;

const COUNT: usize = 120;
const ORIGIN: &str = "https://a.example:443";

fn open(directory: &tempfile::TempDir) -> Arc<Sqlite> {
    let path = directory.path().join("a.db");
    Arc::new(Sqlite::open(&path, Arc::new(SystemClock::new()), Arc::new(|_, _| {})).unwrap())
}

/// So many registrations of one task, all undeliverable.
async fn fill(store: &Sqlite) {
    let lane = LaneName { account: "default".into(), kind: Kind::default() };
    let task = TaskRef {
        kind: lane.kind,
        account: lane.account.clone(),
        website_id: "1".into(),
        delivery_task_id: "2".into(),
    };
    let new = |number| NewRegistration {
        id: format!("reg_{number:03}"),
        client: "ats".into(),
        task: task.clone(),
        callback_url: format!("https://a.example/{number}"),
        callback_origin: ORIGIN.into(),
        callback_host: "a.example".into(),
        metadata: "{}".into(),
        created_at: Timestamp(1),
        give_up_at: Timestamp(99),
    };
    store.register((0..COUNT).map(new).collect()).await.unwrap();
    let lease = store.take(&lane, Timestamp(1)).await.unwrap().lease;
    let task = store.changes(&lease, 0, 1).await.unwrap()[0].task;
    let ending = Ending { task, at: Timestamp(2), progress: Progress::default(), log_id: None };
    store.settle(&lease, ending, Outcome::succeeded(Ids::default())).await.unwrap();
    finish(store, Next::Undeliverable).await;
}

/// Ends everything that is due; returns how many that were.
async fn finish(store: &Sqlite, next: Next) -> usize {
    let due = store.due(ORIGIN, SystemClock::new().wall(), 1_000).await.unwrap();
    for delivery in &due {
        let attempt = Attempt {
            number: delivery.attempts + 1,
            at: Timestamp(3),
            duration: Duration::ZERO,
            status: None,
            error: None,
            reply_excerpt: None,
            verdict: "gave_up".into(),
            details: AttemptDetails::default(),
        };
        assert!(store.record_attempt(delivery, attempt, next).await.unwrap());
    }
    due.len()
}

async fn begin(store: &Sqlite) {
    let now = SystemClock::new().wall();
    let filter = RedeliveryFilter {
        client: None,
        state: State::Undeliverable,
        since: Timestamp(0),
        until: now,
        callback_host: None,
    };
    let new = NewRedelivery { id: "rdl_1".into(), owner: "ops".into(), filter, created_at: now };
    assert_eq!(store.begin_redelivery(new).await.unwrap().matched, COUNT as u64);
}

async fn until(store: &Sqlite, done: impl Fn(&Redelivery) -> bool) -> Redelivery {
    let looking = async {
        loop {
            let found = store.redelivery("rdl_1").await.unwrap().unwrap();
            if done(&found) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), looking).await.unwrap()
}

fn work(store: &Arc<Sqlite>) -> (CancellationToken, tokio::task::JoinHandle<()>) {
    let stop = CancellationToken::new();
    let clock = Arc::new(SystemClock::new());
    (stop.clone(), tokio::spawn(redeliver::run(store.clone(), clock, stop)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_redelivery_waits_for_its_receivers_and_goes_on_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    fill(&store).await;
    begin(&store).await;
    let (stop, working) = work(&store);
    until(&store, |it| it.done == 50).await;
    // Nothing goes out, so nothing more is made due.
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(store.redelivery("rdl_1").await.unwrap().unwrap().done, 50);
    stop.cancel();
    working.await.unwrap();
    drop(store);

    let store = open(&directory);
    let (stop, working) = work(&store);
    let mut sent = 0;
    while store.redelivery("rdl_1").await.unwrap().unwrap().state == RedeliveryState::Running {
        sent += finish(&store, Next::Delivered).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    sent += finish(&store, Next::Delivered).await;
    let over = until(&store, |it| it.state == RedeliveryState::Finished).await;
    assert_eq!((over.done, sent), (COUNT as u64, COUNT), "each once");
    stop.cancel();
    working.await.unwrap();
}
