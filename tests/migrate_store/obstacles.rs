//! Claims about what is in the way, and about never running both stores at once.

use outcomed::clock::{SystemClock, Timestamp};
use outcomed::store::fleet::Fleet;
use outcomed::store::migration::{self, Migrated, MigrationError};
use outcomed::store::postgres::Postgres;
use outcomed::store::{Registry, Store};

use super::fixture::{lane, new, told, world};

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_a_daemon_holds_is_refused_and_left_as_it_is() {
    let world = world(4).await;
    let daemon = world.sqlite().unwrap();
    let told = world.run().await.unwrap_err();
    assert!(matches!(told, MigrationError::InUse { .. }), "{told}");
    assert!(told.to_string().contains("stop it first"), "{told}");
    drop(daemon);
    world.sqlite().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_with_other_data_is_refused_and_both_are_left_as_they_are() {
    let world = world(4).await;
    let other = world.postgres().await;
    other.register(vec![new("x", "ats", "default", "other")]).await.unwrap();
    let told = world.run().await.unwrap_err().to_string();
    assert!(told.contains("already has data of its own (in lane, task, registration)"), "{told}");
    drop(other);
    world.sqlite().unwrap();
    world.postgres().await;
    assert_eq!(world.sql("SELECT count(*) FROM registration"), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_daemons_use_is_refused_by_their_names() {
    let world = world(4).await;
    let daemon = world.postgres().await;
    let me = daemon.join("host-7", Timestamp(1)).await.unwrap();
    let told = world.run().await.unwrap_err().to_string();
    assert!(told.contains("outcomed is running") && told.contains("host-7"), "{told}");
    world.sqlite().unwrap();
    daemon.leave(&me).await.unwrap();
    world.moved().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_starts_while_rows_go_over_waits_until_all_are_there() {
    let world = world(1_000).await;
    world.slow_down().await;
    let daemon = world.postgres().await;
    let joining = async {
        while !tokio::task::block_in_place(|| world.is_copying()) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        while daemon.join("late", Timestamp(1)).await.is_err() {}
        world.sql("SELECT count(*) FROM registration")
    };
    let (moved, seen) = tokio::join!(world.run(), joining);
    assert!(matches!(moved.unwrap(), Migrated::Now(_)));
    assert_eq!(seen, "2032");
}

/// Cut off after the database has committed, and before the file knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_was_cut_off_at_its_very_end_is_finished_or_taken_back() {
    let world = world(4).await;
    let cut_off = || {
        let db = rusqlite::Connection::open(&world.file).unwrap();
        db.execute_batch("UPDATE moved SET finished_at = NULL, committing = 1").unwrap();
        assert!(world.sqlite_refuses().contains("not finished"));
    };
    world.moved().await;
    cut_off();
    assert!(matches!(world.run().await.unwrap(), Migrated::Before { .. }));
    assert!(world.sqlite_refuses().contains("moved to"));
    cut_off();
    let nowhere = "postgres://postgres@127.0.0.1:1/gone";
    let clock = SystemClock::new();
    let unknown = migration::abandon(&world.file, nowhere, &clock);
    let unknown = tokio::time::timeout(std::time::Duration::from_millis(500), unknown).await;
    assert!(!matches!(unknown, Ok(Ok(()))), "only the database knows");
    assert!(world.sqlite_refuses().contains("not finished"));
    world.abandon().await.unwrap();
    world.sqlite().unwrap();
    assert!(world.postgres_refuses().await.contains("taken back"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_version_left_half_done_needs_an_empty_database() {
    let world = world(4).await;
    world.moved().await;
    world.sql("UPDATE store_move SET finished_at = NULL");
    let db = rusqlite::Connection::open(&world.file).unwrap();
    db.execute_batch(
        "UPDATE moved SET finished_at = NULL; ALTER TABLE moved DROP COLUMN committing",
    )
    .unwrap();
    drop(db);
    assert!(world.postgres_refuses().await.contains("left unfinished"));
    let told = world.run().await.unwrap_err().to_string();
    assert!(told.contains("earlier version left unfinished: give an empty database"), "{told}");
    let name = world.url.rsplit('/').next().unwrap();
    world.cluster.psql("postgres", &format!("DROP DATABASE {name} WITH (FORCE)"));
    world.cluster.psql("postgres", &format!("CREATE DATABASE {name}"));
    world.moved().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_move_the_file_refuses_daemons_and_says_where_the_data_went() {
    let world = world(4).await;
    world.moved().await;
    let told = world.sqlite_refuses();
    let database = world.url.rsplit('/').next().unwrap();
    assert!(told.contains("its data moved to postgres 127.0.0.1:"), "{told}");
    assert!(told.contains(&format!("/{database} at 20")), "{told}");
    // A version that has never heard of moves knows no such file.
    let db = rusqlite::Connection::open(&world.file).unwrap();
    let id: i32 = db.pragma_query_value(None, "application_id", |row| row.get(0)).unwrap();
    assert_ne!(id, 0x6f75_7463);
    drop(db);
    // Nothing happens twice, not even while a daemon runs on the database.
    let daemon = world.postgres().await;
    daemon.join("a", Timestamp(1)).await.unwrap();
    assert!(matches!(world.run().await.unwrap(), Migrated::Before { .. }));
    let elsewhere = world.cluster.database();
    let again = migration::run(&world.file, &elsewhere, &SystemClock::new(), &|_| {}).await;
    assert!(matches!(again, Err(MigrationError::OtherTarget { .. })), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_takes_one_move_only() {
    let (first, second) = (world(4).await, world(4).await);
    first.moved().await;
    let told =
        migration::run(&second.file, &first.url, &SystemClock::new(), &|_| {}).await.unwrap_err();
    assert!(told.to_string().contains("is the target of another migration"), "{told}");
    second.sqlite().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_is_taken_back_opens_the_file_and_closes_the_database() {
    let world = world(24).await;
    let before = told(&world.sqlite().unwrap()).await;
    assert!(matches!(world.abandon().await, Err(MigrationError::NotMigrated)));
    world.moved().await;
    let daemon = world.postgres().await;
    let me = daemon.join("host-7", Timestamp(1)).await.unwrap();
    let refused = world.abandon().await.unwrap_err().to_string();
    assert!(refused.contains("outcomed is running") && refused.contains("host-7"), "{refused}");
    assert!(world.sqlite_refuses().contains("moved to"), "both would run");
    daemon.leave(&me).await.unwrap();
    drop(daemon);

    world.abandon().await.unwrap();
    assert_eq!(told(&world.sqlite().unwrap()).await, before);
    assert!(world.postgres_refuses().await.contains("taken back"));
    let again = world.run().await.unwrap_err().to_string();
    assert!(again.contains("taken back: give an empty database"), "{again}");
    let anew = world.cluster.database();
    migration::run(&world.file, &anew, &SystemClock::new(), &|_| {}).await.unwrap();
    assert_eq!(told(&Postgres::open(&anew).await.unwrap()).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_failed_halfway_can_be_taken_back_without_its_database() {
    let world = world(24).await;
    world
        .rig(
            "BEFORE INSERT ON attempt FOR EACH STATEMENT",
            "RAISE 'disk full' USING ERRCODE = '22000';",
        )
        .await;
    let told = world.run().await.unwrap_err().to_string();
    assert!(told.contains("disk full") && told.contains("run the same command again"), "{told}");
    assert!(world.sqlite_refuses().contains("not finished"));
    let nowhere = "postgres://postgres@127.0.0.1:1/gone";
    migration::abandon(&world.file, nowhere, &SystemClock::new()).await.unwrap();
    let store = world.sqlite().unwrap();
    store.ping(Timestamp(10)).await.unwrap();
    assert_eq!(
        outcomed::store::Lanes::lanes(&store).await.unwrap(),
        [lane("default"), lane("tenant-b")]
    );
    assert_eq!(world.sql("SELECT count(*) FROM lane"), "0", "all of it or nothing");
}
