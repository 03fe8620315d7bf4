//! A database that another store's data are migrated into, in one transaction.

use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::timeout;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row as PgRow};
use uuid::Uuid;

use super::connect::Target;
use super::session::{Session, Tried, explain};
use super::{OpenError, ready};
use crate::clock::Timestamp;
use crate::store::migration::table::{Checksum, Column, Row, TABLES, Value};

/// What was migrated into this database. Not one of the numbered schema migrations: a database that
/// nothing is migrated into never has it.
const IMPORTED: &str = "
    CREATE TABLE IF NOT EXISTS store_move (
        one          BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one),
        id           UUID    NOT NULL,
        source       TEXT    NOT NULL,
        begun_at     BIGINT  NOT NULL,
        finished_at  BIGINT,                    -- NULL: left unfinished by an earlier version
        abandoned_at BIGINT                     -- the daemons went on with the source
    )";
/// Deadlines of the transaction. A statement may read or check everything there is.
const DEADLINES: &str = "
    SET LOCAL statement_timeout = '1h';
    SET LOCAL lock_timeout = '10s';
    SET LOCAL idle_in_transaction_session_timeout = '10min';
    SET LOCAL synchronous_commit = on";
/// The longest wait for the database to take or to give a few rows.
const ROWS_MAX: Duration = Duration::from_secs(60);
/// The longest wait for it to check all of a table, or to connect.
const TABLE_MAX: Duration = Duration::from_secs(3600);
const CONNECT_MAX: Duration = Duration::from_secs(30);
/// Rows compared between two reports.
const ROWS_REPORTED: u64 = 500;
/// Tables whose keys the database gives out.
const NUMBERED: [&str; 2] = ["lane", "task"];

/// What was migrated into a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Imported {
    pub(in crate::store) id: Uuid,
    /// Where the data come from.
    pub(in crate::store) source: String,
    /// When it was committed; or begun, if it is unfinished.
    pub(in crate::store) at: Timestamp,
    /// An earlier version, which committed page by page, was cut off.
    pub(in crate::store) unfinished: bool,
    /// When it was taken back.
    pub(in crate::store) abandoned_at: Option<Timestamp>,
}

/// Brings the schema up to date, and returns the database's name for people.
pub(in crate::store) async fn schema(url: &str) -> std::result::Result<String, OpenError> {
    Ok(ready(url).await?.0.shown())
}

/// Why the database does not take what is given.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It is away, and may come back.
    #[error("the target is away: {0}")]
    Away(String),
    /// It would refuse this again.
    #[error("the target refuses: {0}")]
    Refused(String),
}

type Result<T> = std::result::Result<T, ImportError>;

const THERE: &str = "SELECT 1 WHERE to_regclass('store_move') IS NOT NULL";
const READ: &str = "SELECT * FROM store_move";

fn read(row: &PgRow) -> std::result::Result<Imported, tokio_postgres::Error> {
    let finished_at: Option<i64> = row.try_get("finished_at")?;
    let abandoned_at: Option<i64> = row.try_get("abandoned_at")?;
    let begun_at: i64 = row.try_get("begun_at")?;
    Ok(Imported {
        id: row.try_get("id")?,
        source: row.try_get("source")?,
        at: Timestamp(finished_at.unwrap_or(begun_at)),
        unfinished: finished_at.is_none(),
        abandoned_at: abandoned_at.map(Timestamp),
    })
}

/// Why a daemon may not use this database.
pub(super) async fn refusal(db: &Session) -> Tried<Option<String>> {
    if db.query_opt(THERE, &[]).await?.is_none() {
        return Ok(None);
    }
    let Some(row) = db.query_opt(READ, &[]).await? else { return Ok(None) };
    let Imported { source, at, unfinished, abandoned_at, .. } = read(&row)?;
    Ok(match abandoned_at {
        Some(at) => Some(format!(
            "the migration of {source} into this database was taken back at {at}, and the daemon \
             went on with that file: use that one, or make an empty database"
        )),
        None if unfinished => Some(format!(
            "the migration of {source} into this database, begun at {at} by an earlier version, was \
             left unfinished: make an empty database, and run `outcomed migrate-store` again"
        )),
        None => None,
    })
}

/// A transaction. Dropped, it is rolled back.
pub(in crate::store) struct Import {
    db: Client,
}

impl Import {
    pub(in crate::store) async fn begin(url: &str) -> Result<Self> {
        let target = Target::of(url).map_err(|e| ImportError::Refused(e.to_string()))?;
        let connecting = target.config.connect(target.tls);
        let (db, connection) = within(CONNECT_MAX, connecting).await?;
        // It ends with the client; what breaks it, each statement says.
        tokio::spawn(connection);
        let begin = format!("BEGIN; {DEADLINES}; {IMPORTED}");
        within(CONNECT_MAX, db.batch_execute(&begin)).await?;
        Ok(Self { db })
    }

    /// From here on nobody else writes. Only for a database that no daemon seems to use: its
    /// heartbeats would wait.
    pub(in crate::store) async fn lock(&self) -> Result<()> {
        let tables = TABLES.join(", ");
        let lock = format!("LOCK TABLE store_move, member, {tables} IN EXCLUSIVE MODE");
        within(CONNECT_MAX, self.db.batch_execute(&lock)).await
    }

    /// What was migrated into it before.
    pub(in crate::store) async fn imported(&self) -> Result<Option<Imported>> {
        let row = within(ROWS_MAX, self.db.query_opt(READ, &[])).await?;
        row.as_ref().map(read).transpose().map_err(|e| failed(&e))
    }

    /// The daemons that use it.
    pub(in crate::store) async fn daemons(&self) -> Result<Vec<String>> {
        let sql = "SELECT name FROM member WHERE expires_at > clock_timestamp() ORDER BY name";
        let rows = within(ROWS_MAX, self.db.query(sql, &[])).await?;
        rows.iter().map(|row| row.try_get(0).map_err(|e| failed(&e))).collect()
    }

    /// Tables with rows.
    pub(in crate::store) async fn tables_in_use(&self) -> Result<Vec<&'static str>> {
        let mut used = Vec::new();
        for table in TABLES {
            let any = format!("SELECT 1 FROM {table} LIMIT 1");
            if within(ROWS_MAX, self.db.query_opt(&any, &[])).await?.is_some() {
                used.push(table);
            }
        }
        Ok(used)
    }

    /// Begins to copy a table's rows, with values for these columns.
    pub(in crate::store) async fn copy(
        &mut self,
        table: &str,
        columns: &[Column],
    ) -> Result<Copying> {
        let names = names(columns);
        let types = self.types(table, &names).await?;
        let sql = format!("COPY {table} ({names}) FROM STDIN (FORMAT binary)");
        let sink = within(ROWS_MAX, self.db.copy_in(&sql)).await?;
        Ok(Copying(Box::pin(BinaryCopyInWriter::new(sink, &types))))
    }

    /// Reads a table back, and says how many rows it has and what they add up to.
    pub(in crate::store) async fn checksum(
        &self,
        table: &str,
        columns: &[Column],
        mut progress: impl FnMut(u64),
    ) -> Result<Checksum> {
        let names = names(columns);
        let types = self.types(table, &names).await?;
        let key = |(column, ty): (&Column, &Type)| {
            let bytes = if *ty == Type::TEXT { " COLLATE \"C\"" } else { "" };
            column.key.then(|| format!("\"{}\"{bytes}", column.name))
        };
        let keys = columns.iter().zip(&types).filter_map(key).collect::<Vec<_>>().join(", ");
        let sql = format!("SELECT {names} FROM {table} ORDER BY {keys}");
        let none: [&(dyn ToSql + Sync); 0] = [];
        let rows = within(TABLE_MAX, self.db.query_raw(&sql, none)).await?;
        let mut rows = std::pin::pin!(rows);
        let (mut checksum, mut unreported) = (Checksum::default(), 0);
        while let Some(row) = timeout(TABLE_MAX, rows.next()).await.map_err(|_| late())? {
            let row = row.map_err(|e| failed(&e))?;
            let value = |n| row.try_get::<_, Value>(n).map_err(|e| failed(&e));
            checksum.add(&(0..columns.len()).map(value).collect::<Result<Row>>()?);
            unreported += 1;
            if unreported == ROWS_REPORTED {
                progress(std::mem::take(&mut unreported));
            }
        }
        progress(unreported);
        Ok(checksum)
    }

    async fn types(&self, table: &str, names: &str) -> Result<Vec<Type>> {
        let select = format!("SELECT {names} FROM {table}");
        let statement = within(ROWS_MAX, self.db.prepare(&select)).await?;
        Ok(statement.columns().iter().map(|column| column.type_().clone()).collect())
    }

    /// Makes it all so, at once.
    pub(in crate::store) async fn commit(self, imported: &Imported) -> Result<()> {
        // The next row gets a number that none of those that came with their own has.
        for table in NUMBERED {
            let sql = format!(
                "SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}
                 HAVING max(id) IS NOT NULL"
            );
            within(ROWS_MAX, self.db.query(&sql, &[])).await?;
        }
        let sql = "
            INSERT INTO store_move (id, source, begun_at, finished_at, abandoned_at)
            VALUES ($1, $2, $3, $3, $4)
            ON CONFLICT (one) DO UPDATE SET abandoned_at = EXCLUDED.abandoned_at";
        let Imported { id, source, at, abandoned_at, .. } = imported;
        let abandoned_at = abandoned_at.map(|at| at.0);
        let params: [&(dyn ToSql + Sync); 4] = [id, source, &at.0, &abandoned_at];
        within(ROWS_MAX, self.db.execute(sql, &params)).await?;
        within(TABLE_MAX, self.db.batch_execute("COMMIT")).await?;
        // Planned as if for empty tables, a daemon's first statements would scan them. A database
        // too busy for it does it by itself, a little later.
        let analyze = format!("ANALYZE {}", TABLES.join(", "));
        let _ = within(TABLE_MAX, self.db.batch_execute(&analyze)).await;
        Ok(())
    }
}

/// Rows on their way into a table.
pub(in crate::store) struct Copying(Pin<Box<BinaryCopyInWriter>>);

impl Copying {
    pub(in crate::store) async fn write(&mut self, row: &Row) -> Result<()> {
        let values: Vec<&(dyn ToSql + Sync)> = row.iter().map(|value| value as _).collect();
        within(ROWS_MAX, self.0.as_mut().write(&values)).await
    }

    /// All rows are written: the database checks them.
    pub(in crate::store) async fn finish(mut self) -> Result<()> {
        within(TABLE_MAX, self.0.as_mut().finish()).await.map(drop)
    }
}

fn names(columns: &[Column]) -> String {
    columns.iter().map(|column| format!("\"{}\"", column.name)).collect::<Vec<_>>().join(", ")
}

async fn within<T>(
    most: Duration,
    work: impl Future<Output = std::result::Result<T, tokio_postgres::Error>>,
) -> Result<T> {
    timeout(most, work).await.map_err(|_| late())?.map_err(|error| failed(&error))
}

fn late() -> ImportError {
    ImportError::Away("it did not answer in time".into())
}

/// What the database itself refuses, but for want of a server, it refuses again.
fn failed(error: &tokio_postgres::Error) -> ImportError {
    let why = explain(error);
    match error.code() {
        Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE => ImportError::Refused(format!(
            "{why}; another `outcomed migrate-store`, or a daemon, is at work there: let it finish"
        )),
        Some(code) if !matches!(&code.code()[..2], "08" | "53" | "57") => ImportError::Refused(why),
        _ => ImportError::Away(why),
    }
}
