//! A file whose data are migrated elsewhere: read only, but for the mark that keeps daemons away.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::lock::FileLock;
use super::schema::{self, Marked};
use super::{OpenError, configured};
use crate::clock::Timestamp;
use crate::store::migration::table::{Column, Row, TABLES, Value};
use crate::store::{Result, StoreError};

/// The mark. Not one of the numbered schema migrations: a file that stays never has it.
const MARK: &str = "
    DROP TABLE IF EXISTS moved;
    CREATE TABLE moved (
        one         INTEGER PRIMARY KEY CHECK (one = 1),
        id          TEXT    NOT NULL,
        target      TEXT    NOT NULL,
        begun_at    INTEGER NOT NULL,
        finished_at INTEGER,
        committing  INTEGER NOT NULL
    ) STRICT";
/// Rows read at once: a registration with its body is some kilobytes, so a page is a few megabytes.
const PAGE_ROWS: usize = 500;
/// What Postgres keeps with a registration, and `SQLite` with its task.
const LANE_OF_REGISTRATION: &str = "(SELECT lane FROM task WHERE task.id = registration.task)";

/// Which migration, where to, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Mark {
    pub(in crate::store) id: Uuid,
    /// As a person would write it; no password.
    pub(in crate::store) target: String,
    pub(in crate::store) begun_at: Timestamp,
    pub(in crate::store) stage: Stage,
}

/// How far a migration is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Stage {
    /// The target has nothing of it.
    Begun,
    /// The target has all of it or nothing.
    Committing,
    /// The target has it.
    Finished(Timestamp),
}

impl Stage {
    pub(in crate::store) fn is_finished(self) -> bool {
        matches!(self, Self::Finished(_))
    }
}

/// Reads the mark, if there is one.
pub(super) fn mark(db: &Connection) -> rusqlite::Result<Option<Mark>> {
    let there = "SELECT 1 FROM sqlite_schema WHERE name = 'moved'";
    if db.query_row(there, [], |_| Ok(())).optional()?.is_none() {
        return Ok(None);
    }
    db.query_row("SELECT * FROM moved", [], |row| {
        let id: String = row.get("id")?;
        let finished_at: Option<i64> = row.get("finished_at")?;
        Ok(Mark {
            id: Uuid::parse_str(&id).unwrap_or_default(),
            target: row.get("target")?,
            begun_at: Timestamp(row.get("begun_at")?),
            stage: match finished_at {
                Some(at) => Stage::Finished(Timestamp(at)),
                // An earlier version had no such column, and closed the target until it was over.
                None if row.get("committing").unwrap_or(false) => Stage::Committing,
                None => Stage::Begun,
            },
        })
    })
    .optional()
}

/// The file, alone.
pub(in crate::store) struct Export {
    db: Arc<Mutex<Connection>>,
    _lock: FileLock,
}

impl Export {
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
            let finished_at = match mark.stage {
                Stage::Finished(at) => Some(at.0),
                Stage::Begun | Stage::Committing => None,
            };
            let committing = mark.stage == Stage::Committing;
            let id = mark.id.to_string();
            tx.execute(
                "INSERT INTO moved (one, id, target, begun_at, finished_at, committing)
                 VALUES (1, ?1, ?2, ?3, ?4, ?5)",
                params![id, mark.target, mark.begun_at.0, finished_at, committing],
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

    /// How many rows all tables have.
    pub(in crate::store) async fn rows(&self) -> Result<u64> {
        let count = TABLES.map(|table| format!("(SELECT count(*) FROM {table})")).join(" + ");
        self.with(move |db| Ok(db.query_row(&format!("SELECT {count}"), [], |row| row.get(0))?))
            .await
    }

    /// The columns of a table.
    pub(in crate::store) async fn columns(&self, table: &'static str) -> Result<Vec<Column>> {
        self.with(move |db| {
            let mut statement = db.prepare("SELECT name, pk FROM pragma_table_info(?1)")?;
            let column = |row: &rusqlite::Row<'_>| {
                Ok(Column { name: row.get("name")?, key: row.get::<_, i64>("pk")? > 0 })
            };
            let mut columns = statement
                .query_map([table], column)?
                .collect::<std::result::Result<Vec<_>, _>>()?;
            if table == "registration" {
                columns.push(Column { name: "lane".into(), key: false });
            }
            Ok(columns)
        })
        .await
    }

    /// Sends all rows in the order of their keys, page by page.
    pub(in crate::store) async fn read(
        &self,
        table: &'static str,
        columns: Vec<Column>,
        pages: mpsc::Sender<Vec<Row>>,
    ) -> Result<()> {
        self.with(move |db| {
            let name = |column: &Column| match (table, column.name.as_str()) {
                ("registration", "lane") => LANE_OF_REGISTRATION.to_owned(),
                (_, name) => format!("\"{name}\""),
            };
            let names = columns.iter().map(name).collect::<Vec<_>>().join(", ");
            let keys = columns.iter().filter(|column| column.key).map(name);
            let keys = keys.collect::<Vec<_>>().join(", ");
            let sql = format!("SELECT {names} FROM {table} ORDER BY {keys}");
            let mut statement = db.prepare(&sql)?;
            let mut rows = statement.query([])?;
            let mut page = Vec::new();
            while let Some(row) = rows.next()? {
                let value = |column| Value::of_sqlite(row.get_ref(column)?);
                page.push((0..columns.len()).map(value).collect::<Result<Row>>()?);
                // Whoever reads no more says why.
                if page.len() == PAGE_ROWS
                    && pages.blocking_send(std::mem::take(&mut page)).is_err()
                {
                    return Ok(());
                }
            }
            let _ = pages.blocking_send(page);
            Ok(())
        })
        .await
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
