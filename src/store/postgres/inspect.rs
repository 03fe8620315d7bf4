//! Looking things up.

use std::time::Duration;

use tokio_postgres::types::ToSql;

use super::rows::{COLUMNS, FROM, WIDTH, get, maybe_number, number, registration};
use super::session::{Session, Tried};
use crate::clock::Timestamp;
use crate::store::listing::{self, FEW, LOOKED_AT_MAX, Listed, Sql};
use crate::store::{ATTEMPTS_MAX, Attempt, AttemptDetails, Filter};
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
) -> Tried<Listed> {
    let limit = i64::from(limit);
    for few in listing::narrow(filter, '$') {
        if count(db, &few).await? < i64::from(FEW) {
            let all = listing::among(few, COLUMNS, FROM, filter, before);
            let rows = db.query(&all.text, &values(&all, &[&limit])).await?;
            let items = rows.iter().map(registration).collect::<Tried<_>>()?;
            return Ok(Listed { items, resume: None });
        }
    }
    look_through(db, filter, before, limit).await
}

/// Counts up to [`FEW`].
async fn count(db: &Session, few: &Sql) -> Tried<i64> {
    let sql = format!("SELECT count(*) FROM ({} LIMIT {FEW}) few", few.text);
    let row = db.query_opt(&sql, &values(few, &[])).await?;
    row.map_or(Ok(0), |row| get(&row, 0))
}

async fn look_through(
    db: &Session,
    filter: &Filter,
    before: Option<&str>,
    limit: i64,
) -> Tried<Listed> {
    let mut sql = Sql::new(format!("SELECT {COLUMNS} FROM (SELECT r.* FROM registration r"), '$');
    listing::lead(&mut sql, filter, before);
    let joined = "JOIN task t ON t.id = r.task JOIN lane l ON l.id = t.lane WHERE ";
    sql.text.extend([" LIMIT ", &LOOKED_AT_MAX.to_string(), ") r ", joined]);
    listing::rest(&mut sql, filter);
    sql.number(" ORDER BY r.id DESC LIMIT ", 1);
    let rows = db.query(&sql.text, &values(&sql, &[&limit])).await?;
    let items: Vec<Registration> = rows.iter().map(registration).collect::<Tried<_>>()?;
    let full = i64::try_from(items.len()).is_ok_and(|found| found >= limit);
    let resume = if full { None } else { last_looked_at(db, filter, before).await? };
    Ok(Listed { items, resume })
}

/// Where looking ended, unless that was at the last there is.
async fn last_looked_at(
    db: &Session,
    filter: &Filter,
    before: Option<&str>,
) -> Tried<Option<String>> {
    let mut sql = Sql::new("SELECT r.id FROM registration r", '$');
    listing::lead(&mut sql, filter, before);
    sql.text.extend([" OFFSET ", &(LOOKED_AT_MAX - 1).to_string(), " LIMIT 1"]);
    let row = db.query_opt(&sql.text, &values(&sql, &[])).await?;
    row.map(|row| get(&row, 0)).transpose()
}

fn values<'a>(sql: &'a Sql, more: &[&'a (dyn ToSql + Sync)]) -> Vec<&'a (dyn ToSql + Sync)> {
    let texts = sql.values.iter().map(|value| value as &(dyn ToSql + Sync));
    texts.chain(more.iter().copied()).collect()
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
               FROM (SELECT * FROM attempt WHERE registration = $1
                     ORDER BY number DESC LIMIT $2) newest
               ORDER BY number";
    let rows = db.query(sql, &[&id, &i64::from(ATTEMPTS_MAX)]).await?;
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

/// Kept by triggers, in shards so that no commit waits for another's.
pub(super) async fn counts(db: &Session) -> Tried<Vec<(State, u64)>> {
    let sums = State::ALL.map(|state| format!("sum({})::bigint", state.name())).join(", ");
    let row = db.query_opt(&format!("SELECT {sums} FROM registration_count"), &[]).await?;
    let Some(row) = row else { return Ok(Vec::new()) };
    State::ALL.iter().enumerate().map(|(n, state)| Ok((*state, number(&row, n)?))).collect()
}
