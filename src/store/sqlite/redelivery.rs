//! Bulk redeliveries: a filter in a row, and a place in the order of ids.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::outbox;
use super::rows::named;
use super::writer::Hints;
use crate::clock::Timestamp;
use crate::store::{
    NewRedelivery, Redelivery, RedeliveryFilter, RedeliveryState, RedeliveryStep, Result,
};
use crate::task::State;

/// How many registrations fit. May take a while, so it is asked of a reader.
pub(super) fn count(db: &Connection, filter: &RedeliveryFilter) -> Result<u64> {
    let count = db
        .prepare_cached(
            "SELECT count(*) FROM registration
             WHERE state = ?1 AND finished_at >= ?2 AND finished_at < ?3
               AND (?4 IS NULL OR client = ?4) AND (?5 IS NULL OR callback_host = ?5)",
        )?
        .query_row(
            params![
                filter.state.name(),
                filter.since.0,
                filter.until.0,
                filter.client,
                filter.callback_host,
            ],
            |row| row.get(0),
        )?;
    Ok(count)
}

pub(super) fn begin(db: &Connection, new: &NewRedelivery, matched: u64) -> Result<()> {
    let filter = &new.filter;
    db.prepare_cached(
        "INSERT INTO redelivery (id, owner, client, of_state, since, until, callback_host, state,
                                 created_at, matched, stepped_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'running', ?8, ?9, ?8)",
    )?
    .execute(params![
        new.id,
        new.owner,
        filter.client,
        filter.state.name(),
        filter.since.0,
        filter.until.0,
        filter.callback_host,
        new.created_at.0,
        matched,
    ])?;
    Ok(())
}

const REDELIVERY: &str = "SELECT id, owner, client, of_state, since, until, callback_host, state,
                                 created_at, finished_at, matched, done FROM redelivery";

fn redelivery(row: &Row<'_>) -> rusqlite::Result<Redelivery> {
    Ok(Redelivery {
        id: row.get(0)?,
        owner: row.get(1)?,
        filter: RedeliveryFilter {
            client: row.get(2)?,
            state: named(row, 3, State::named)?,
            since: Timestamp(row.get(4)?),
            until: Timestamp(row.get(5)?),
            callback_host: row.get(6)?,
        },
        state: named(row, 7, RedeliveryState::named)?,
        created_at: Timestamp(row.get(8)?),
        finished_at: row.get::<_, Option<i64>>(9)?.map(Timestamp),
        matched: row.get(10)?,
        done: row.get(11)?,
    })
}

pub(super) fn find(db: &Connection, id: &str) -> Result<Option<Redelivery>> {
    let sql = format!("{REDELIVERY} WHERE id = ?1");
    Ok(db.prepare_cached(&sql)?.query_row([id], redelivery).optional()?)
}

pub(super) fn cancel(db: &Connection, id: &str, now: Timestamp) -> Result<Option<Redelivery>> {
    db.prepare_cached(
        "UPDATE redelivery SET state = 'cancelled', finished_at = ?2
         WHERE id = ?1 AND state = 'running'",
    )?
    .execute(params![id, now.0])?;
    find(db, id)
}

/// A registration as a step looks at it.
struct Candidate {
    id: String,
    client: String,
    host: String,
    finished_at: Timestamp,
}

/// Looks at `limit` registrations at most, whether they fit or not, so that no step is long.
pub(super) fn step(
    db: &Connection,
    passed_by: &[String],
    limit: u32,
    now: Timestamp,
    hints: &mut Hints,
) -> Result<Option<RedeliveryStep>> {
    let sql = format!(
        "{REDELIVERY} WHERE state = 'running' AND owner NOT IN (SELECT value FROM json_each(?1))
         ORDER BY stepped_at, id LIMIT 1"
    );
    let passed_by = serde_json::json!(passed_by).to_string();
    let running = db.prepare_cached(&sql)?.query_row([passed_by], redelivery).optional()?;
    let Some(Redelivery { id, owner, filter, .. }) = running else { return Ok(None) };
    let page = candidates(db, &id, &filter, limit)?;
    let finished = page.len() < usize::try_from(limit).unwrap_or(usize::MAX);
    let last = page.last().map(|candidate| candidate.id.clone());
    let (mut done, mut due) = (0_u64, Hints::new());
    for candidate in page.iter().filter(|candidate| candidate.fits(&filter)) {
        outbox::redeliver(db, &candidate.id, now, &mut due)?;
        done += 1;
    }
    let mut origins: Vec<String> = due.iter().filter_map(outbox::origin_of).collect();
    origins.sort_unstable();
    origins.dedup();
    hints.extend(due);
    db.prepare_cached(
        "UPDATE redelivery SET done = done + ?2, after = coalesce(?3, after), stepped_at = ?4,
                state = iif(?5, 'finished', state), finished_at = iif(?5, ?4, NULL)
         WHERE id = ?1",
    )?
    .execute(params![id, done, last, now.0, finished])?;
    Ok(Some(RedeliveryStep { id, owner, origins, finished }))
}

fn candidates(
    db: &Connection,
    id: &str,
    filter: &RedeliveryFilter,
    limit: u32,
) -> Result<Vec<Candidate>> {
    let rows = db
        .prepare_cached(
            "SELECT id, client, callback_host, finished_at FROM registration
             WHERE state = ?1 AND id > (SELECT after FROM redelivery WHERE id = ?2)
             ORDER BY id LIMIT ?3",
        )?
        .query_map(params![filter.state.name(), id, limit], |row| {
            Ok(Candidate {
                id: row.get(0)?,
                client: row.get(1)?,
                host: row.get(2)?,
                finished_at: Timestamp(row.get(3)?),
            })
        })?
        .collect::<rusqlite::Result<_>>();
    Ok(rows?)
}

impl Candidate {
    fn fits(&self, filter: &RedeliveryFilter) -> bool {
        filter.fits(&self.client, &self.host, self.finished_at)
    }
}
