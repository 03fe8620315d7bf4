//! Bulk redeliveries: a filter in a row, and a place in the order of ends.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::outbox;
use super::readers::Readers;
use super::rows::named;
use super::writer::Hints;
use crate::clock::Timestamp;
use crate::store::redelivery::{
    self, COUNT_PAGE, Candidate, Found, Place, STEP_LOOKED_AT_MAX, ended,
};
use crate::store::{
    MATCHED_MAX, NewRedelivery, Redelivery, RedeliveryFilter, RedeliveryState, RedeliveryStep,
    Result, StoreError,
};
use crate::task::State;

/// A page of registrations in the order in which they ended, and of those the first `limit` that
/// fit.
pub(super) fn look(
    db: &Connection,
    filter: &RedeliveryFilter,
    after: &Place,
    page_max: u32,
    limit: u32,
) -> Result<Found> {
    let sql = format!(
        "SELECT finished_at, id, client, callback_host, state FROM registration
         WHERE {} AND (finished_at, id) > (?1, ?2) AND finished_at < ?3
         ORDER BY finished_at, id LIMIT ?4",
        ended(filter.state)
    );
    let mut statement = db.prepare_cached(&sql)?;
    let values = params![after.at.0, after.id, filter.until.0, page_max];
    let page = statement.query_map(values, |row| {
        Ok(Candidate {
            place: Place { at: Timestamp(row.get(0)?), id: row.get(1)? },
            client: row.get(2)?,
            host: row.get(3)?,
            state: named(row, 4, State::named)?,
        })
    })?;
    Ok(redelivery::find(page, filter, page_max, limit)?)
}

/// How many fit: a page at a time, so that other reads have their turn.
pub(super) async fn count(readers: &Readers, filter: &RedeliveryFilter) -> Result<u64> {
    let (mut matched, mut place) = (0, Place::before(filter));
    loop {
        let (filter, after) = (filter.clone(), place.clone());
        let page = move |db: &Connection| look(db, &filter, &after, COUNT_PAGE, u32::MAX);
        let found = readers.read(page).await?;
        matched += found.ids.len() as u64;
        match found.last {
            Some(last) if !found.all && matched < MATCHED_MAX => place = last,
            _ => return Ok(matched.min(MATCHED_MAX)),
        }
    }
}

pub(super) fn begin(db: &Connection, new: &NewRedelivery, matched: u64) -> Result<Redelivery> {
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
    find(db, &new.id)?.ok_or_else(|| StoreError::Corrupt(format!("{} vanished", new.id)))
}

const REDELIVERY: &str = "SELECT id, owner, client, of_state, since, until, callback_host, state,
                                 created_at, finished_at, matched, done, after_at, after_id
                          FROM redelivery";

fn read(row: &Row<'_>) -> rusqlite::Result<Redelivery> {
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
    Ok(db.prepare_cached(&sql)?.query_row([id], read).optional()?)
}

pub(super) fn cancel(db: &Connection, id: &str, now: Timestamp) -> Result<Option<Redelivery>> {
    db.prepare_cached(
        "UPDATE redelivery SET state = 'cancelled', finished_at = ?2
         WHERE id = ?1 AND state = 'running'",
    )?
    .execute(params![id, now.0])?;
    find(db, id)
}

/// Looks at a bounded number of registrations, whether they fit or not, so that no step is long.
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
    let running = db
        .prepare_cached(&sql)?
        .query_row([passed_by], |row| {
            let place = Place { at: Timestamp(row.get(12)?), id: row.get(13)? };
            Ok((read(row)?, place))
        })
        .optional()?;
    let Some((Redelivery { id, owner, filter, .. }, place)) = running else { return Ok(None) };
    let place = place.max(Place::before(&filter));
    let found = look(db, &filter, &place, STEP_LOOKED_AT_MAX, limit)?;
    let mut due = Hints::new();
    for registration in &found.ids {
        outbox::redeliver(db, registration, now, false, &mut due)?;
    }
    let mut destinations: Vec<_> = due.iter().filter_map(outbox::destination_of).collect();
    destinations.sort_unstable();
    destinations.dedup();
    hints.extend(due);
    let (place, finished) = (found.last.unwrap_or(place), found.all);
    db.prepare_cached(
        "UPDATE redelivery SET done = done + ?2, after_at = ?3, after_id = ?4, stepped_at = ?5,
                state = iif(?6, 'finished', state), finished_at = iif(?6, ?5, NULL)
         WHERE id = ?1",
    )?
    .execute(params![id, found.ids.len(), place.at.0, place.id, now.0, finished])?;
    Ok(Some(RedeliveryStep { id, owner, destinations, finished }))
}
