//! Claims about what the store asks of Postgres, counted by Postgres.

use std::time::Duration;

use outcomed::clock::Timestamp;
use outcomed::outcome::{Outcome, Reason};
use outcomed::store::fleet::Fleet;
use outcomed::store::{
    Attempt, AttemptDetails, Checkpoint, Destination, DestinationPlace, Lanes, Lease, Next, Outbox,
    Progress, Registry, Reservation, Store,
};
use outcomed::task::TaskId;

use super::fixture::{Daemon, Database, database, ending, new, success};

/// What this database was asked since the last reset, but for hints.
const ASKED: &str = "FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
    WHERE d.datname = current_database() AND query !~ 'pg_notify|pg_stat|^SET|set_config|LISTEN'";

impl Database {
    /// Sessions from now on have the plan of every statement logged.
    fn explain_everything(&self) {
        let name = self.url.rsplit('/').next().unwrap();
        self.sql(&format!("ALTER DATABASE {name} SET session_preload_libraries = 'auto_explain'"));
        self.sql(&format!("ALTER DATABASE {name} SET auto_explain.log_min_duration = 0"));
    }

    fn forget_statements(&self) {
        self.sql(
            "SELECT pg_stat_statements_reset(0, oid, 0) FROM pg_database
             WHERE datname = current_database()",
        );
    }
}

fn attempt() -> Attempt {
    Attempt {
        number: 1,
        at: Timestamp(5_000),
        duration: Duration::from_millis(20),
        status: Some(200),
        error: None,
        reply_excerpt: None,
        verdict: "delivered".into(),
        details: AttemptDetails::default(),
    }
}

/// A task's life from its registration on: everything that asks the store.
async fn live(daemon: &Daemon, lease: &Lease, account: &str, id: &str, task: TaskId) {
    let store = &daemon.store;
    let checkpoint = Checkpoint {
        reservations: Some(vec![Reservation { at: Timestamp(1), polls: 50, boot: None }]),
        memory: None,
        progress: vec![(task, Progress { polls: 1, ..Progress::default() })],
    };
    store.checkpoint(lease, checkpoint).await.unwrap();
    store.settle(lease, ending(task), success()).await.unwrap();
    let origin = format!("https://{account}.example:443");
    let due = store.due(&Destination::new("ats", origin), Timestamp(9_000), 20).await.unwrap();
    let delivery = due.iter().find(|due| due.registration_id == format!("reg_{id}")).unwrap();
    assert!(store.record_attempt(delivery, attempt(), Next::Delivered).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tasks_life_takes_twelve_statements_four_of_them_begin_or_commit() {
    const TASKS: usize = 40;
    let db = database();
    let a = db.daemon("a").await;
    db.sql("CREATE EXTENSION pg_stat_statements");
    let lease = a.claim("one").await.unwrap().lane.lease;
    let life = async |id: String| {
        a.store.register(vec![new(&id, "ats", "one", &id)]).await.unwrap();
        // Not the store's doing: how this test learns the row that a lane learns by `changes`.
        let task = db.sql(&format!("SELECT id FROM task WHERE delivery_task_id = '{id}'"));
        live(&a, &lease, "ats", &id, TaskId(task.parse().unwrap())).await;
    };
    life("warm".into()).await;
    db.forget_statements();
    for n in 0..TASKS {
        life(format!("t{n}")).await;
    }
    let by_hand = "AND query !~ '^SELECT id FROM task WHERE delivery_task_id'";
    let all = db.sql(&format!("SELECT sum(calls) {ASKED} {by_hand}"));
    let listed = db.sql(&format!("SELECT calls, left(query, 60) {ASKED} {by_hand}"));
    // register: BEGIN, 2, COMMIT; checkpoint 1; settle: BEGIN, 3, COMMIT; due 1; attempt 1.
    assert_eq!(all, (12 * TASKS).to_string(), "{listed}");
    let framing = db.sql(&format!("SELECT sum(calls) {ASKED} AND query ~ '^(BEGIN|COMMIT)'"));
    assert_eq!(framing, (4 * TASKS).to_string());
    let beat = async || drop(a.store.beat(&a.me, &[lease]).await.unwrap());
    // Its connection is its own, made by the first one.
    beat().await;
    db.forget_statements();
    beat().await;
    assert_eq!(db.sql(&format!("SELECT sum(calls) {ASKED}")), "3", "however many lanes");
}

/// As many registrations as are asked for over 200 lanes, of which a fifth is watched, a tenth is being delivered,
/// to 20 origins, and the rest is history.
const FILL: &str = include_str!("fill.sql");
const LANES: usize = 200;

/// `PG_ROWS=1000000 PG_EXPLAIN=1 cargo test --release --test postgres_store every_hot` is the whole
/// size, and prints the plans.
fn rows() -> usize {
    std::env::var("PG_ROWS").map_or(200_000, |text| text.parse().expect("a number"))
}

/// The plans that Postgres used for what it was asked, in its own words, by statement; but for what
/// this test itself asks.
fn plans(log: &str) -> Vec<(String, String)> {
    let mut plans = std::collections::BTreeMap::new();
    for entry in log.split("Query Text: ").skip(1) {
        let lines = entry
            .lines()
            .take_while(|line| line.starts_with(['\t', ' ']) || !line.contains("LOG:"));
        let entry = lines.collect::<Vec<_>>().join("\n");
        let Some(at) = entry.find("(cost=") else { continue };
        let start = entry[..at].rfind('\n').unwrap_or(0);
        let (statement, plan) = entry.split_at(start);
        let statement = statement.split_whitespace().collect::<Vec<_>>().join(" ");
        let ours = ["pg_stat", "pg_class", "min(id) FROM task", "SELECT id FROM task WHERE del"];
        if !ours.iter().any(|word| statement.contains(word)) {
            plans.insert(statement, plan.to_owned());
        }
    }
    plans.into_iter().collect()
}

#[expect(clippy::print_stderr, reason = "the plans are for people to read")]
fn assert_indexed(plans: &[(String, String)]) {
    assert!(plans.len() >= 20, "{} plans", plans.len());
    for (statement, plan) in plans {
        if std::env::var_os("PG_EXPLAIN").is_some() {
            eprintln!("{statement}{plan}\n");
        }
        for table in ["registration", "task", "attempt"] {
            let scan = format!("Seq Scan on {table}");
            assert!(!plan.contains(&scan), "{statement}\n{plan}");
        }
    }
}

/// Blocks of memory that a hot statement may look at in a store of that size, of 8 KiB each. A
/// table's scan would be thousands.
const BLOCKS_MAX: u32 = 250;

#[tokio::test(flavor = "multi_thread")]
async fn every_hot_statement_uses_indexes_at_200_000_rows() {
    let db = database();
    db.explain_everything();
    let a = db.daemon("a").await;
    db.sql("CREATE EXTENSION pg_stat_statements");
    let each = rows() / LANES;
    tokio::task::block_in_place(|| {
        db.sql(&FILL.replace("TASKS_OF_A_LANE", &each.to_string()));
        db.sql("ANALYZE");
    });
    let logged = db.cluster.log().len();
    let pages = "SELECT min(relpages) FROM pg_class WHERE relname IN ('task', 'registration')";
    assert!(db.sql(pages).parse::<u32>().unwrap() > 10 * BLOCKS_MAX, "too small to tell");
    a.store.beat(&a.me, &[]).await.unwrap();
    let lease = a.claim("tenant-7").await.unwrap().lane.lease;
    db.forget_statements();
    // More often than Postgres tries plans for the values at hand before it settles on one.
    for n in 0..12 {
        let id = format!("n{n}");
        let task = a.watch(&lease, "tenant-7", &id).await;
        a.store.register(vec![new(&format!("{id}x"), "ats", "tenant-7", &id)]).await.unwrap();
        live(&a, &lease, "ats", &id, task).await;
        a.store.changes(&lease, each as u64, 100).await.unwrap();
        a.store
            .due(&Destination::new("c7", "https://o7.example:443"), Timestamp(9_000), 16)
            .await
            .unwrap();
        a.store.outcomes("c7", 1_000 * n, 20).await.unwrap();
        a.store.find("reg_4711").await.unwrap();
        a.store.attempts("reg_4716").await.unwrap();
        a.store.redeliver(&format!("reg_{}", 4716 + 10 * n), Timestamp(9_000)).await.unwrap();
        a.store.register(vec![new(&format!("{id}c"), "crm", "tenant-8", &id)]).await.unwrap();
        a.store.cancel(&format!("reg_{id}c"), Timestamp(9_000)).await.unwrap();
        let late = format!("old-tenant-7-{}", 14 + 10 * n);
        a.store.register(vec![new(&format!("{id}l"), "late", "tenant-7", &late)]).await.unwrap();
        let waiting = db.sql(
            "SELECT min(id) FROM task WHERE watched AND lane = (SELECT id FROM \
                              lane WHERE account = 'tenant-7')",
        );
        let mut over = ending(TaskId(waiting.parse().unwrap()));
        over.at = Timestamp(99_000);
        a.store.give_up(&lease, over, Outcome::unresolved(Reason::TimedOut)).await.unwrap();
        a.store.beat(&a.me, &[lease]).await.unwrap();
        a.store.ping(Timestamp(1)).await.unwrap();
        assert_eq!(a.store.prune(Timestamp(4_000), 5).await.unwrap(), 5);
    }
    let blocks = "(shared_blks_hit + shared_blks_read) / calls";
    // The watched tasks of a lane are read in one piece, when it is taken: a fifth of its tasks,
    // each with its registrations.
    let hot = "AND query !~ 'AND watched ORDER BY version|min\\(id\\) FROM task'";
    let table = db.sql(&format!(
        "SELECT {blocks}, calls, regexp_replace(left(query, 140), '\\s+', ' ', 'g')
         {ASKED} {hot} ORDER BY 1 DESC"
    ));
    let whole = "AND query ~ 'AND watched ORDER BY version'";
    let whole = db.sql(&format!("SELECT {blocks} {ASKED} {whole}")).parse::<u32>().unwrap();
    let watched = u32::try_from(each / 5 + 12).unwrap();
    assert!(whole < 10 * watched, "{whole} blocks to read a lane of {watched} watched tasks");
    let most = table.split('|').next().unwrap();
    assert!(most.parse::<u32>().unwrap() <= BLOCKS_MAX, "blocks|calls|statement\n{table}");

    assert_indexed(&plans(&db.cluster.log()[logged..]));

    // What scans walk grows with lanes and origins that have work, not with rows.
    db.forget_statements();
    let pairs: u32 = 200;
    assert_eq!(a.store.holdings(Timestamp(0)).await.unwrap().len(), 200);
    assert_eq!(a.store.lanes().await.unwrap().len(), 200);
    a.store.destinations(&DestinationPlace::default(), 1_000).await.unwrap();
    let most = db.sql(&format!("SELECT max({blocks}) {ASKED}")).parse::<u32>().unwrap();
    assert!(most < 25 * pairs, "{most} blocks for {pairs} lanes");
}
