//! What only the embedded store promises: one daemon a file, and no guessing at foreign files.

use std::path::Path;
use std::sync::Arc;

use outcomed::clock::{SystemClock, Timestamp};
use outcomed::store::Store;
use outcomed::store::sqlite::{OpenError, SchemaError, Sqlite};

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
