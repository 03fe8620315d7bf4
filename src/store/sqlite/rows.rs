//! Rows to nouns.

use rusqlite::types::Type;
use rusqlite::{Connection, Row};
use serde_json::value::RawValue;

use super::unavailable;
use crate::clock::Timestamp;
use crate::outcome;
use crate::store::{Result, StoreError};
use crate::task::{Callback, DeliveryState, Kind, Registration, State, TaskId, TaskRef};
use crate::watching::{Answer, Watching};

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error {
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::IntegralValueOutOfRange(..) => Self::Corrupt(error.to_string()),
            error => unavailable(&error),
        }
    }
}

/// Every column of a registration, with its task and lane: the first of any query that reads
/// registrations.
pub(super) const COLUMNS: &str = "
    r.id, r.client, l.kind, l.account, t.website_id, t.delivery_task_id, r.callback_url,
    r.metadata, r.state, r.created_at, r.give_up_at, r.body, r.attempts, r.next_attempt_at,
    r.last_status, r.last_error, t.id, t.polls, t.last_polled_at, t.last_answer";
/// How many they are.
pub(super) const WIDTH: usize = 20;

/// Where registrations are read from.
pub(super) const FROM: &str =
    "FROM registration r JOIN task t ON t.id = r.task JOIN lane l ON l.id = t.lane";

/// Reads [`COLUMNS`].
pub(super) fn registration(row: &Row<'_>) -> rusqlite::Result<Registration> {
    let body: Option<Vec<u8>> = row.get(11)?;
    let outcome = body.map(|body| outcome::read(&body)).transpose().map_err(|e| bad(11, e))?;
    let state = named(row, 8, State::named)?;
    Ok(Registration {
        id: row.get(0)?,
        client: row.get(1)?,
        task: TaskRef {
            kind: named(row, 2, Kind::named)?,
            account: row.get(3)?,
            website_id: row.get(4)?,
            delivery_task_id: row.get(5)?,
        },
        callback: Callback { url: row.get(6)? },
        metadata: RawValue::from_string(row.get(7)?).map_err(|e| bad(7, e))?,
        state,
        created_at: Timestamp(row.get(9)?),
        give_up_at: Timestamp(row.get(10)?),
        outcome,
        watch: (state == State::Watching).then(|| watching(row)).transpose()?,
        delivery: DeliveryState {
            attempts: row.get(12)?,
            next_attempt_at: row.get::<_, Option<i64>>(13)?.map(Timestamp),
            last_status: row.get(14)?,
            last_error: row.get(15)?,
        },
    })
}

fn watching(row: &Row<'_>) -> rusqlite::Result<Watching> {
    let at: Option<i64> = row.get(18)?;
    let answer = answer(row, 19)?;
    Ok(Watching::stored(TaskId(row.get(16)?), row.get(17)?, at.map(Timestamp), answer))
}

/// What the last poll of a task came to.
pub(super) fn answer(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Answer>> {
    let text: Option<String> = row.get(column)?;
    Ok(text.as_deref().and_then(Answer::read))
}

/// Reads a name that must be one of ours.
pub(super) fn named<T>(
    row: &Row<'_>,
    column: usize,
    of: impl Fn(&str) -> Option<T>,
) -> rusqlite::Result<T> {
    let name: String = row.get(column)?;
    of(&name).ok_or_else(|| bad(column, format!("`{name}` is not a name this version knows")))
}

fn bad(
    column: usize,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into())
}

/// A registration that is known to be there.
pub(super) fn expect_registration(db: &Connection, id: &str) -> Result<Registration> {
    super::inspect::find(db, id)?
        .ok_or_else(|| StoreError::Corrupt(format!("the registration {id} vanished")))
}
