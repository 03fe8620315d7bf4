//! Claims about what arrives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use outcomed::clock::SystemClock;
use outcomed::store::Lanes as _;
use outcomed::store::migration::{self, Event, Migrated};
use tokio::sync::Notify;

use super::fixture::{ACCOUNTS, World, taken, told, world, world_on};
use crate::postgres_cluster::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn every_state_arrives_as_it_was_to_the_byte() {
    let world = world(80).await;
    let before = told(&world.sqlite().unwrap()).await;
    let Migrated::Now(tallies) = world.run().await.unwrap() else { panic!("it was never moved") };
    let rows: BTreeMap<&str, u64> = tallies.iter().map(|t| (t.table, t.rows)).collect();
    assert_eq!((rows["lane"], rows["task"], rows["registration"]), (2, 160, 192));
    assert_eq!((rows["redelivery"], rows["notice"], rows["outcome_log"]), (3, 2, 2));
    let replaced: u64 = tallies.iter().map(|t| t.replaced).sum();
    assert!(replaced > 0, "U+0000 is replaced as the store replaces it");

    let after = told(&world.postgres().await).await;
    assert_eq!(before.len(), after.len());
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before, after);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lanes_next_owner_finds_what_its_last_one_left() {
    let world = world(24).await;
    let mut before = Vec::new();
    for account in ACCOUNTS {
        before.push(taken(&world.sqlite().unwrap(), account).await);
    }
    world.moved().await;
    let store = world.postgres().await;
    for (account, (old, before)) in ACCOUNTS.into_iter().zip(before) {
        let (new, after) = taken(&store, account).await;
        assert_eq!(after, before);
        assert!(new.epoch > old.epoch, "whoever still held it has lost it");
    }
}

/// By SQL of its own: a column that was added to the stores and forgotten here is found.
#[tokio::test(flavor = "multi_thread")]
async fn no_table_or_column_is_forgotten() {
    let world = world(24).await;
    world.moved().await;
    let db = rusqlite::Connection::open(&world.file).unwrap();
    let list = |sql: &str| -> Vec<String> {
        let mut statement = db.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    };
    let tables = list(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT IN
             ('heartbeat', 'moved', 'registration_count')",
    );
    assert!(tables.len() >= 7, "{tables:?}");
    let mut only_there = BTreeSet::new();
    for table in tables {
        let columns = list(&format!("SELECT name FROM pragma_table_info('{table}')"));
        let types = types(&world, &table);
        only_there
            .extend(types.keys().filter(|c| !columns.contains(c)).map(|c| format!("{table}.{c}")));
        for column in &columns {
            // A receiver's words, in which U+0000 is replaced, are compared elsewhere.
            if ["error", "last_error", "reply_excerpt"].contains(&column.as_str()) {
                continue;
            }
            let quoted = format!("\"{column}\"");
            let ours = list(&format!(
                "SELECT iif({quoted} IS NULL, '-', '=' || hex(CAST({quoted} AS BLOB))) FROM {table}
                 ORDER BY 1"
            ));
            let as_bytes = match types[column].as_str() {
                "bytea" => quoted,
                "boolean" => format!("convert_to({quoted}::int::text, 'UTF8')"),
                _ => format!("convert_to({quoted}::text, 'UTF8')"),
            };
            let theirs = world.sql(&format!(
                "SELECT coalesce('=' || upper(encode({as_bytes}, 'hex')), '-') FROM {table}"
            ));
            let mut theirs: Vec<String> = theirs.split('\n').map(str::to_owned).collect();
            theirs.sort_unstable();
            assert_eq!(ours, theirs, "{table}.{column}");
        }
    }
    // Who of a fleet owns a lane, and since when: nobody does, after a move.
    let fleets = ["owned_since", "owner", "takeovers", "reserved_at"].map(|c| format!("lane.{c}"));
    only_there.retain(|column| !fleets.contains(column));
    assert_eq!(only_there, BTreeSet::from(["registration.lane".to_owned()]));
}

fn types(world: &World, table: &str) -> BTreeMap<String, String> {
    let all = world.sql(&format!(
        "SELECT column_name || ' ' || data_type FROM information_schema.columns
         WHERE table_name = '{table}'"
    ));
    let pair = |line: &str| line.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned()));
    all.lines().filter_map(pair).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_arrived_otherwise_is_found_before_anything_is_committed() {
    let changed = world(24).await;
    changed
        .rig(
            "BEFORE INSERT ON registration FOR EACH ROW WHEN (NEW.id = 'reg_0000003ats')",
            "NEW.body = NEW.body || ' '::bytea;",
        )
        .await;
    let told = changed.run().await.unwrap_err().to_string();
    assert!(told.contains("registration would not be alike"), "{told}");
    assert!(changed.sqlite_refuses().contains("not finished"));
    assert_eq!(changed.sql("SELECT count(*) FROM registration"), "0", "nobody delivers that");

    let lost = world(24).await;
    lost.rig(
        "AFTER INSERT ON notice FOR EACH STATEMENT",
        "DELETE FROM attempt WHERE registration = 'reg_0000005ats';",
    )
    .await;
    let rows = rusqlite::Connection::open(&lost.file).unwrap();
    let rows: u32 = rows.query_row("SELECT count(*) FROM attempt", [], |row| row.get(0)).unwrap();
    let told = lost.run().await.unwrap_err().to_string();
    let counted = format!("attempt would not be alike in both stores ({rows} rows here");
    assert!(told.contains(&counted), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_crashes_in_mid_move_is_waited_for() {
    let world = world_on(Box::leak(Box::new(Cluster::start())), 1_600).await;
    let before = told(&world.sqlite().unwrap()).await;
    world.slow_down().await;
    let (there, waited) = (Notify::new(), AtomicBool::new(false));
    let watcher = |news: Event<'_>| match news {
        Event::Rows { table: "registration", .. } => there.notify_one(),
        Event::StartingOver(_) => waited.store(true, Ordering::Relaxed),
        Event::Rows { .. } => {}
    };
    let clock = SystemClock::new();
    let crash = async {
        there.notified().await;
        tokio::task::block_in_place(|| {
            world.cluster.kill();
            world.cluster.restart();
        });
    };
    let (moved, ()) =
        tokio::join!(migration::run(&world.file, &world.url, &clock, &watcher), crash);
    assert!(matches!(moved.unwrap(), Migrated::Now(_)) && waited.into_inner());
    assert_eq!(told(&world.postgres().await).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_store_moves_too() {
    let world = world(0).await;
    rusqlite::Connection::open(&world.file)
        .unwrap()
        .execute_batch("DELETE FROM lane; DELETE FROM redelivery; DELETE FROM notice")
        .unwrap();
    world.moved().await;
    assert!(world.postgres().await.lanes().await.unwrap().is_empty());
}
