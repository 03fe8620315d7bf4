//! A bulk redelivery from the row to the receivers, across restarts of the daemon's loops.

use std::sync::Arc;
use std::time::Duration;

use outcomed::clock::{Clock, Steady, SystemClock, Timestamp};
use outcomed::delivery::redeliver;
use outcomed::outcome::{Ids, Outcome};
use outcomed::store::sqlite::Sqlite;
use outcomed::store::{
    Attempt, AttemptDetails, Destination, Ending, Lanes, NewRedelivery, NewRegistration, Next,
    Outbox, Progress, Redelivery, RedeliveryFilter, RedeliveryState, Registry,
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
    fill_for(store, "ats", ORIGIN).await;
}

async fn fill_for(store: &Sqlite, client: &str, origin: &str) {
    let lane = LaneName { account: "default".into(), kind: Kind::default() };
    let task = TaskRef {
        kind: lane.kind,
        account: lane.account.clone(),
        website_id: "1".into(),
        delivery_task_id: client.into(),
    };
    let new = |number| NewRegistration {
        id: format!("reg_{client}_{number:03}"),
        client: client.into(),
        task: task.clone(),
        callback_url: format!("https://a.example/{number}"),
        callback_origin: origin.into(),
        callback_host: "a.example".into(),
        metadata: "{}".into(),
        created_at: Timestamp(1),
        give_up_at: Timestamp(99),
    };
    store.register((0..COUNT).map(new).collect()).await.unwrap();
    let lease = store.take(&lane, Timestamp(1)).await.unwrap().lease;
    let task = store.changes(&lease, 0, 9).await.unwrap().pop().unwrap().task;
    let ending = Ending { task, at: Timestamp(2), progress: Progress::default(), log_id: None };
    store.settle(&lease, ending, Outcome::succeeded(Ids::default())).await.unwrap();
    finish_at(store, client, origin, Next::Undeliverable).await;
}

/// Ends everything that is due; returns how many that were.
async fn finish(store: &Sqlite, next: Next) -> usize {
    finish_at(store, "ats", ORIGIN, next).await
}

async fn finish_at(store: &Sqlite, client: &str, origin: &str, next: Next) -> usize {
    let to = Destination::new(client, origin);
    let due = store.due(&to, SystemClock::new().wall(), 1_000).await.unwrap();
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

async fn begin_for(store: &Sqlite, id: &str, client: &str) {
    let filter = RedeliveryFilter {
        client: Some(client.into()),
        state: State::Undeliverable,
        since: Timestamp(0),
        until: SystemClock::new().wall(),
        callback_host: None,
    };
    let (owner, created_at) = (client.into(), filter.until);
    let new = NewRedelivery { id: id.into(), owner, filter, created_at };
    store.begin_redelivery(new).await.unwrap();
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

#[tokio::test(flavor = "multi_thread")]
async fn one_clients_bulk_redelivery_does_not_wait_for_anothers_receiver() {
    const OTHER: &str = "https://b.example:443";
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    fill_for(&store, "sick", ORIGIN).await;
    fill_for(&store, "well", OTHER).await;
    for number in 0..3 {
        begin_for(&store, &format!("rdl_sick_{number}"), "sick").await;
    }
    begin_for(&store, "rdl_well", "well").await;
    let (stop, working) = work(&store);
    // Nothing of the sick one's ever goes out.
    let draining = async {
        while store.redelivery("rdl_well").await.unwrap().unwrap().state == RedeliveryState::Running
        {
            finish_at(&store, "well", OTHER, Next::Delivered).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), draining).await.expect("it is worked off");
    assert_eq!(store.redelivery("rdl_sick_0").await.unwrap().unwrap().done, 50);
    stop.cancel();
    working.await.unwrap();
}

/// Tokio's time, as a wall clock that goes on from now.
struct Passing(Timestamp, tokio::time::Instant);

impl Clock for Passing {
    fn wall(&self) -> Timestamp {
        self.0.after(self.1.elapsed())
    }
    fn steady(&self) -> Steady {
        Steady(0).after(self.1.elapsed())
    }
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_is_down_holds_up_a_bulk_redelivery_for_half_a_minute_at_most() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(Sqlite::open_simulated(&directory.path().join("a.db")).unwrap());
    fill(&store).await;
    begin(&store).await;
    let clock = Arc::new(Passing(SystemClock::new().wall(), tokio::time::Instant::now()));
    let stop = CancellationToken::new();
    let working = tokio::spawn(redeliver::run(store.clone(), clock, stop.clone()));
    for (seconds, done) in [(20, 50), (20, 100), (30, COUNT as u64)] {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        assert_eq!(store.redelivery("rdl_1").await.unwrap().unwrap().done, done);
    }
    stop.cancel();
    working.await.unwrap();
}
