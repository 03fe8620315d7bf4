//! Claims about many daemons at once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use outcomed::clock::Timestamp;
use outcomed::store::{
    Attempt, AttemptDetails, Delivery, Destination, Lanes, Next, Outbox, Registered, Registry,
};

use super::fixture::{database, ending, lane, new, success};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_task_registered_from_many_connections_is_one_task() {
    let db = database();
    let stores = join_all((0..4).map(|_| db.open())).await;
    for round in 0..10 {
        let requests = (0..48).map(|n| {
            // One registration and batches; the same and other clients; lanes in either order.
            let id = |part: &str| format!("{round}_{n}_{part}");
            let client = if n % 4 == 0 { "crm" } else { "ats" };
            let task = format!("t{round}");
            let mut batch = vec![new(&id("a"), client, "one", &task)];
            if n % 3 == 0 {
                batch.push(new(&id("b"), client, "two", &task));
            }
            if n % 2 == 0 {
                batch.reverse();
            }
            stores[n % 4].register(batch)
        });
        let answers = join_all(requests).await;
        let made = answers.into_iter().flat_map(Result::unwrap);
        let made = made.filter(|answer| matches!(answer, Registered::New(_))).count();
        assert_eq!(made, 4, "two clients, two lanes");
    }
    assert_eq!(db.sql("SELECT count(*) FROM task"), "20");
    assert_eq!(db.sql("SELECT count(*) FROM registration"), "40");
    // Counted by the server as transactions end; a deadlock would also have cost a whole second.
    let name = db.url.rsplit('/').next().unwrap();
    let deadlocks = format!("SELECT deadlocks FROM pg_stat_database WHERE datname = '{name}'");
    assert_eq!(db.sql(&deadlocks), "0");
}

fn gone(delivery: &Delivery) -> Attempt {
    Attempt {
        number: delivery.attempts + 1,
        at: Timestamp(7_000),
        duration: std::time::Duration::from_millis(5),
        status: Some(410),
        error: None,
        reply_excerpt: None,
        verdict: "gone".into(),
        details: AttemptDetails::default(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_of_every_kind_on_the_same_rows_wait_in_no_circle() {
    let db = database();
    let stores = join_all((0..3).map(|_| db.open())).await;
    let lease = stores[0].take(&lane("one"), Timestamp(0)).await.unwrap().lease;
    for round in 0..15 {
        let id = |n: usize| format!("{round}_{n}");
        let batch = (0..6).map(|n| new(&id(n), ["ats", "crm"][n % 2], "one", &id(n / 2))).collect();
        stores[0].register(batch).await.unwrap();
        let tasks: Vec<_> = stores[0].changes(&lease, 0, 99).await.unwrap();
        let settle = tasks.iter().map(|t| stores[0].settle(&lease, ending(t.task), success()));
        let ids: Vec<String> = (0..6).map(|n| format!("reg_{}", id(n))).collect();
        let cancel = ids.iter().map(|id| stores[1].cancel(id, Timestamp(6_000)));
        let again = (6..9).map(|n| {
            stores[2].register(vec![
                new(&id(n), "erp", "one", &id(n - 6)),
                new(&format!("{}x", id(n)), "ats", "two", &id(n - 6)),
            ])
        });
        let (settled, cancelled, registered, closed, pruned) = tokio::join!(
            join_all(settle),
            join_all(cancel),
            join_all(again),
            async {
                let due = stores[1]
                    .due(&Destination::new("ats", "https://ats.example:443"), Timestamp(9_000), 1)
                    .await?;
                for delivery in due {
                    stores[1].record_attempt(&delivery, gone(&delivery), Next::Gone).await?;
                }
                stores[1].end_gone("ats", "https://ats.example/hook", Timestamp(7_000), 9).await
            },
            outcomed::store::Store::prune(&stores[2], Timestamp(90_000), 3),
        );
        settled.into_iter().for_each(Result::unwrap);
        for cancelled in cancelled {
            cancelled.unwrap();
        }
        for registered in registered {
            registered.unwrap();
        }
        closed.unwrap();
        pruned.unwrap();
    }
    let name = db.url.rsplit('/').next().unwrap();
    let deadlocks = format!("SELECT deadlocks FROM pg_stat_database WHERE datname = '{name}'");
    assert_eq!(db.sql(&deadlocks), "0");
    let stray = "SELECT count(*) FROM registration r JOIN task t ON t.id = r.task
                 WHERE r.state = 'watching' AND (NOT t.watched OR t.outcome IS NOT NULL)";
    assert_eq!(db.sql(stray), "0", "nobody waits for a task that is not watched");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_follows_misses_no_change_and_no_outcome() {
    const TASKS: usize = 300;
    let db = database();
    let stores: Vec<_> =
        join_all((0..3).map(|_| db.open())).await.into_iter().map(Arc::new).collect();
    let lease = stores[0].take(&lane("one"), Timestamp(0)).await.unwrap().lease;
    let done = Arc::new(AtomicBool::new(false));

    let (reader, over) = (Arc::clone(&stores[0]), Arc::clone(&done));
    let follower = tokio::spawn(async move {
        let (mut version, mut position) = (1, 0);
        let (mut tasks, mut outcomes) = (BTreeSet::new(), BTreeSet::new());
        loop {
            let last = over.load(Ordering::SeqCst);
            let changes = reader.changes(&lease, version, 50).await.unwrap();
            let log = reader.outcomes("ats", position, 50).await.unwrap();
            version = changes.last().map_or(version, |change| change.version);
            position = log.last().map_or(position, |(position, _)| *position);
            let none = changes.is_empty() && log.is_empty();
            tasks.extend(changes.into_iter().map(|change| change.task));
            outcomes.extend(log.into_iter().map(|(_, registration)| registration.id));
            if last && none {
                return (tasks.len(), outcomes.len());
            }
        }
    });
    // The first version is skipped by the reader, whose look at 0 is another one.
    stores[0].register(vec![new("first", "crm", "one", "first")]).await.unwrap();
    let writers = (0..3).map(|w| {
        let store = Arc::clone(&stores[w]);
        tokio::spawn(async move {
            for n in (w..TASKS).step_by(3) {
                let name = n.to_string();
                store.register(vec![new(&name, "ats", "one", &name)]).await.unwrap();
                let changes = store.changes(&lease, 0, 10_000).await.unwrap();
                let named = |c: &&outcomed::store::Change| {
                    c.watch.as_ref().is_some_and(|w| w.delivery_task_id == name)
                };
                let task = changes.iter().find(named).unwrap().task;
                store.settle(&lease, ending(task), success()).await.unwrap();
            }
        })
    });
    for writer in join_all(writers).await {
        writer.unwrap();
    }
    done.store(true, Ordering::SeqCst);
    assert_eq!(follower.await.unwrap(), (TASKS, TASKS));
}
