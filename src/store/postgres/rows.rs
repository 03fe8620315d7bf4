//! Rows to nouns.

use serde_json::value::RawValue;
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use super::session::{Failure, Tried};
use crate::clock::Timestamp;
use crate::outcome;
use crate::store::{Progress, StoreError};
use crate::task::{Callback, DeliveryState, Kind, LaneName, Registration, State, TaskId, TaskRef};
use crate::watching::{Answer, Watching};

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
    " FROM registration r JOIN task t ON t.id = r.task JOIN lane l ON l.id = t.lane ";

/// Reads [`COLUMNS`].
pub(super) fn registration(row: &Row) -> Tried<Registration> {
    let body: Option<&[u8]> = get(row, 11)?;
    let state = named(row, 8, State::named)?;
    Ok(Registration {
        id: get(row, 0)?,
        client: get(row, 1)?,
        task: TaskRef {
            kind: named(row, 2, Kind::named)?,
            account: get(row, 3)?,
            website_id: get(row, 4)?,
            delivery_task_id: get(row, 5)?,
        },
        callback: Callback { url: get(row, 6)? },
        metadata: raw(get(row, 7)?)?,
        state,
        created_at: Timestamp(get(row, 9)?),
        give_up_at: Timestamp(get(row, 10)?),
        outcome: body.map(outcome::read).transpose().map_err(unreadable)?,
        watch: (state == State::Watching).then(|| watching(row)).transpose()?,
        delivery: DeliveryState {
            attempts: number(row, 12)?,
            next_attempt_at: time(row, 13)?,
            last_status: maybe_number(row, 14)?,
            last_error: get(row, 15)?,
        },
    })
}

fn watching(row: &Row) -> Tried<Watching> {
    let (polls, at) = (number(row, 17)?, time(row, 18)?);
    Ok(Watching::stored(TaskId(get(row, 16)?), polls, at, answer(row, 19)?))
}

/// What the last poll of a task came to.
fn answer(row: &Row, column: usize) -> Tried<Option<Answer>> {
    Ok(get::<Option<&str>>(row, column)?.and_then(Answer::read))
}

/// Reads an account and a kind.
pub(super) fn lane(row: &Row, account: usize, kind: usize) -> Tried<LaneName> {
    Ok(LaneName { account: get(row, account)?, kind: named(row, kind, Kind::named)? })
}

/// Reads how far watching a task has come, from five columns.
pub(super) fn progress(row: &Row, first: usize) -> Tried<Progress> {
    Ok(Progress {
        polls: number(row, first)?,
        last_pending_at: time(row, first + 1)?,
        not_found_since: time(row, first + 2)?,
        last_polled_at: time(row, first + 3)?,
        last_answer: answer(row, first + 4)?,
    })
}

/// Reads one column.
pub(super) fn get<'a, T: FromSql<'a>>(row: &'a Row, column: usize) -> Tried<T> {
    row.try_get(column).map_err(unreadable)
}

/// Reads a whole number that is smaller than its column could hold.
pub(super) fn number<T: TryFrom<i64, Error: std::fmt::Display>>(
    row: &Row,
    column: usize,
) -> Tried<T> {
    T::try_from(get(row, column)?).map_err(unreadable)
}

/// Reads such a number, if there is one.
pub(super) fn maybe_number<T: TryFrom<i64, Error: std::fmt::Display>>(
    row: &Row,
    column: usize,
) -> Tried<Option<T>> {
    let value: Option<i64> = get(row, column)?;
    value.map(T::try_from).transpose().map_err(unreadable)
}

/// Reads a time, if there is one.
pub(super) fn time(row: &Row, column: usize) -> Tried<Option<Timestamp>> {
    Ok(get::<Option<i64>>(row, column)?.map(Timestamp))
}

/// Reads a name that must be one of ours.
pub(super) fn named<T>(row: &Row, column: usize, of: impl Fn(&str) -> Option<T>) -> Tried<T> {
    let name: &str = get(row, column)?;
    of(name).ok_or_else(|| unreadable(format!("`{name}` is not a name this version knows")))
}

/// The client's JSON, to the byte.
pub(super) fn raw(text: String) -> Tried<Box<RawValue>> {
    RawValue::from_string(text).map_err(unreadable)
}

/// What is stored, or was to be, cannot be understood.
pub(super) fn unreadable(why: impl std::fmt::Display) -> Failure {
    Failure::Told(StoreError::Corrupt(why.to_string()))
}
