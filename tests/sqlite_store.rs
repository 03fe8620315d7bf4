//! What only the embedded store promises: one daemon a file, and no guessing at foreign files.

mod sqlite_store {
    pub mod commits;
    pub mod plans;
}

use std::path::Path;
use std::sync::Arc;

use outcomed::clock::{SystemClock, Timestamp};
use outcomed::outcome::{Ids, Observed, Outcome, Reason, Report};
use outcomed::store::sqlite::{OpenError, SchemaError, Sqlite};
use outcomed::store::{
    NewRegistration, NewRewatch, Registered, Registry, RewatchFilter, Rewatches, Store,
};
use outcomed::task::{Kind, State, TaskRef};

fn open(path: &Path) -> Result<Sqlite, OpenError> {
    Sqlite::open(path, Arc::new(SystemClock::new()), Arc::new(|_, _| {}))
}

fn message(result: Result<Sqlite, OpenError>) -> String {
    result.err().expect("it must be refused").to_string()
}

#[test]
fn a_second_daemon_on_the_same_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let first = open(&path).unwrap();
    let told = message(open(&path));
    assert!(told.contains("another outcomed is using it"), "{told}");
    drop(first);
    open(&path).unwrap();
}

#[test]
fn a_newer_schema_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    drop(open(&path).unwrap());
    let db = rusqlite::Connection::open(&path).unwrap();
    db.pragma_update(None, "user_version", 999).unwrap();
    drop(db);
    let refused = open(&path).err().unwrap();
    assert!(matches!(
        refused,
        OpenError::Schema { source: SchemaError::Newer { found: 999, .. }, .. }
    ));
}

#[test]
fn another_programs_database_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch("CREATE TABLE theirs (a); INSERT INTO theirs VALUES (1);").unwrap();
    drop(db);
    assert!(message(open(&path)).contains("another program"));
    let db = rusqlite::Connection::open(&path).unwrap();
    let tables: i64 =
        db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap();
    assert_eq!(tables, 1);
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let told = message(open(Path::new("/nonexistent/a.db")));
    assert!(
        told.contains("/nonexistent/a.db") && told.contains("does the directory exist"),
        "{told}"
    );
}

#[test]
fn only_its_owner_may_read_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let _store = open(&path).unwrap();
    for suffix in ["", "-wal", "-shm", ".lock"] {
        let file = directory.path().join(format!("a.db{suffix}"));
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", file.display());
    }
}

#[tokio::test]
async fn writes_that_wait_together_share_one_commit() {
    let directory = tempfile::tempdir().unwrap();
    let commits = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&commits);
    let on_commit = Arc::new(move |writes, _| seen.lock().unwrap().push(writes));
    let store =
        Sqlite::open(&directory.path().join("a.db"), Arc::new(SystemClock::new()), on_commit)
            .unwrap();
    let pings = (0..200).map(|n| store.ping(Timestamp(n)));
    for result in futures_util::future::join_all(pings).await {
        result.unwrap();
    }
    let commits = commits.lock().unwrap();
    assert_eq!(commits.iter().sum::<usize>(), 200);
    assert!(commits.len() < 100, "{} commits for 200 writes", commits.len());
}

/// A file of the version before registrations could be watched again: one task of each end.
fn file_of_before(path: &Path) {
    let db = rusqlite::Connection::open(path).unwrap();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/sqlite/migrations");
    for migration in ["0001_initial.sql", "0002_delivery.sql"] {
        db.execute_batch(&std::fs::read_to_string(format!("{folder}/{migration}")).unwrap())
            .unwrap();
    }
    db.pragma_update(None, "application_id", 0x6f75_7463).unwrap();
    db.pragma_update(None, "user_version", 2).unwrap();
    db.execute_batch(
        "INSERT INTO lane (account, kind) VALUES ('default', 'hire.website_delivery')",
    )
    .unwrap();
    let ends = [
        Outcome::unresolved(Reason::TimedOut),
        Outcome::unresolved(Reason::TaskNotFound),
        Outcome::succeeded(Ids::default()),
    ];
    for (id, outcome) in (1..).zip(ends) {
        let named = task(id);
        let observed = Observed {
            registered_at: Timestamp(1_000),
            last_pending_at: None,
            settled_at: Timestamp(61_123),
            polls: 3,
            log_id: None,
        };
        // A task whose time was over never had an outcome of its own.
        let kept = (id > 1).then(|| serde_json::to_string(&outcome).unwrap());
        db.execute(
            "INSERT INTO task (id, lane, website_id, delivery_task_id, watched, version,
                 registered_at, polls, not_found_since, settled_at, outcome)
             VALUES (?1, 1, ?2, ?3, 0, ?1, 1000, 3, 2000, iif(?4 IS NULL, NULL, 61123), ?4)",
            rusqlite::params![id, named.website_id, named.delivery_task_id, kept],
        )
        .unwrap();
        let report = Report::new(named, outcome, observed);
        let metadata = serde_json::value::RawValue::from_string("{}".into()).unwrap();
        let body = outcomed::outcome::body(&format!("reg_{id}"), &report, &metadata);
        db.execute(
            "INSERT INTO registration (id, client, task, callback_url, callback_origin,
                 callback_host, metadata, state, created_at, give_up_at, body, outcome_position,
                 finished_at)
             VALUES ('reg_' || ?1, 'ats', ?1, 'https://ats.example/hook', 'https://ats.example:443',
                 'ats.example', '{}', 'delivered', 1000, 61000, ?2, ?1, 62000)",
            rusqlite::params![id, body],
        )
        .unwrap();
    }
}

fn task(id: i64) -> TaskRef {
    TaskRef {
        kind: Kind::default(),
        account: "default".into(),
        website_id: "7047318856652261676".into(),
        delivery_task_id: format!("t{id}"),
    }
}

#[tokio::test]
async fn a_file_of_before_opens_and_what_was_unresolved_in_it_can_be_watched_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    file_of_before(&path);
    let store = open(&path).unwrap();
    let filter = RewatchFilter {
        client: None,
        account: None,
        reason: None,
        since: Timestamp(61_123),
        until: Timestamp(61_124),
    };
    let (id, owner) = ("rwt_1".into(), "ops".into());
    let new = NewRewatch { id, owner, filter, created_at: Timestamp(70_000) };
    assert_eq!(store.begin_rewatch(new).await.unwrap().unwrap().matched, 2);
    let page = store.rewatch_page(9, Timestamp(70_000)).await.unwrap().unwrap();
    let found: Vec<_> =
        page.found.iter().map(|it| (it.registered.id.as_str(), it.reason.name())).collect();
    assert_eq!(found, [("reg_1", "timed_out"), ("reg_2", "task_not_found")]);
    let again = |n: i64| NewRegistration {
        id: format!("reg_9{n}"),
        client: "ats".into(),
        task: task(n),
        callback_url: "https://ats.example/hook".into(),
        callback_origin: "https://ats.example:443".into(),
        callback_host: "ats.example".into(),
        metadata: "{}".into(),
        created_at: Timestamp(70_000),
        give_up_at: Timestamp(130_000),
    };
    let stored = store.register((1..4).map(again).collect()).await.unwrap();
    let told: Vec<(&str, State)> = stored
        .iter()
        .map(|it| match it {
            Registered::New(it) | Registered::Existing(it) => (it.id.as_str(), it.state),
        })
        .collect();
    assert_eq!(
        told,
        [("reg_91", State::Watching), ("reg_92", State::Watching), ("reg_3", State::Delivered)]
    );
}
