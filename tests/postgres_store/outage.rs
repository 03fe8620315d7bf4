//! Claims about a database that goes away and comes back.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use outcomed::clock::Timestamp;
use outcomed::store::fleet::Fleet;
use outcomed::store::postgres::Postgres;
use outcomed::store::{Checkpoint, Destination, Hint, Lanes, Outbox, Registry, Store, StoreError};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::fixture::{Database, SOON, database, ending, hinted, lane, new, success};
use crate::postgres_cluster::Cluster;

#[expect(clippy::needless_pass_by_value, reason = "a verb's answer, judged where it is given")]
fn is_away<T>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Unavailable(_)))
}

/// Registers without pause, and remembers what was acknowledged.
#[derive(Default)]
struct Writers {
    acknowledged: Mutex<BTreeSet<String>>,
    refused: AtomicU64,
    stop: AtomicBool,
}

impl Writers {
    async fn write(self: Arc<Self>, store: Arc<Postgres>, writer: usize) {
        for n in 0.. {
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            let id = format!("{writer}_{n}");
            match store.register(vec![new(&id, "ats", "one", &id)]).await {
                Ok(_) => drop(self.acknowledged.lock().unwrap().insert(format!("reg_{id}"))),
                Err(StoreError::Unavailable(_)) => {
                    self.refused.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    async fn until(&self, what: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !what(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(SOON, waiting).await.expect("it happens");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_of_postgres_loses_nothing_acknowledged_and_every_verb_recovers_by_itself() {
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start()));
    let db = Database { cluster, url: cluster.database() };
    let a = db.daemon("a").await;
    let lease = a.claim("settling").await.unwrap().lane.lease;
    let task = a.watch(&lease, "settling", "t1").await;
    let b = Arc::new(db.open().await);
    let writers = Arc::new(Writers::default());
    let tasks: Vec<_> =
        (0..4).map(|n| tokio::spawn(Arc::clone(&writers).write(Arc::clone(&b), n))).collect();
    writers.until(|w| w.count() >= 200).await;

    tokio::task::block_in_place(|| cluster.kill());
    writers.until(|w| w.refused.load(Ordering::SeqCst) >= 20).await;
    assert!(is_away(a.store.find("reg_t1").await));
    assert!(is_away(a.store.lanes().await));
    assert!(is_away(a.store.changes(&lease, 0, 9).await));
    assert!(is_away(a.store.checkpoint(&lease, Checkpoint::default()).await));
    assert!(is_away(a.store.settle(&lease, ending(task), success()).await));
    assert!(is_away(
        a.store.due(&Destination::new("ats", "https://ats.example:443"), Timestamp(9_000), 9).await
    ));
    assert!(is_away(a.store.beat(&a.me, &[lease]).await));
    assert!(is_away(a.store.ping(Timestamp(1)).await));

    let before = writers.count();
    tokio::task::block_in_place(|| cluster.restart());
    let back = Instant::now();
    writers.until(|w| w.count() > before).await;
    assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
    writers.until(|w| w.count() >= before + 200).await;
    writers.stop.store(true, Ordering::SeqCst);
    for task in tasks {
        task.await.unwrap();
    }
    let stored = db.sql("SELECT string_agg(id, ' ') FROM registration");
    let stored: BTreeSet<&str> = stored.split(' ').collect();
    let acknowledged = writers.acknowledged.lock().unwrap().clone();
    let lost: Vec<_> = acknowledged.iter().filter(|id| !stored.contains(id.as_str())).collect();
    assert!(lost.is_empty(), "{lost:?} of {}", acknowledged.len());

    // The lane is still its owner's, and hints find their way again.
    assert_eq!(a.store.beat(&a.me, &[lease]).await.unwrap().lost, []);
    a.store.settle(&lease, ending(task), success()).await.unwrap();
    let mut hints = b.hints();
    let tries = async {
        for n in 0.. {
            let id = format!("late_{n}");
            a.store.register(vec![new(&id, "ats", &id, &id)]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let late = |hint: &Hint| matches!(hint, Hint::Watch(lane) if lane.account.starts_with("late"));
    tokio::select! {
        () = tries => {}
        () = hinted(&mut hints, late) => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_locked_by_a_stranger_is_not_waited_for_for_ever() {
    let db = database();
    let store = db.open().await;
    store.take(&lane("one"), Timestamp(0)).await.unwrap();
    let (stranger, connection) =
        tokio_postgres::connect(&db.url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    stranger.batch_execute("BEGIN; SELECT 1 FROM lane FOR UPDATE").await.unwrap();
    let started = Instant::now();
    assert!(is_away(store.register(vec![new("1", "ats", "one", "t1")]).await));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    stranger.batch_execute("ROLLBACK").await.unwrap();
    store.register(vec![new("1", "ats", "one", "t1")]).await.unwrap();
}

/// A way to the database that can be cut: nobody hears anything then, as when a cable is pulled.
struct Cable {
    url: String,
    cut: tokio::sync::watch::Sender<bool>,
}

impl Cable {
    async fn to(db: &Database) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let cut = tokio::sync::watch::Sender::new(false);
        let (closing, to) = (cut.clone(), db.cluster.port);
        tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let mut cut = closing.subscribe();
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        () = async { drop(cut.wait_for(|cut| *cut).await) } => {
                            std::future::pending::<()>().await;
                        }
                    }
                });
            }
        });
        let url = db.url.replace(&to.to_string(), &port.to_string());
        Self { url, cut }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_falls_silent_is_unavailable_within_the_deadline() {
    let db = database();
    let cable = Cable::to(&db).await;
    let store = Postgres::open(&cable.url).await.unwrap();
    store.ping(Timestamp(1)).await.unwrap();
    cable.cut.send_replace(true);
    let started = Instant::now();
    assert!(is_away(store.ping(Timestamp(2)).await));
    assert!(started.elapsed() < Duration::from_secs(17), "{:?}", started.elapsed());
    cable.cut.send_replace(false);
    store.ping(Timestamp(3)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_cut_off_in_mid_transaction_blocks_a_takeover_for_two_seconds_at_most() {
    let db = database();
    let cable = Cable::to(&db).await;
    let (cut_off, b) = (Arc::new(Postgres::open(&cable.url).await.unwrap()), db.daemon("b").await);
    b.store.register(vec![new("1", "ats", "one", "t1")]).await.unwrap();
    let lease = cut_off.take(&lane("one"), Timestamp(0)).await.unwrap().lease;
    let task = cut_off.changes(&lease, 0, 9).await.unwrap()[0].task;
    // It begins to settle and waits for the lane; the answer will find the cable cut, so that its
    // transaction holds the lane and hears no more.
    let (stranger, connection) =
        tokio_postgres::connect(&db.url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    stranger.batch_execute("BEGIN; SELECT 1 FROM lane FOR UPDATE").await.unwrap();
    let settling = Arc::clone(&cut_off);
    let settling =
        tokio::spawn(async move { settling.settle(&lease, ending(task), success()).await });
    let waits = "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while tokio::task::block_in_place(|| db.sql(waits)) != "1" {}
    cable.cut.send_replace(true);
    stranger.batch_execute("ROLLBACK").await.unwrap();
    let open = "SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND state = 'idle in transaction'";
    while tokio::task::block_in_place(|| db.sql(open)) != "1" {}
    let started = Instant::now();
    let taken = b.claim("one").await.expect("nobody in the fleet has it");
    assert!(started.elapsed() < Duration::from_millis(2_800), "{:?}", started.elapsed());
    b.store.settle(&taken.lane.lease, ending(task), success()).await.unwrap();
    cable.cut.send_replace(false);
    assert!(is_away(settling.await.unwrap()), "it never learned what became of it");
    let again = cut_off.settle(&lease, ending(task), success()).await;
    assert!(matches!(again, Err(StoreError::LeaseLost)), "{again:?}");
}
