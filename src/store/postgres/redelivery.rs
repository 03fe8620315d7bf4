//! Bulk redeliveries: a filter in a row, and a place in the order of ends.

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::outbox::destination;
use super::rows::{get, named, number, time, unreadable};
use super::session::{Failure, Session, Sessions, Tried, flight, on_session};
use crate::clock::Timestamp;
use crate::store::redelivery::{
    self, COUNT_PAGE, Candidate, Found, Place, STEP_LOOKED_AT_MAX, ended,
};
use crate::store::{
    Destination, Hint, MATCHED_MAX, NewRedelivery, Redelivery, RedeliveryFilter, RedeliveryState,
    RedeliveryStep, Result,
};
use crate::task::State;

const COLUMNS: &str = "id, owner, client, of_state, since, until, callback_host, state,
                       created_at, finished_at, matched, done";
/// How many they are.
const WIDTH: usize = 12;

fn read(row: &Row) -> Tried<Redelivery> {
    Ok(Redelivery {
        id: get(row, 0)?,
        owner: get(row, 1)?,
        filter: RedeliveryFilter {
            client: get(row, 2)?,
            state: named(row, 3, State::named)?,
            since: Timestamp(get(row, 4)?),
            until: Timestamp(get(row, 5)?),
            callback_host: get(row, 6)?,
        },
        state: named(row, 7, RedeliveryState::named)?,
        created_at: Timestamp(get(row, 8)?),
        finished_at: time(row, 9)?,
        matched: number(row, 10)?,
        done: number(row, 11)?,
    })
}

pub(super) async fn begin(
    db: &Session,
    new: &NewRedelivery,
    matched: u64,
) -> Tried<Option<Redelivery>> {
    let filter = &new.filter;
    let sql = format!(
        "INSERT INTO redelivery (id, owner, client, of_state, since, until, callback_host, state,
                                 created_at, matched, stepped_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, 'running', $8, $9, $8)
         RETURNING {COLUMNS}"
    );
    let row = db
        .query_opt(
            &sql,
            &[
                &new.id,
                &new.owner,
                &filter.client,
                &filter.state.name(),
                &filter.since.0,
                &filter.until.0,
                &filter.callback_host,
                &new.created_at.0,
                &i64::try_from(matched).map_err(unreadable)?,
            ],
        )
        .await?;
    row.as_ref().map(read).transpose()
}

/// A page of registrations in the order in which they ended, and of those the first `limit` that
/// fit.
pub(super) async fn look(
    db: &Session,
    filter: &RedeliveryFilter,
    after: &Place,
    page_max: u32,
    limit: u32,
) -> Tried<Found> {
    let sql = format!(
        "SELECT finished_at, id, client, callback_host, state FROM registration
         WHERE {} AND (finished_at, id) > ($1, $2) AND finished_at < $3
         ORDER BY finished_at, id LIMIT $4",
        ended(filter.state)
    );
    let values: [&(dyn ToSql + Sync); 4] =
        [&after.at.0, &after.id, &filter.until.0, &i64::from(page_max)];
    let rows = db.query(&sql, &values).await?;
    let candidate = |row| {
        Ok::<_, Failure>(Candidate {
            place: Place { at: Timestamp(get(row, 0)?), id: get(row, 1)? },
            client: get(row, 2)?,
            host: get(row, 3)?,
            state: named(row, 4, State::named)?,
        })
    };
    redelivery::find(rows.iter().map(candidate), filter, page_max, limit)
}

/// How many fit: a page at a time, so that other calls have their turn.
pub(super) async fn count(sessions: &Sessions, filter: &RedeliveryFilter) -> Result<u64> {
    let (mut matched, mut place) = (0, Place::before(filter));
    loop {
        let found = on_session!(sessions, |db| look(&db, filter, &place, COUNT_PAGE, u32::MAX))?;
        matched += found.ids.len() as u64;
        match found.last {
            Some(last) if !found.all && matched < MATCHED_MAX => place = last,
            _ => return Ok(matched.min(MATCHED_MAX)),
        }
    }
}

pub(super) async fn find(db: &Session, id: &str) -> Tried<Option<Redelivery>> {
    let sql = format!("SELECT {COLUMNS} FROM redelivery WHERE id = $1");
    db.query_opt(&sql, &[&id]).await?.as_ref().map(read).transpose()
}

const CANCEL: &str = "
    UPDATE redelivery SET state = 'cancelled', finished_at = $2
    WHERE id = $1 AND state = 'running'";

pub(super) async fn cancel(db: &Session, id: &str, now: Timestamp) -> Tried<Option<Redelivery>> {
    db.query(CANCEL, &[&id, &now.0]).await?;
    find(db, id).await
}

const STEPPED: &str = "
    UPDATE redelivery
    SET done = done + $2, after_at = $3, after_id = $4, stepped_at = $5::bigint,
        state = CASE WHEN $6 THEN 'finished' ELSE state END,
        finished_at = CASE WHEN $6 THEN $5::bigint END
    WHERE id = $1";

/// Looks at a bounded number of registrations, whether they fit or not, so that no step is long. Of
/// several daemons each steps another redelivery, or none: one that is being stepped is passed by.
pub(super) async fn step(
    db: &Session,
    passed_by: &[String],
    limit: u32,
    now: Timestamp,
    hints: &mut Vec<Hint>,
) -> Tried<Option<RedeliveryStep>> {
    hints.clear();
    let turn = format!(
        "SELECT {COLUMNS}, after_at, after_id FROM redelivery WHERE state = 'running' AND owner <> ALL($1)
         ORDER BY stepped_at, id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED"
    );
    let [turn, stepped] = db.prepare([&turn, STEPPED]).await?;
    let ((), running) = flight!(db.say("BEGIN"), db.send(&turn, &[&passed_by]))?;
    let Some(row) = running.first() else {
        db.say("COMMIT").await?;
        return Ok(None);
    };
    let Redelivery { id, owner, filter, .. } = read(row)?;
    let place = Place { at: Timestamp(get(row, WIDTH)?), id: get(row, WIDTH + 1)? };
    let place = place.max(Place::before(&filter));
    let found = look(db, &filter, &place, STEP_LOOKED_AT_MAX, limit).await?;
    let mut destinations = again(db, &filter, &found.ids, now).await?;
    let done = i64::try_from(destinations.len()).unwrap_or(i64::MAX);
    let (place, finished) = (found.last.unwrap_or(place), found.all);
    let step: [&(dyn ToSql + Sync); 6] = [&id, &done, &place.at.0, &place.id, &now.0, &finished];
    flight!(db.send(&stepped, &step), db.say("COMMIT"))?;
    destinations.sort_unstable();
    destinations.dedup();
    hints.extend(destinations.iter().cloned().map(Hint::Due));
    Ok(Some(RedeliveryStep { id, owner, destinations, finished }))
}

/// Makes them due, locked in the order of their ids; one that somebody changed meanwhile stays.
/// Returns where each goes.
async fn again(
    db: &Session,
    filter: &RedeliveryFilter,
    ids: &[String],
    now: Timestamp,
) -> Tried<Vec<Destination>> {
    // A state's name stands in the statement itself: only so are partial indexes found.
    let state = filter.state.name();
    let sql = format!(
        "WITH held AS (
             SELECT id FROM registration WHERE id = ANY($1) AND state = '{state}'
             ORDER BY id FOR NO KEY UPDATE),
         again AS (
             UPDATE registration r
             SET state = 'delivering', next_attempt_at = $2, round = 0, first_attempt_at = NULL,
                 finished_at = NULL
             FROM held WHERE r.id = held.id
             RETURNING r.client, r.callback_url, r.callback_origin),
         back AS (
             DELETE FROM gone_callback g USING again a
             WHERE g.client = a.client AND g.callback_url = a.callback_url)
         SELECT client, callback_origin FROM again"
    );
    db.query(&sql, &[&ids, &now.0]).await?.iter().map(|row| destination(row, 0)).collect()
}
