//! Looking things up.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, ToSql, params};

use super::rows::{REGISTRATION, named, registration};
use crate::clock::Timestamp;
use crate::store::{Attempt, AttemptDetails, Filter, Result};
use crate::task::{Registration, State};

pub(super) fn find(db: &Connection, id: &str) -> Result<Option<Registration>> {
    let sql = format!("{REGISTRATION} WHERE r.id = ?1");
    Ok(db.prepare_cached(&sql)?.query_row([id], registration).optional()?)
}

pub(super) fn list(
    db: &Connection,
    filter: &Filter,
    before: Option<&str>,
    limit: u32,
) -> Result<Vec<Registration>> {
    let state = filter.state.map(State::name);
    let conditions: [(&str, Option<&dyn ToSql>); 6] = [
        ("r.id < ", before.as_ref().map(|v| v as &dyn ToSql)),
        ("r.client = ", filter.client.as_ref().map(|v| v as &dyn ToSql)),
        ("r.state = ", state.as_ref().map(|v| v as &dyn ToSql)),
        ("l.account = ", filter.account.as_ref().map(|v| v as &dyn ToSql)),
        ("t.delivery_task_id = ", filter.delivery_task_id.as_ref().map(|v| v as &dyn ToSql)),
        ("r.callback_host = ", filter.callback_host.as_ref().map(|v| v as &dyn ToSql)),
    ];
    let mut sql = format!("{REGISTRATION} WHERE 1");
    let mut values: Vec<&dyn ToSql> = Vec::new();
    for (condition, value) in conditions {
        if let Some(value) = value {
            values.push(value);
            sql.extend([" AND ", condition, "?", &values.len().to_string()]);
        }
    }
    values.push(&limit);
    sql.extend([" ORDER BY r.id DESC LIMIT ?", &values.len().to_string()]);
    let rows = db
        .prepare_cached(&sql)?
        .query_map(&values[..], registration)?
        .collect::<rusqlite::Result<_>>();
    Ok(rows?)
}

pub(super) fn outcomes(
    db: &Connection,
    client: &str,
    after: u64,
    limit: u32,
) -> Result<Vec<(u64, Registration)>> {
    let sql = format!(
        "{REGISTRATION} WHERE r.client = ?1 AND r.outcome_position > ?2
         ORDER BY r.outcome_position LIMIT ?3"
    );
    // A cursor beyond any position finds nothing.
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let rows = db
        .prepare_cached(&sql)?
        .query_map(params![client, after, limit], |row| Ok((row.get(16)?, registration(row)?)))?
        .collect::<rusqlite::Result<_>>();
    Ok(rows?)
}

pub(super) fn attempts(db: &Connection, id: &str) -> Result<Vec<Attempt>> {
    let rows = db
        .prepare_cached(
            "SELECT number, at, duration_ms, status, error, reply_excerpt, verdict, connect_ms,
                    first_byte_ms, error_class, reason
             FROM attempt WHERE registration = ?1 ORDER BY number",
        )?
        .query_map([id], |row| {
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

pub(super) fn counts(db: &Connection) -> Result<Vec<(State, u64)>> {
    let rows = db
        .prepare_cached(
            "SELECT state, count(*) FROM registration
             WHERE state IN ('watching', 'delivering', 'undeliverable') GROUP BY state",
        )?
        .query_map([], |row| Ok((named(row, 0, State::named)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>();
    Ok(rows?)
}
