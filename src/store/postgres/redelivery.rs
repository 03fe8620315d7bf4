//! Bulk redeliveries: a filter in a row, and a place in the order of ids.

use tokio_postgres::Row;

use super::rows::{get, named, number, time};
use super::session::{Session, Tried, flight};
use crate::clock::Timestamp;
use crate::store::{
    Hint, NewRedelivery, Redelivery, RedeliveryFilter, RedeliveryState, RedeliveryStep,
};
use crate::task::State;

const COLUMNS: &str = "id, owner, client, of_state, since, until, callback_host, state,
                       created_at, finished_at, matched, done";
/// How many they are.
const WIDTH: usize = 12;

fn redelivery(row: &Row) -> Tried<Redelivery> {
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

/// A state's name stands in the statement itself: only so are partial indexes found.
pub(super) async fn begin(db: &Session, new: &NewRedelivery) -> Tried<Option<Redelivery>> {
    let filter = &new.filter;
    let state = filter.state.name();
    let sql = format!(
        "INSERT INTO redelivery (id, owner, client, of_state, since, until, callback_host, state,
                                 created_at, matched, stepped_at)
         SELECT $1, $2, $3, '{state}', $4, $5, $6, 'running', $7, count(*), $7
         FROM registration
         WHERE state = '{state}' AND finished_at >= $4 AND finished_at < $5
           AND ($3::text IS NULL OR client = $3) AND ($6::text IS NULL OR callback_host = $6)
         RETURNING {COLUMNS}"
    );
    let row = db
        .query_opt(
            &sql,
            &[
                &new.id,
                &new.owner,
                &filter.client,
                &filter.since.0,
                &filter.until.0,
                &filter.callback_host,
                &new.created_at.0,
            ],
        )
        .await?;
    row.as_ref().map(redelivery).transpose()
}

pub(super) async fn find(db: &Session, id: &str) -> Tried<Option<Redelivery>> {
    let sql = format!("SELECT {COLUMNS} FROM redelivery WHERE id = $1");
    db.query_opt(&sql, &[&id]).await?.as_ref().map(redelivery).transpose()
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
    SET done = done + $2, after = coalesce($3, after), stepped_at = $4::bigint,
        state = CASE WHEN $5 THEN 'finished' ELSE state END,
        finished_at = CASE WHEN $5 THEN $4::bigint END
    WHERE id = $1";

/// Looks at `limit` registrations at most, whether they fit or not, so that no step is long. Of
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
        "SELECT {COLUMNS}, after FROM redelivery WHERE state = 'running' AND owner <> ALL($1)
         ORDER BY stepped_at, id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED"
    );
    let [turn, stepped] = db.prepare([&turn, STEPPED]).await?;
    let ((), running) = flight!(db.say("BEGIN"), db.send(&turn, &[&passed_by]))?;
    let Some(row) = running.first() else {
        db.say("COMMIT").await?;
        return Ok(None);
    };
    let Redelivery { id, owner, filter, .. } = redelivery(row)?;
    let page = candidates(db, &filter, get(row, WIDTH)?, limit).await?;
    let finished = page.len() < usize::try_from(limit).unwrap_or(usize::MAX);
    let last = page.last().map(|candidate| candidate.id.clone());
    let fitting: Vec<&str> =
        page.iter().filter(|it| it.fits(&filter)).map(|it| it.id.as_str()).collect();
    let mut origins = again(db, &filter, &fitting, now).await?;
    let done = i64::try_from(origins.len()).unwrap_or(i64::MAX);
    flight!(db.send(&stepped, &[&id, &done, &last, &now.0, &finished]), db.say("COMMIT"),)?;
    origins.sort_unstable();
    origins.dedup();
    hints.extend(origins.iter().map(|origin| Hint::Due { origin: origin.clone() }));
    Ok(Some(RedeliveryStep { id, owner, origins, finished }))
}

/// A registration as a step looks at it.
struct Candidate {
    id: String,
    client: String,
    host: String,
    finished_at: Timestamp,
}

async fn candidates(
    db: &Session,
    filter: &RedeliveryFilter,
    after: &str,
    limit: u32,
) -> Tried<Vec<Candidate>> {
    let sql = format!(
        "SELECT id, client, callback_host, finished_at FROM registration
         WHERE state = '{}' AND id > $1 ORDER BY id LIMIT $2",
        filter.state.name()
    );
    let candidate = |row| {
        Ok(Candidate {
            id: get(row, 0)?,
            client: get(row, 1)?,
            host: get(row, 2)?,
            finished_at: Timestamp(get(row, 3)?),
        })
    };
    db.query(&sql, &[&after, &i64::from(limit)]).await?.iter().map(candidate).collect()
}

impl Candidate {
    fn fits(&self, filter: &RedeliveryFilter) -> bool {
        filter.fits(&self.client, &self.host, self.finished_at)
    }
}

/// Makes them due, locked in the order of their ids; one that somebody changed meanwhile stays.
/// Returns the origin of each.
async fn again(
    db: &Session,
    filter: &RedeliveryFilter,
    ids: &[&str],
    now: Timestamp,
) -> Tried<Vec<String>> {
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
         SELECT callback_origin FROM again"
    );
    db.query(&sql, &[&ids, &now.0]).await?.iter().map(|row| get(row, 0)).collect()
}
