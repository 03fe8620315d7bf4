//! The store whose data move elsewhere: read only, but for the mark that keeps daemons away.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params, params_from_iter};
use uuid::Uuid;

use super::lock::FileLock;
use super::schema::{self, Marked};
use super::{OpenError, configured};
use crate::clock::Timestamp;
use crate::store::moving::{PAGE_ROWS, Row, Table, Value};
use crate::store::{Result, StoreError};

/// The mark: which move, where to, and whether it is over. Not one of the numbered migrations: a
/// file that never moves never has it.
const MARK: &str = "
    CREATE TABLE IF NOT EXISTS moved (
        one         INTEGER PRIMARY KEY CHECK (one = 1),
        id          TEXT    NOT NULL,
        target      TEXT    NOT NULL,
        begun_at    INTEGER NOT NULL,
        finished_at INTEGER
    ) STRICT";

/// What the mark says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Mark {
    pub(in crate::store) id: Uuid,
    /// As a person would write it; no password.
    pub(in crate::store) target: String,
    pub(in crate::store) begun_at: Timestamp,
    pub(in crate::store) finished_at: Option<Timestamp>,
}

/// Reads the mark, if there is one.
pub(super) fn mark(db: &Connection) -> rusqlite::Result<Option<Mark>> {
    let there = "SELECT 1 FROM sqlite_schema WHERE name = 'moved'";
    if db.query_row(there, [], |_| Ok(())).optional()?.is_none() {
        return Ok(None);
    }
    let sql = "SELECT id, target, begun_at, finished_at FROM moved";
    db.query_row(sql, [], |row| {
        let id: String = row.get(0)?;
        Ok(Mark {
            id: Uuid::parse_str(&id).unwrap_or_default(),
            target: row.get(1)?,
            begun_at: Timestamp(row.get(2)?),
            finished_at: row.get::<_, Option<i64>>(3)?.map(Timestamp),
        })
    })
    .optional()
}

/// The file, alone.
pub(in crate::store) struct Leaving {
    db: Arc<Mutex<Connection>>,
    _lock: FileLock,
}

impl Leaving {
    /// Opens the file, which must exist, and brings its schema up to date.
    pub(in crate::store) fn open(path: &Path) -> std::result::Result<Self, OpenError> {
        let shown = || path.display().to_string();
        let lock =
            FileLock::take(path).map_err(|source| OpenError::Locked { path: shown(), source })?;
        let open = || {
            let mut connection = configured(path)?;
            schema::migrate(&mut connection, Marked::Accept)?;
            Ok(connection)
        };
        let db = open().map_err(|source| OpenError::Schema { path: shown(), source })?;
        Ok(Self { db: Arc::new(Mutex::new(db)), _lock: lock })
    }

    pub(in crate::store) async fn mark(&self) -> Result<Option<Mark>> {
        self.with(|db| Ok(mark(db)?)).await
    }

    /// From now on no daemon opens the file.
    pub(in crate::store) async fn set_mark(&self, mark: Mark) -> Result<()> {
        self.with(move |db| {
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            tx.execute_batch(MARK)?;
            tx.execute(
                "INSERT OR REPLACE INTO moved (one, id, target, begun_at, finished_at)
                 VALUES (1, ?1, ?2, ?3, ?4)",
                params![
                    mark.id.to_string(),
                    mark.target,
                    mark.begun_at.0,
                    mark.finished_at.map(|at| at.0)
                ],
            )?;
            schema::set_application(&tx, true)?;
            Ok(tx.commit()?)
        })
        .await
    }

    /// From now on daemons open the file again.
    pub(in crate::store) async fn clear_mark(&self) -> Result<()> {
        self.with(|db| {
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            tx.execute_batch("DROP TABLE IF EXISTS moved")?;
            schema::set_application(&tx, false)?;
            Ok(tx.commit()?)
        })
        .await
    }

    /// How many rows a table has.
    pub(in crate::store) async fn count(&self, table: &'static Table) -> Result<u64> {
        let sql = format!("SELECT count(*) FROM {}", table.name);
        self.with(move |db| Ok(db.query_row(&sql, [], |row| row.get(0))?)).await
    }

    /// The rows after this key (empty: from the start), in the order of their keys.
    pub(in crate::store) async fn page(
        &self,
        table: &'static Table,
        after: Vec<Value>,
    ) -> Result<Vec<Row>> {
        self.with(move |db| page(db, table, &after)).await
    }

    /// Reading waits for the disk: on a thread that may.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let db = Arc::clone(&self.db);
        let work = move || work(&mut db.lock().unwrap_or_else(PoisonError::into_inner));
        let died = |error: tokio::task::JoinError| StoreError::Unavailable(error.to_string());
        tokio::task::spawn_blocking(work).await.map_err(died)?
    }
}

fn page(db: &Connection, table: &Table, after: &[Value]) -> Result<Vec<Row>> {
    let (columns, name, keys) = (table.derived(), table.name, table.keys());
    let places = vec!["?"; after.len()].join(", ");
    let begin =
        if after.is_empty() { String::new() } else { format!("WHERE ({keys}) > ({places})") };
    let sql = format!("SELECT {columns} FROM {name} {begin} ORDER BY {keys} LIMIT {PAGE_ROWS}");
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(after))?;
    let mut page = Vec::new();
    while let Some(row) = rows.next()? {
        let value = |column| Value::of_sqlite(row.get_ref(column)?);
        page.push((0..table.columns.len()).map(value).collect::<Result<Row>>()?);
    }
    Ok(page)
}
