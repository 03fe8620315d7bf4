//! Looking things up. One statement each.

use std::time::Duration;

use tokio_postgres::types::ToSql;

use super::rows::{COLUMNS, FROM, WIDTH, get, maybe_number, named, number, registration};
use super::session::{Session, Tried};
use crate::clock::Timestamp;
use crate::store::{Attempt, AttemptDetails, Filter};
use crate::task::{Registration, State};

pub(super) async fn find(db: &Session, id: &str) -> Tried<Option<Registration>> {
    let row = db.query_opt(&format!("SELECT {COLUMNS} {FROM} WHERE r.id = $1"), &[&id]).await?;
    row.as_ref().map(registration).transpose()
}

pub(super) async fn list(
    db: &Session,
    filter: &Filter,
    before: Option<&str>,
    limit: u32,
) -> Tried<Vec<Registration>> {
    let state = filter.state.map(State::name);
    let limit = i64::from(limit);
    let conditions: [(&str, Option<&(dyn ToSql + Sync)>); 6] = [
        ("r.id < $", before.as_ref().map(|v| v as _)),
        ("r.client = $", filter.client.as_ref().map(|v| v as _)),
        ("r.state = $", state.as_ref().map(|v| v as _)),
        ("l.account = $", filter.account.as_ref().map(|v| v as _)),
        ("t.delivery_task_id = $", filter.delivery_task_id.as_ref().map(|v| v as _)),
        ("r.callback_host = $", filter.callback_host.as_ref().map(|v| v as _)),
    ];
    let mut sql = format!("SELECT {COLUMNS} {FROM} WHERE true");
    let mut values: Vec<&(dyn ToSql + Sync)> = Vec::new();
    for (condition, value) in conditions {
        if let Some(value) = value {
            values.push(value);
            sql.extend([" AND ", condition, &values.len().to_string()]);
        }
    }
    values.push(&limit);
    sql.extend([" ORDER BY r.id DESC LIMIT $", &values.len().to_string()]);
    db.query(&sql, &values).await?.iter().map(registration).collect()
}

pub(super) async fn outcomes(
    db: &Session,
    client: &str,
    after: u64,
    limit: u32,
) -> Tried<Vec<(u64, Registration)>> {
    let sql = format!(
        "SELECT {COLUMNS}, r.outcome_position {FROM}
         WHERE r.client = $1 AND r.outcome_position > $2 ORDER BY r.outcome_position LIMIT $3"
    );
    // A cursor beyond any position finds nothing.
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let rows = db.query(&sql, &[&client, &after, &i64::from(limit)]).await?;
    rows.iter().map(|row| Ok((number(row, WIDTH)?, registration(row)?))).collect()
}

pub(super) async fn attempts(db: &Session, id: &str) -> Tried<Vec<Attempt>> {
    let sql = "SELECT number, at, duration_ms, status, error, reply_excerpt, verdict,
                      connect_ms, first_byte_ms, error_class, reason
               FROM attempt WHERE registration = $1 ORDER BY number";
    let rows = db.query(sql, &[&id]).await?;
    let attempt = |row| {
        Ok(Attempt {
            number: number(row, 0)?,
            at: Timestamp(get(row, 1)?),
            duration: Duration::from_millis(number(row, 2)?),
            status: maybe_number(row, 3)?,
            error: get(row, 4)?,
            reply_excerpt: get(row, 5)?,
            verdict: get(row, 6)?,
            details: AttemptDetails {
                connect: maybe_number(row, 7)?.map(Duration::from_millis),
                first_byte: maybe_number(row, 8)?.map(Duration::from_millis),
                error_class: get(row, 9)?,
                reason: get(row, 10)?,
            },
        })
    };
    rows.iter().map(attempt).collect()
}

pub(super) async fn counts(db: &Session) -> Tried<Vec<(State, u64)>> {
    let sql = "SELECT state, count(*) FROM registration
               WHERE state IN ('watching', 'delivering', 'undeliverable') GROUP BY state";
    let rows = db.query(sql, &[]).await?;
    rows.iter().map(|row| Ok((named(row, 0, State::named)?, number(row, 1)?))).collect()
}
