//! Bulk rewatches: a filter in a row, and a place in the order in which registrations ended.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::Sqlite;
use super::readers::Readers;
use super::rows::named;
use crate::clock::Timestamp;
use crate::outcome::Reason;
use crate::store::rewatch::{COUNT_PAGE, Found, RUNNING_MAX};
use crate::store::{
    MATCHED_MAX, NewRegistration, NewRewatch, RedeliveryState, Result, Rewatch, RewatchFilter,
    RewatchPage, Rewatches, Unresolved,
};
use crate::task::{Kind, TaskRef};

#[async_trait]
impl Rewatches for Sqlite {
    async fn begin_rewatch(&self, new: NewRewatch) -> Result<Option<Rewatch>> {
        let matched = count(&self.readers, &new.filter).await?;
        self.writer.write_for_client(move |db, _| begin(db, &new, matched)).await
    }

    async fn rewatch(&self, id: &str) -> Result<Option<Rewatch>> {
        let id = id.to_owned();
        self.readers.read(move |db| find(db, &id)).await
    }

    async fn cancel_rewatch(&self, id: &str, now: Timestamp) -> Result<Option<Rewatch>> {
        let id = id.to_owned();
        self.writer.write_for_client(move |db, _| cancel(db, &id, now)).await
    }

    async fn rewatch_page(&self, limit: u32, now: Timestamp) -> Result<Option<RewatchPage>> {
        match self.writer.write(move |db, _| turn(db, now)).await? {
            Some(turn) => self.work.read(move |db| page(db, turn, limit)).await.map(Some),
            None => Ok(None),
        }
    }

    async fn rewatched(&self, page: &RewatchPage, done: u32, now: Timestamp) -> Result<()> {
        let page = page.clone();
        self.writer.write(move |db, _| rewatched(db, &page, done, now)).await
    }
}

/// How many registrations fit: a page at a time, so that other reads have their turn.
async fn count(readers: &Readers, filter: &RewatchFilter) -> Result<u64> {
    let (mut matched, mut after) = (0, filter.begin());
    loop {
        let filter = filter.clone();
        let found = readers.read(move |db| look(db, &filter, &after, COUNT_PAGE)).await?;
        matched += found.fitting.len() as u64;
        match found.last {
            Some(last) if !found.finished && matched < MATCHED_MAX => after = last,
            _ => return Ok(matched.min(MATCHED_MAX)),
        }
    }
}

fn begin(db: &Connection, new: &NewRewatch, matched: u64) -> Result<Option<Rewatch>> {
    let running: u32 = db
        .prepare_cached("SELECT count(*) FROM rewatch WHERE state = 'running' AND owner = ?1")?
        .query_row([&new.owner], |row| row.get(0))?;
    if running >= RUNNING_MAX {
        return Ok(None);
    }
    let RewatchFilter { client, account, reason, since, until } = &new.filter;
    db.prepare_cached(
        "INSERT INTO rewatch (id, owner, client, account, reason, since, until, state, created_at,
                              matched, after_at, stepped_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'running', ?8, ?9, ?6, ?8)",
    )?
    .execute(params![
        new.id,
        new.owner,
        client,
        account,
        reason.map(Reason::name),
        since.0,
        until.0,
        new.created_at.0,
        matched,
    ])?;
    find(db, &new.id)
}

const REWATCH: &str = "SELECT id, owner, client, account, reason, since, until, state, created_at,
                              finished_at, matched, done, after_at, after_id FROM rewatch";

fn rewatch(row: &Row<'_>) -> rusqlite::Result<Rewatch> {
    let reason = row.get_ref(4)?.as_str_or_null().ok().flatten().and_then(Reason::named);
    Ok(Rewatch {
        id: row.get(0)?,
        owner: row.get(1)?,
        filter: RewatchFilter {
            client: row.get(2)?,
            account: row.get(3)?,
            reason,
            since: Timestamp(row.get(5)?),
            until: Timestamp(row.get(6)?),
        },
        state: named(row, 7, RedeliveryState::named)?,
        created_at: Timestamp(row.get(8)?),
        finished_at: row.get::<_, Option<i64>>(9)?.map(Timestamp),
        matched: row.get(10)?,
        done: row.get(11)?,
    })
}

fn find(db: &Connection, id: &str) -> Result<Option<Rewatch>> {
    let sql = format!("{REWATCH} WHERE id = ?1");
    Ok(db.prepare_cached(&sql)?.query_row([id], rewatch).optional()?)
}

fn cancel(db: &Connection, id: &str, now: Timestamp) -> Result<Option<Rewatch>> {
    db.prepare_cached(
        "UPDATE rewatch SET state = 'cancelled', finished_at = ?2
         WHERE id = ?1 AND state = 'running'",
    )?
    .execute(params![id, now.0])?;
    find(db, id)
}

/// Whose turn it is, and where it goes on.
struct Turn {
    rewatch: Rewatch,
    after: (Timestamp, String),
}

fn turn(db: &Connection, now: Timestamp) -> Result<Option<Turn>> {
    let sql = format!(
        "{REWATCH} AS r WHERE state = 'running'
         ORDER BY (SELECT max(stepped_at) FROM rewatch WHERE state = 'running' AND owner = r.owner),
                  stepped_at, id LIMIT 1"
    );
    let turn = |row: &Row<'_>| {
        Ok(Turn { rewatch: rewatch(row)?, after: (Timestamp(row.get(12)?), row.get(13)?) })
    };
    let turn = db.prepare_cached(&sql)?.query_row([], turn).optional()?;
    if let Some(turn) = &turn {
        db.prepare_cached("UPDATE rewatch SET stepped_at = ?2 WHERE id = ?1")?
            .execute(params![turn.rewatch.id, now.0])?;
    }
    Ok(turn)
}

pub(super) const PAGE: &str = "
    SELECT r.id, r.client, l.kind, l.account, t.website_id, t.delivery_task_id, r.callback_url,
           r.callback_origin, r.callback_host, r.metadata, r.created_at, r.give_up_at,
           r.unresolved_at, r.unresolved, r.state = 'cancelled'
    FROM registration r JOIN task t ON t.id = r.task JOIN lane l ON l.id = t.lane
    WHERE r.unresolved IS NOT NULL AND (r.unresolved_at, r.id) > (?1, ?2) AND r.unresolved_at < ?3
    ORDER BY r.unresolved_at, r.id LIMIT ?4";

fn page(db: &Connection, turn: Turn, limit: u32) -> Result<RewatchPage> {
    let Turn { rewatch: Rewatch { id, filter, .. }, after } = turn;
    let Found { fitting, last, finished } = look(db, &filter, &after, limit)?;
    Ok(RewatchPage { id, found: fitting, last, finished })
}

fn look(
    db: &Connection,
    filter: &RewatchFilter,
    after: &(Timestamp, String),
    limit: u32,
) -> Result<Found> {
    let read: Vec<(Unresolved, bool)> = db
        .prepare_cached(PAGE)?
        .query_map(params![after.0.0, after.1, filter.until.0, limit], unresolved)?
        .collect::<rusqlite::Result<_>>()?;
    Ok(Found::of(read, filter, limit))
}

fn unresolved(row: &Row<'_>) -> rusqlite::Result<(Unresolved, bool)> {
    let registered = NewRegistration {
        id: row.get(0)?,
        client: row.get(1)?,
        task: TaskRef {
            kind: named(row, 2, Kind::named)?,
            account: row.get(3)?,
            website_id: row.get(4)?,
            delivery_task_id: row.get(5)?,
        },
        callback_url: row.get(6)?,
        callback_origin: row.get(7)?,
        callback_host: row.get(8)?,
        metadata: row.get(9)?,
        created_at: Timestamp(row.get(10)?),
        give_up_at: Timestamp(row.get(11)?),
    };
    let (at, reason) = (Timestamp(row.get(12)?), named(row, 13, Reason::named)?);
    Ok((Unresolved { registered, at, reason }, row.get(14)?))
}

fn rewatched(db: &Connection, page: &RewatchPage, done: u32, now: Timestamp) -> Result<()> {
    let (at, id) = page.last.clone().unzip();
    db.prepare_cached(
        "UPDATE rewatch SET done = done + ?2, after_at = coalesce(?3, after_at),
                after_id = coalesce(?4, after_id), state = iif(?5, 'finished', state),
                finished_at = iif(?5, ?6, NULL)
         WHERE id = ?1 AND state = 'running'",
    )?
    .execute(params![page.id, done, at.map(|at| at.0), id, page.finished, now.0])?;
    Ok(())
}
