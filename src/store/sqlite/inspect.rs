//! Looking things up.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, ToSql, params};

use super::rows::{COLUMNS, FROM, WIDTH, named, registration};
use crate::clock::Timestamp;
use crate::store::listing::{self, FEW, LOOKED_AT_MAX, Listed, Sql};
use crate::store::{ATTEMPTS_MAX, Attempt, AttemptDetails, Filter, Result};
use crate::task::{Registration, State};

pub(super) fn find(db: &Connection, id: &str) -> Result<Option<Registration>> {
    let sql = format!("SELECT {COLUMNS} {FROM} WHERE r.id = ?1");
    Ok(db.prepare_cached(&sql)?.query_row([id], registration).optional()?)
}

pub(super) fn list(
    db: &Connection,
    filter: &Filter,
    before: Option<&str>,
    limit: u32,
) -> Result<Listed> {
    for few in listing::narrow(filter, '?') {
        if count(db, &few)? < FEW {
            let all = listing::among(few, COLUMNS, FROM, filter, before);
            let mut statement = db.prepare_cached(&all.text)?;
            let rows = statement.query_map(&values(&all, &[&limit])[..], registration)?;
            let items = rows.collect::<rusqlite::Result<_>>()?;
            return Ok(Listed { items, resume: None });
        }
    }
    look_through(db, filter, before, limit)
}

/// Counts up to [`FEW`].
fn count(db: &Connection, few: &Sql) -> Result<u32> {
    let sql = format!("SELECT count(*) FROM ({} LIMIT {FEW})", few.text);
    Ok(db.prepare_cached(&sql)?.query_row(&values(few, &[])[..], |row| row.get(0))?)
}

/// Rows are read no further than the page is long: each says whether it fits.
fn look_through(
    db: &Connection,
    filter: &Filter,
    before: Option<&str>,
    limit: u32,
) -> Result<Listed> {
    let mut sql = Sql::new(format!("SELECT {COLUMNS}, "), '?');
    listing::rest(&mut sql, filter);
    sql.text.extend([" ", FROM]);
    listing::lead(&mut sql, filter, before);
    sql.number(" LIMIT ", 1);
    let mut statement = db.prepare_cached(&sql.text)?;
    let mut rows = statement.query(&values(&sql, &[&LOOKED_AT_MAX])[..])?;
    let mut listed = Listed::default();
    let mut looked_at = 0;
    while listed.items.len() < limit as usize {
        let Some(row) = rows.next()? else { break };
        if row.get(WIDTH)? {
            listed.items.push(registration(row)?);
        }
        looked_at += 1;
        if looked_at == LOOKED_AT_MAX {
            listed.resume = Some(row.get(0)?);
        }
    }
    Ok(listed)
}

fn values<'a>(sql: &'a Sql, more: &[&'a dyn ToSql]) -> Vec<&'a dyn ToSql> {
    sql.values.iter().map(|value| value as &dyn ToSql).chain(more.iter().copied()).collect()
}

pub(super) fn outcomes(
    db: &Connection,
    client: &str,
    after: u64,
    limit: u32,
) -> Result<Vec<(u64, Registration)>> {
    let sql = format!(
        "SELECT {COLUMNS}, r.outcome_position {FROM}
         WHERE r.client = ?1 AND r.outcome_position > ?2
         ORDER BY r.outcome_position LIMIT ?3"
    );
    // A cursor beyond any position finds nothing.
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let rows = db
        .prepare_cached(&sql)?
        .query_map(params![client, after, limit], |row| Ok((row.get(WIDTH)?, registration(row)?)))?
        .collect::<rusqlite::Result<_>>();
    Ok(rows?)
}

pub(super) fn attempts(db: &Connection, id: &str) -> Result<Vec<Attempt>> {
    let rows = db
        .prepare_cached(
            "SELECT number, at, duration_ms, status, error, reply_excerpt, verdict, connect_ms,
                    first_byte_ms, error_class, reason
             FROM (SELECT * FROM attempt WHERE registration = ?1 ORDER BY number DESC LIMIT ?2)
             ORDER BY number",
        )?
        .query_map(params![id, ATTEMPTS_MAX], |row| {
            Ok(Attempt {
                number: row.get(0)?,
                at: Timestamp(row.get(1)?),
                duration: Duration::from_millis(row.get(2)?),
                status: row.get(3)?,
                error: row.get(4)?,
                reply_excerpt: row.get(5)?,
                verdict: row.get(6)?,
                details: AttemptDetails {
                    connect: row.get::<_, Option<u64>>(7)?.map(Duration::from_millis),
                    first_byte: row.get::<_, Option<u64>>(8)?.map(Duration::from_millis),
                    error_class: row.get(9)?,
                    reason: row.get(10)?,
                },
            })
        })?
        .collect::<rusqlite::Result<_>>();
    Ok(rows?)
}

/// Kept by triggers.
pub(super) fn counts(db: &Connection) -> Result<Vec<(State, u64)>> {
    let rows = db
        .prepare_cached("SELECT state, count FROM registration_count ORDER BY state")?
        .query_map([], |row| Ok((named(row, 0, State::named)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>();
    Ok(rows?)
}
