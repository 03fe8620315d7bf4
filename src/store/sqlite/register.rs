//! Registering, and calling off.

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::value::RawValue;

use super::lanes::{Observation, tell, touch};
use super::rows::expect_registration;
use super::writer::Hints;
use super::{gone, inspect};
use crate::clock::Timestamp;
use crate::store::{Hint, NewRegistration, Registered, Result, StoreError};
use crate::task::{LaneName, Registration, State, TaskRef};

pub(super) fn register(
    db: &Connection,
    new: &[NewRegistration],
    hints: &mut Hints,
) -> Result<Vec<Registered>> {
    new.iter().map(|new| register_one(db, new, hints)).collect()
}

fn register_one(db: &Connection, new: &NewRegistration, hints: &mut Hints) -> Result<Registered> {
    let lane = lane_id(db, &new.task.lane())?;
    let task = task_id(db, lane, &new.task, new.created_at)?;
    let existing: Option<String> = db
        .prepare_cached(
            "SELECT id FROM registration
             WHERE task = ?1 AND client = ?2 AND callback_url = ?3
               AND state <> 'cancelled' AND unresolved IS NULL",
        )?
        .query_row(params![task, new.client, new.callback_url], |row| row.get(0))
        .optional()?;
    if let Some(id) = existing {
        return Ok(Registered::Existing(expect_registration(db, &id)?));
    }
    insert(db, task, new)?;
    // Whoever registers a callback anew wants to be told there.
    gone::unmark(db, &new.client, &new.callback_url)?;
    if let Some(known) = Observation::of_settled(db, task)? {
        let metadata = RawValue::from_string(new.metadata.clone())
            .map_err(|error| StoreError::Corrupt(error.to_string()))?;
        tell(db, &known, &new.id, &new.client, new.created_at, &metadata, new.created_at, hints)?;
    } else {
        db.prepare_cached(
            "UPDATE task SET watched = 1, polls = 0, last_pending_at = NULL, not_found_since = NULL,
                             last_polled_at = NULL, last_answer = NULL
             WHERE id = ?1 AND watched = 0",
        )?
        .execute([task])?;
        touch(db, lane, task)?;
        hints.push(Hint::Watch(new.task.lane()));
    }
    Ok(Registered::New(expect_registration(db, &new.id)?))
}

fn insert(db: &Connection, task: i64, new: &NewRegistration) -> Result<()> {
    db.prepare_cached(
        "INSERT INTO registration (id, client, task, callback_url, callback_origin, callback_host,
                                   metadata, state, created_at, give_up_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'watching', ?8, ?9)",
    )?
    .execute(params![
        new.id,
        new.client,
        task,
        new.callback_url,
        new.callback_origin,
        new.callback_host,
        new.metadata,
        new.created_at.0,
        new.give_up_at.0,
    ])?;
    Ok(())
}

/// The lane's row, made if need be.
pub(super) fn lane_id(db: &Connection, lane: &LaneName) -> Result<i64> {
    let key = params![lane.account, lane.kind.name()];
    let select = "SELECT id FROM lane WHERE account = ?1 AND kind = ?2";
    if let Some(id) = db.prepare_cached(select)?.query_row(key, |row| row.get(0)).optional()? {
        return Ok(id);
    }
    db.prepare_cached("INSERT INTO lane (account, kind) VALUES (?1, ?2)")?.execute(key)?;
    Ok(db.last_insert_rowid())
}

fn task_id(db: &Connection, lane: i64, task: &TaskRef, now: Timestamp) -> Result<i64> {
    let select = "SELECT id FROM task
                  WHERE lane = ?1 AND website_id = ?2 AND delivery_task_id = ?3";
    let key = params![lane, task.website_id, task.delivery_task_id];
    if let Some(id) = db.prepare_cached(select)?.query_row(key, |row| row.get(0)).optional()? {
        return Ok(id);
    }
    db.prepare_cached(
        "INSERT INTO task (lane, website_id, delivery_task_id, watched, version, registered_at)
         VALUES (?1, ?2, ?3, 0, 0, ?4)",
    )?
    .execute(params![lane, task.website_id, task.delivery_task_id, now.0])?;
    Ok(db.last_insert_rowid())
}

pub(super) fn cancel(
    db: &Connection,
    id: &str,
    now: Timestamp,
    hints: &mut Hints,
) -> Result<Option<Registration>> {
    let Some(before) = inspect::find(db, id)? else { return Ok(None) };
    if !before.state.may_become(State::Cancelled) {
        return Ok(Some(before));
    }
    db.prepare_cached(
        "UPDATE registration SET state = 'cancelled', next_attempt_at = NULL, finished_at = ?2
         WHERE id = ?1",
    )?
    .execute(params![id, now.0])?;
    unwatch_if_alone(db, id)?;
    hints.push(Hint::Watch(before.task.lane()));
    hints.push(Hint::Outcome { registration_id: id.to_owned() });
    Ok(Some(expect_registration(db, id)?))
}

/// A task that nobody waits for any more is not polled; its lane learns so by the new version.
fn unwatch_if_alone(db: &Connection, registration: &str) -> Result<()> {
    let (lane, task): (i64, i64) = db
        .prepare_cached(
            "SELECT t.lane, t.id FROM registration r JOIN task t ON t.id = r.task WHERE r.id = ?1",
        )?
        .query_row([registration], |row| Ok((row.get(0)?, row.get(1)?)))?;
    db.prepare_cached(
        "UPDATE task SET watched = 0 WHERE id = ?1
         AND NOT EXISTS (SELECT 1 FROM registration
                         WHERE task = ?1 AND state = 'watching')",
    )?
    .execute([task])?;
    touch(db, lane, task)
}
