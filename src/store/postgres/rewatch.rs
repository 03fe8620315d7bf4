//! Bulk rewatches: a filter in a row, and a place in the order in which registrations ended.

use async_trait::async_trait;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::Postgres;
use super::rows::{get, named, number, time};
use super::session::{Session, Sessions, Tried, on_session};
use crate::clock::Timestamp;
use crate::outcome::Reason;
use crate::store::rewatch::{COUNT_PAGE, Found, RUNNING_MAX};
use crate::store::{
    MATCHED_MAX, NewRegistration, NewRewatch, RedeliveryState, Result, Rewatch, RewatchFilter,
    RewatchPage, Rewatches, Unresolved,
};
use crate::task::{Kind, TaskRef};

#[async_trait]
impl Rewatches for Postgres {
    async fn begin_rewatch(&self, new: NewRewatch) -> Result<Option<Rewatch>> {
        let matched = count(&self.sessions, &new.filter).await?;
        on_session!(self.sessions, |db| begin(&db, &new, matched))
    }

    async fn rewatch(&self, id: &str) -> Result<Option<Rewatch>> {
        on_session!(self.sessions, |db| find(&db, id))
    }

    async fn cancel_rewatch(&self, id: &str, now: Timestamp) -> Result<Option<Rewatch>> {
        on_session!(self.sessions, |db| cancel(&db, id, now))
    }

    async fn rewatch_page(&self, limit: u32, now: Timestamp) -> Result<Option<RewatchPage>> {
        let turn = on_session!(self.work, |db| turn(&db, now))?;
        match turn {
            Some(turn) => on_session!(self.work, |db| page(&db, &turn, limit)).map(Some),
            None => Ok(None),
        }
    }

    async fn rewatched(&self, page: &RewatchPage, done: u32, now: Timestamp) -> Result<()> {
        on_session!(self.work, |db| rewatched(&db, page, done, now))
    }
}

const COLUMNS: &str = "id, owner, client, account, reason, since, until, state, created_at,
                       finished_at, matched, done";
/// How many they are.
const WIDTH: usize = 12;

fn rewatch(row: &Row) -> Tried<Rewatch> {
    let reason: Option<&str> = get(row, 4)?;
    Ok(Rewatch {
        id: get(row, 0)?,
        owner: get(row, 1)?,
        filter: RewatchFilter {
            client: get(row, 2)?,
            account: get(row, 3)?,
            reason: reason.and_then(Reason::named),
            since: Timestamp(get(row, 5)?),
            until: Timestamp(get(row, 6)?),
        },
        state: named(row, 7, RedeliveryState::named)?,
        created_at: Timestamp(get(row, 8)?),
        finished_at: time(row, 9)?,
        matched: number(row, 10)?,
        done: number(row, 11)?,
    })
}

/// How many registrations fit: a page at a time, so that no statement is long.
async fn count(sessions: &Sessions, filter: &RewatchFilter) -> Result<u64> {
    let (mut matched, mut after) = (0, filter.begin());
    loop {
        let found = on_session!(sessions, |db| look(&db, filter, &after, COUNT_PAGE))?;
        matched += found.fitting.len() as u64;
        match found.last {
            Some(last) if !found.finished && matched < MATCHED_MAX => after = last,
            _ => return Ok(matched.min(MATCHED_MAX)),
        }
    }
}

async fn begin(db: &Session, new: &NewRewatch, matched: u64) -> Tried<Option<Rewatch>> {
    let sql = format!(
        "INSERT INTO rewatch (id, owner, client, account, reason, since, until, state, created_at,
                              matched, after_at, stepped_at)
         SELECT $1, $2, $3, $4, $5, $6, $7, 'running', $8, $10, $6, $8
         WHERE (SELECT count(*) FROM rewatch WHERE state = 'running' AND owner = $2) < $9
         RETURNING {COLUMNS}"
    );
    let RewatchFilter { client, account, reason, since, until } = &new.filter;
    let row = db
        .query_opt(
            &sql,
            &[
                &new.id,
                &new.owner,
                client,
                account,
                &reason.map(Reason::name),
                &since.0,
                &until.0,
                &new.created_at.0,
                &i64::from(RUNNING_MAX),
                &i64::try_from(matched).unwrap_or(i64::MAX),
            ],
        )
        .await?;
    row.as_ref().map(rewatch).transpose()
}

async fn find(db: &Session, id: &str) -> Tried<Option<Rewatch>> {
    let sql = format!("SELECT {COLUMNS} FROM rewatch WHERE id = $1");
    db.query_opt(&sql, &[&id]).await?.as_ref().map(rewatch).transpose()
}

async fn cancel(db: &Session, id: &str, now: Timestamp) -> Tried<Option<Rewatch>> {
    let sql = "UPDATE rewatch SET state = 'cancelled', finished_at = $2
               WHERE id = $1 AND state = 'running'";
    db.query(sql, &[&id, &now.0]).await?;
    find(db, id).await
}

/// Whose turn it is, and where it goes on.
struct Turn {
    rewatch: Rewatch,
    after: (Timestamp, String),
}

async fn turn(db: &Session, now: Timestamp) -> Tried<Option<Turn>> {
    let sql = format!(
        "UPDATE rewatch SET stepped_at = $1 WHERE id = (
             SELECT id FROM rewatch r WHERE state = 'running'
             ORDER BY (SELECT max(stepped_at) FROM rewatch
                       WHERE state = 'running' AND owner = r.owner), stepped_at, id LIMIT 1)
         RETURNING {COLUMNS}, after_at, after_id"
    );
    let row = db.query_opt(&sql, &[&now.0]).await?;
    let turn = |row: &Row| {
        let after = (Timestamp(get(row, WIDTH)?), get(row, WIDTH + 1)?);
        Ok(Turn { rewatch: rewatch(row)?, after })
    };
    row.as_ref().map(turn).transpose()
}

const PAGE: &str = "
    SELECT r.id, r.client, l.kind, l.account, t.website_id, t.delivery_task_id, r.callback_url,
           r.callback_origin, r.callback_host, r.metadata, r.created_at, r.give_up_at,
           r.unresolved_at, r.unresolved, r.state = 'cancelled'
    FROM registration r JOIN task t ON t.id = r.task JOIN lane l ON l.id = t.lane
    WHERE r.unresolved IS NOT NULL AND (r.unresolved_at, r.id) > ($1, $2) AND r.unresolved_at < $3
    ORDER BY r.unresolved_at, r.id LIMIT $4";

async fn page(db: &Session, turn: &Turn, limit: u32) -> Tried<RewatchPage> {
    let Turn { rewatch: Rewatch { id, filter, .. }, after } = turn;
    let Found { fitting, last, finished } = look(db, filter, after, limit).await?;
    Ok(RewatchPage { id: id.clone(), found: fitting, last, finished })
}

async fn look(
    db: &Session,
    filter: &RewatchFilter,
    after: &(Timestamp, String),
    limit: u32,
) -> Tried<Found> {
    let page = [&after.0.0 as &(dyn ToSql + Sync), &after.1, &filter.until.0, &i64::from(limit)];
    let rows = db.query(PAGE, &page).await?;
    let read: Vec<(Unresolved, bool)> = rows.iter().map(unresolved).collect::<Tried<_>>()?;
    Ok(Found::of(read, filter, limit))
}

fn unresolved(row: &Row) -> Tried<(Unresolved, bool)> {
    let registered = NewRegistration {
        id: get(row, 0)?,
        client: get(row, 1)?,
        task: TaskRef {
            kind: named(row, 2, Kind::named)?,
            account: get(row, 3)?,
            website_id: get(row, 4)?,
            delivery_task_id: get(row, 5)?,
        },
        callback_url: get(row, 6)?,
        callback_origin: get(row, 7)?,
        callback_host: get(row, 8)?,
        metadata: get(row, 9)?,
        created_at: Timestamp(get(row, 10)?),
        give_up_at: Timestamp(get(row, 11)?),
    };
    let (at, reason) = (Timestamp(get(row, 12)?), named(row, 13, Reason::named)?);
    Ok((Unresolved { registered, at, reason }, get(row, 14)?))
}

async fn rewatched(db: &Session, page: &RewatchPage, done: u32, now: Timestamp) -> Tried<()> {
    let (at, id) = page.last.clone().unzip();
    let sql = "UPDATE rewatch SET done = done + $2, after_at = coalesce($3, after_at),
                      after_id = coalesce($4, after_id),
                      state = CASE WHEN $5 THEN 'finished' ELSE state END,
                      finished_at = CASE WHEN $5 THEN $6::bigint END
               WHERE id = $1 AND state = 'running'";
    let params: [&(dyn ToSql + Sync); 6] =
        [&page.id, &i64::from(done), &at.map(|at| at.0), &id, &page.finished, &now.0];
    db.query(sql, &params).await?;
    Ok(())
}
