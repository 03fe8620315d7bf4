//! The database that another store's data move into: closed to daemons until all of it is there.

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::rows::{get, number, time, unreadable};
use super::session::{Session, Sessions, Tried, on_session};
use super::{OpenError, ready};
use crate::clock::Timestamp;
use crate::store::Result;
use crate::store::moving::{PAGE_ROWS, Row, TABLES, Table, Value};

/// The move, and how far it is. Not one of the numbered migrations: a database that nothing moves
/// into never has them.
const BOOK: &str = "
    CREATE TABLE IF NOT EXISTS store_move (
        one          BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one),
        id           UUID    NOT NULL,
        source       TEXT    NOT NULL,
        begun_at     BIGINT  NOT NULL,
        finished_at  BIGINT,                    -- NULL: no daemon opens this database
        abandoned_at BIGINT                     -- the daemons went on with the source
    );
    CREATE TABLE IF NOT EXISTS store_move_table (
        name   TEXT   PRIMARY KEY,
        copied BIGINT NOT NULL,                 -- rows
        place  TEXT   NOT NULL                  -- the key of the last of them, as JSON
    );
    LOCK TABLE store_move IN EXCLUSIVE MODE";

/// A move into this database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Which.
    pub id: Uuid,
    /// Where the data come from.
    pub source: String,
    /// When it was begun.
    pub begun_at: Timestamp,
    /// When all was there.
    pub finished_at: Option<Timestamp>,
    /// When it was taken back.
    pub abandoned_at: Option<Timestamp>,
}

/// The move into this database, if there ever was one.
pub(super) async fn arrival(db: &Session) -> Tried<Option<Arrival>> {
    let there = db.query_opt("SELECT 1 WHERE to_regclass('store_move') IS NOT NULL", &[]).await?;
    if there.is_none() {
        return Ok(None);
    }
    let sql = "SELECT id, source, begun_at, finished_at, abandoned_at FROM store_move";
    let read = |row| {
        Ok(Arrival {
            id: get(&row, 0)?,
            source: get(&row, 1)?,
            begun_at: Timestamp(get(&row, 2)?),
            finished_at: time(&row, 3)?,
            abandoned_at: time(&row, 4)?,
        })
    };
    db.query_opt(sql, &[]).await?.map(read).transpose()
}

/// Why a daemon may not use the database of this move.
pub(super) fn refusal(arrival: &Arrival) -> Option<String> {
    let Arrival { source, begun_at, finished_at, abandoned_at, .. } = arrival;
    if let Some(at) = abandoned_at {
        return Some(format!(
            "the move of {source} into this database was taken back at {at}, and the daemon went \
             on with that file: use that one, or make an empty database"
        ));
    }
    finished_at.is_none().then(|| {
        format!(
            "moving {source} into this database was begun at {begun_at} and not finished: run that \
             `outcomed migrate-store` again to finish"
        )
    })
}

/// What stands in the way of a move.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::store) enum Obstacle {
    /// Daemons use the database.
    Daemons(Vec<String>),
    /// These tables have rows of somebody else's.
    Taken(Vec<&'static str>),
    /// Another move was begun here.
    OtherMove(Arrival),
}

/// How far a table is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Place {
    /// Rows.
    pub(in crate::store) copied: u64,
    /// The key of the last of them.
    pub(in crate::store) after: Vec<Value>,
}

/// The database.
pub(in crate::store) struct Arriving {
    sessions: Sessions,
    /// As a person would write it; no password.
    pub(in crate::store) shown: String,
}

impl Arriving {
    /// Connects, waiting for the database for a while, and brings its schema up to date.
    pub(in crate::store) async fn connect(url: &str) -> std::result::Result<Self, OpenError> {
        let (target, sessions) = ready(url).await?;
        Ok(Self { sessions, shown: target.shown() })
    }

    pub(in crate::store) async fn arrival(&self) -> Result<Option<Arrival>> {
        on_session!(self.sessions, |db| arrival(&db))
    }

    /// The daemons that use the database.
    pub(in crate::store) async fn daemons(&self) -> Result<Vec<String>> {
        on_session!(self.sessions, |db| daemons(&db))
    }

    /// What stands in the way of this move.
    pub(in crate::store) async fn obstacle(&self, id: Uuid) -> Result<Option<Obstacle>> {
        on_session!(self.sessions, |db| obstacle(&db, id))
    }

    /// Begins the move, or finds it begun: then returns it as it stands.
    pub(in crate::store) async fn begin(
        &self,
        id: Uuid,
        source: &str,
        now: Timestamp,
    ) -> Result<std::result::Result<Arrival, Obstacle>> {
        on_session!(self.sessions, |db| begin(&db, id, source, now))
    }

    pub(in crate::store) async fn place(&self, table: &Table) -> Result<Place> {
        on_session!(self.sessions, |db| place(&db, table))
    }

    /// Stores a page and its place in one commit. `false`: somebody else is at work, and nothing
    /// changed.
    pub(in crate::store) async fn put(
        &self,
        id: Uuid,
        table: &Table,
        copied: u64,
        page: &[Row],
    ) -> Result<bool> {
        on_session!(self.sessions, |db| put(&db, id, table, copied, page))
    }

    /// The rows after this key (empty: from the start), in the order of their keys.
    pub(in crate::store) async fn page(&self, table: &Table, after: &[Value]) -> Result<Vec<Row>> {
        on_session!(self.sessions, |db| page(&db, table, after))
    }

    /// Lets the database know what it holds now: planned as if for empty tables, a daemon's first
    /// statements would scan them.
    pub(in crate::store) async fn analyze(&self) -> Result<()> {
        let names: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
        let sql = format!("ANALYZE {}", names.join(", "));
        on_session!(self.sessions, |db| db.batch(&sql))
    }

    /// Opens the database to daemons. `false`: this is not, or no more, our move.
    pub(in crate::store) async fn finish(&self, id: Uuid, now: Timestamp) -> Result<bool> {
        on_session!(self.sessions, |db| finish(&db, id, now))
    }

    /// Closes the database to daemons for ever. `false`: daemons use it, and it stays open.
    pub(in crate::store) async fn abandon(&self, id: Uuid, now: Timestamp) -> Result<bool> {
        on_session!(self.sessions, |db| abandon(&db, id, now))
    }
}

async fn abandon(db: &Session, id: Uuid, now: Timestamp) -> Tried<bool> {
    let sql = "
        UPDATE store_move SET abandoned_at = $2 WHERE id = $1
        AND NOT EXISTS (SELECT 1 FROM member WHERE expires_at > clock_timestamp())
        RETURNING id";
    Ok(db.query_opt(sql, &[&id, &now.0]).await?.is_some())
}

async fn daemons(db: &Session) -> Tried<Vec<String>> {
    let sql = "SELECT name FROM member WHERE expires_at > clock_timestamp() ORDER BY name";
    db.query(sql, &[]).await?.iter().map(|row| get(row, 0)).collect()
}

async fn begin(
    db: &Session,
    id: Uuid,
    source: &str,
    now: Timestamp,
) -> Tried<std::result::Result<Arrival, Obstacle>> {
    db.say("BEGIN").await?;
    db.batch(BOOK).await?;
    let begun = begin_locked(db, id, source, now).await?;
    db.say(if begun.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
    Ok(begun)
}

async fn begin_locked(
    db: &Session,
    id: Uuid,
    source: &str,
    now: Timestamp,
) -> Tried<std::result::Result<Arrival, Obstacle>> {
    if let Some(obstacle) = obstacle(db, id).await? {
        return Ok(Err(obstacle));
    }
    if let Some(arrival) = arrival(db).await? {
        return Ok(Ok(arrival));
    }
    let new = "INSERT INTO store_move (id, source, begun_at) VALUES ($1, $2, $3)";
    db.query(new, &[&id, &source, &now.0]).await?;
    let names: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
    let tables = "INSERT INTO store_move_table SELECT unnest($1::text[]), 0, '[]'";
    db.query(tables, &[&names]).await?;
    Ok(Ok(Arrival {
        id,
        source: source.into(),
        begun_at: now,
        finished_at: None,
        abandoned_at: None,
    }))
}

async fn obstacle(db: &Session, id: Uuid) -> Tried<Option<Obstacle>> {
    let before = arrival(db).await?;
    match &before {
        Some(arrival) if arrival.id != id || arrival.abandoned_at.is_some() => {
            return Ok(before.map(Obstacle::OtherMove));
        }
        Some(arrival) if arrival.finished_at.is_some() => return Ok(None),
        _ => {}
    }
    let daemons = daemons(db).await?;
    if !daemons.is_empty() {
        return Ok(Some(Obstacle::Daemons(daemons)));
    }
    if before.is_some() {
        return Ok(None);
    }
    let mut taken = Vec::new();
    for table in &TABLES {
        let any = format!("SELECT 1 FROM {} LIMIT 1", table.name);
        if db.query_opt(&any, &[]).await?.is_some() {
            taken.push(table.name);
        }
    }
    Ok((!taken.is_empty()).then_some(Obstacle::Taken(taken)))
}

async fn place(db: &Session, table: &Table) -> Tried<Place> {
    let sql = "SELECT copied, place FROM store_move_table WHERE name = $1";
    let row = db.query_opt(sql, &[&table.name]).await?;
    let row = row.ok_or_else(|| unreadable(format!("the place of {} is lost", table.name)))?;
    let after = serde_json::from_str(get(&row, 1)?).map_err(unreadable)?;
    Ok(Place { copied: number(&row, 0)?, after })
}

/// One statement, so that the page and its place are there together or not at all; by the number
/// of rows that were there before, so that a page is never there twice; and only as long as this
/// is the one move here and no daemon has slipped in.
fn put_sql(table: &Table) -> String {
    let names = table.names();
    let arrays: Vec<String> = (table.columns.iter().zip(6..))
        .map(|(column, n)| format!("${n}::{}", column.kind.array()))
        .collect();
    let (name, arrays) = (table.name, arrays.join(", "));
    format!(
        "WITH ours AS (
             UPDATE store_move_table SET copied = copied + $4, place = $5
             WHERE name = $2 AND copied = $3
             AND EXISTS (SELECT 1 FROM store_move
                         WHERE id = $1 AND finished_at IS NULL AND abandoned_at IS NULL)
             AND NOT EXISTS (SELECT 1 FROM member WHERE expires_at > clock_timestamp())
             RETURNING name),
         put AS (
             INSERT INTO {name} ({names})
             SELECT page.* FROM ours, unnest({arrays}) AS page RETURNING 1)
         SELECT count(*) FROM put"
    )
}

async fn put(db: &Session, id: Uuid, table: &Table, copied: u64, page: &[Row]) -> Tried<bool> {
    let Some(last) = page.last() else { return Ok(true) };
    let place = serde_json::to_string(&last[..table.key]).map_err(unreadable)?;
    let copied = i64::try_from(copied).map_err(unreadable)?;
    let more = i64::try_from(page.len()).map_err(unreadable)?;
    let columns: Vec<Vec<&Value>> =
        (0..table.columns.len()).map(|n| page.iter().map(|row| &row[n]).collect()).collect();
    let mut params: Vec<&(dyn ToSql + Sync)> = vec![&id, &table.name, &copied, &more, &place];
    params.extend(columns.iter().map(|column| column as &(dyn ToSql + Sync)));
    let row = db.query_opt(&put_sql(table), &params).await?;
    let put = row.map(|row| get::<i64>(&row, 0)).transpose()?;
    Ok(put.is_some_and(|rows| rows > 0))
}

async fn page(db: &Session, table: &Table, after: &[Value]) -> Tried<Vec<Row>> {
    let (names, name, keys) = (table.names(), table.name, table.keys());
    let places: Vec<String> = (1..=after.len()).map(|n| format!("${n}")).collect();
    let places = places.join(", ");
    let begin =
        if after.is_empty() { String::new() } else { format!("WHERE ({keys}) > ({places})") };
    let sql = format!("SELECT {names} FROM {name} {begin} ORDER BY {keys} LIMIT {PAGE_ROWS}");
    let params: Vec<&(dyn ToSql + Sync)> = after.iter().map(|value| value as _).collect();
    let rows = db.query(&sql, &params).await?;
    let width = 0..table.columns.len();
    rows.iter().map(|row| width.clone().map(|column| get(row, column)).collect()).collect()
}

async fn finish(db: &Session, id: Uuid, now: Timestamp) -> Tried<bool> {
    // The next row gets a number that none of those that came with their own has.
    for table in TABLES.iter().filter(|table| table.numbered) {
        let (name, key) = (table.name, table.keys());
        let sql = format!(
            "SELECT setval(pg_get_serial_sequence('{name}', '{key}'), max({key})) FROM {name}
             HAVING max({key}) IS NOT NULL"
        );
        db.query(&sql, &[]).await?;
    }
    let sql = "UPDATE store_move SET finished_at = coalesce(finished_at, $2)
               WHERE id = $1 AND abandoned_at IS NULL RETURNING id";
    Ok(db.query_opt(sql, &[&id, &now.0]).await?.is_some())
}
