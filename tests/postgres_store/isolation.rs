//! Claims about one kind of work that holds up no other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use outcomed::store::fleet::Fleet;
use outcomed::store::postgres::Postgres;
use outcomed::store::{Hint, Lanes, Outbox, Registry, Store};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::fixture::{Database, database, ending, hinted, lane, new, success};

/// A heartbeat that takes longer is given up, and one that is late by a lease loses every lane.
const BEAT_MAX: Duration = Duration::from_secs(2);

/// Somebody holds what most statements need, for as long as they may wait for it.
fn hold_tables(db: &Database) -> std::thread::JoinHandle<String> {
    let (cluster, name) = (db.cluster, db.url.rsplit('/').next().unwrap().to_owned());
    let sql = "BEGIN; LOCK TABLE registration, task; SELECT pg_sleep(5)";
    std::thread::spawn(move || cluster.psql(&name, sql))
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_are_kept_while_thousands_expire_together_and_every_other_statement_is_slow() {
    let db = database();
    let a = db.daemon("a").await;
    let lease = a.claim("one").await.unwrap().lane.lease;
    let task = a.watch(&lease, "one", "t1").await;
    let (store, me) = (Arc::new(a.store), a.me);
    let holder = hold_tables(&db);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut waiting = tokio::task::JoinSet::new();
    for n in 0..3_000 {
        let (work, client) = (Arc::clone(&store), Arc::clone(&store));
        waiting.spawn(async move { drop(work.give_up(&lease, ending(task), success()).await) });
        if n < 200 {
            waiting.spawn(async move { drop(client.find("reg_t1").await) });
        }
    }
    for n in 0..6 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let begun = Instant::now();
        let roster = tokio::time::timeout(BEAT_MAX, store.beat(&me, &[lease])).await;
        let roster = roster.unwrap_or_else(|_| panic!("heartbeat {n} was given up")).unwrap();
        assert_eq!(roster.lost, []);
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        // Another lane can be claimed meanwhile, too.
        let account = format!("other{n}");
        let claimed = tokio::time::timeout(BEAT_MAX, store.claim(&me, &lane(&account))).await;
        drop(claimed);
    }
    waiting.shutdown().await;
    tokio::task::spawn_blocking(|| holder.join().unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_wait_for_delays_neither_polling_nor_delivery() {
    let db = database();
    let store = Arc::new(db.open().await);
    let holder = hold_tables(&db);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let store = Arc::clone(&store);
        clients.spawn(async move { drop(store.find("reg_t1").await) });
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begun = Instant::now();
    // Needs neither table: only a connection.
    store.ping(outcomed::clock::Timestamp(1)).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    clients.shutdown().await;
    tokio::task::spawn_blocking(|| holder.join().unwrap()).await.unwrap();
    store
        .due(
            &outcomed::store::Destination::new("ats", "https://ats.example:443"),
            outcomed::clock::Timestamp(1),
            1,
        )
        .await
        .unwrap();
}

/// Passes connections on to the database. Those that are open when it is told to freeze stay open
/// and carry nothing any more, as behind a firewall that has forgotten them.
async fn proxy(to: u16) -> (u16, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let frozen = Arc::new(AtomicBool::new(false));
    let shared = Arc::clone(&frozen);
    tokio::spawn(async move {
        while let Ok((here, _)) = listener.accept().await {
            let there = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
            // One that comes after the freeze is a new one.
            let freezes = !shared.load(Ordering::Relaxed);
            let (a, b) = (here.into_split(), there.into_split());
            for (mut from, mut into) in [(a.0, b.1), (b.0, a.1)] {
                let frozen = Arc::clone(&shared);
                tokio::spawn(async move {
                    let mut bytes = vec![0; 16_384];
                    while let Ok(n @ 1..) = from.read(&mut bytes).await {
                        if freezes && frozen.load(Ordering::Relaxed) {
                            std::future::pending::<()>().await;
                        }
                        if into.write_all(&bytes[..n]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        }
    });
    (port, frozen)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_open_connection_for_hints_is_replaced_within_seconds() {
    let db = database();
    let (port, frozen) = proxy(db.cluster.port).await;
    let url = db.url.replace(&format!(":{}/", db.cluster.port), &format!(":{port}/"));
    let hearing = Postgres::open(&url).await.unwrap();
    let mut hints = hearing.hints();
    let telling = db.open().await;
    telling.register(vec![new("1", "ats", "before", "t1")]).await.unwrap();
    let of = |account: &'static str| move |hint: &Hint| matches!(hint, Hint::Watch(lane) if lane.account == account);
    hinted(&mut hints, of("before")).await;
    frozen.store(true, Ordering::Relaxed);
    let begun = Instant::now();
    let tell = async {
        for n in 0.. {
            let id = format!("x{n}");
            telling.register(vec![new(&id, "ats", "after", &id)]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    tokio::select! {
        () = tell => unreachable!(),
        () = hinted(&mut hints, of("after")) => {}
    }
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}
