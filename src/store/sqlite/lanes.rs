//! A lane's state, its tasks, and how they end.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::value::RawValue;

use super::gone;
use super::register::lane_id;
use super::rows::{answer, named};
use super::writer::Hints;
use crate::clock::Timestamp;
use crate::outcome::{self, Observed, Outcome, Report};
use crate::store::{
    Change, Checkpoint, Destination, Ending, Hint, Lease, Progress, Result, StoreError, TakenLane,
    Watch,
};
use crate::task::{Kind, LaneName, TaskId, TaskRef};
use crate::watching::Answer;

/// Who waits for a task.
const WAITING: &str = "SELECT id, client, created_at, metadata FROM registration
     WHERE task = ?1 AND state = 'watching' AND give_up_at <= ?2 ORDER BY id";
/// When the next of those who wait for a task gives up.
const NEXT_DEADLINE: &str = "SELECT min(give_up_at) FROM registration
     WHERE task = ?1 AND state = 'watching'";

/// A lane's tasks that changed.
const CHANGES: &str = "SELECT id, version, watched, website_id, delivery_task_id, registered_at,
            polls, last_pending_at, not_found_since,
            (SELECT min(give_up_at) FROM registration
             WHERE task = t.id AND state = 'watching'),
            last_polled_at, last_answer
     FROM task t WHERE lane = ?1 AND version > ?2 /* AND */ ORDER BY version LIMIT ?3";

pub(super) fn lanes(db: &Connection) -> Result<Vec<LaneName>> {
    let rows = db
        .prepare_cached(
            "SELECT account, kind FROM lane l
             WHERE EXISTS (SELECT 1 FROM task WHERE lane = l.id AND watched = 1)
             ORDER BY account, kind",
        )?
        .query_map([], |row| {
            Ok(LaneName { account: row.get(0)?, kind: named(row, 1, Kind::named)? })
        })?
        .collect::<rusqlite::Result<_>>();
    Ok(rows?)
}

pub(super) fn take(db: &Connection, lane: &LaneName) -> Result<TakenLane> {
    let id = lane_id(db, lane)?;
    let (epoch, reservations, memory, version): (i64, String, Option<Vec<u8>>, u64) = db
        .prepare_cached(
            "UPDATE lane SET epoch = epoch + 1 WHERE id = ?1
             RETURNING epoch, reservations, memory, version",
        )?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    let reservations =
        serde_json::from_str(&reservations).map_err(|e| StoreError::Corrupt(e.to_string()))?;
    Ok(TakenLane { lease: Lease { lane: id, epoch }, version, reservations, memory })
}

/// Refuses a write under a lease that is no longer ours.
fn check(db: &Connection, lease: Lease) -> Result<()> {
    db.prepare_cached("SELECT 1 FROM lane WHERE id = ?1 AND epoch = ?2")?
        .query_row(params![lease.lane, lease.epoch], |_| Ok(()))
        .optional()?
        .ok_or(StoreError::LeaseLost)
}

/// Gives a task the lane's next version, so that the lane's owner notices the change.
pub(super) fn touch(db: &Connection, lane: i64, task: i64) -> Result<()> {
    let version: i64 = db
        .prepare_cached("UPDATE lane SET version = version + 1 WHERE id = ?1 RETURNING version")?
        .query_row([lane], |row| row.get(0))?;
    db.prepare_cached("UPDATE task SET version = ?2 WHERE id = ?1")?
        .execute(params![task, version])?;
    Ok(())
}

pub(super) fn watched(
    db: &Connection,
    lease: Lease,
    version: u64,
    limit: u32,
) -> Result<Vec<Change>> {
    read_changes(db, &CHANGES.replace("/* AND */", "AND watched = 1"), lease, version, limit)
}

pub(super) fn changes(
    db: &Connection,
    lease: Lease,
    version: u64,
    limit: u32,
) -> Result<Vec<Change>> {
    // From the start, only what is watched: most tasks of a lane's life are over.
    if version == 0 {
        return watched(db, lease, version, limit);
    }
    read_changes(db, CHANGES, lease, version, limit)
}

fn read_changes(
    db: &Connection,
    sql: &str,
    lease: Lease,
    version: u64,
    limit: u32,
) -> Result<Vec<Change>> {
    let version = i64::try_from(version).unwrap_or(i64::MAX);
    let rows = db
        .prepare_cached(sql)?
        .query_map(params![lease.lane, version, limit], change)?
        .collect::<rusqlite::Result<_>>();
    Ok(rows?)
}

fn change(row: &Row<'_>) -> rusqlite::Result<Change> {
    let give_up_at: Option<i64> = row.get(9)?;
    let watch = match give_up_at {
        Some(give_up_at) if row.get(2)? => Some(Watch {
            website_id: row.get(3)?,
            delivery_task_id: row.get(4)?,
            registered_at: Timestamp(row.get(5)?),
            give_up_at: Timestamp(give_up_at),
            progress: Progress {
                polls: row.get(6)?,
                last_pending_at: row.get::<_, Option<i64>>(7)?.map(Timestamp),
                not_found_since: row.get::<_, Option<i64>>(8)?.map(Timestamp),
                last_polled_at: row.get::<_, Option<i64>>(10)?.map(Timestamp),
                last_answer: answer(row, 11)?,
            },
        }),
        _ => None,
    };
    Ok(Change { task: TaskId(row.get(0)?), version: row.get(1)?, watch })
}

pub(super) fn checkpoint(db: &Connection, lease: Lease, checkpoint: &Checkpoint) -> Result<()> {
    check(db, lease)?;
    if let Some(reservations) = &checkpoint.reservations {
        let text =
            serde_json::to_string(reservations).map_err(|e| StoreError::Corrupt(e.to_string()))?;
        db.prepare_cached("UPDATE lane SET reservations = ?2 WHERE id = ?1")?
            .execute(params![lease.lane, text])?;
    }
    if let Some(memory) = &checkpoint.memory {
        db.prepare_cached("UPDATE lane SET memory = ?2 WHERE id = ?1")?
            .execute(params![lease.lane, memory])?;
    }
    checkpoint.progress.iter().try_for_each(|(task, progress)| save(db, *task, progress))
}

fn save(db: &Connection, task: TaskId, progress: &Progress) -> Result<()> {
    db.prepare_cached(
        "UPDATE task SET polls = ?2, last_pending_at = ?3, not_found_since = ?4,
                last_polled_at = coalesce(?5, last_polled_at),
                last_answer = coalesce(?6, last_answer)
         WHERE id = ?1 AND outcome IS NULL",
    )?
    .execute(params![
        task.0,
        progress.polls,
        progress.last_pending_at.map(|at| at.0),
        progress.not_found_since.map(|at| at.0),
        progress.last_polled_at.map(|at| at.0),
        progress.last_answer.map(Answer::text),
    ])?;
    Ok(())
}

pub(super) fn settle(
    db: &Connection,
    lease: Lease,
    ending: &Ending,
    outcome: &Outcome,
    hints: &mut Hints,
) -> Result<()> {
    check(db, lease)?;
    save(db, ending.task, &ending.progress)?;
    let text = serde_json::to_string(outcome).map_err(|e| StoreError::Corrupt(e.to_string()))?;
    let text = outcome.unresolved_reason().is_none().then_some(text);
    let at = text.as_ref().map(|_| ending.at.0);
    let set = db
        .prepare_cached(
            "UPDATE task SET outcome = ?2, settled_at = ?3, log_id = ?4, watched = 0
             WHERE id = ?1 AND outcome IS NULL",
        )?
        .execute(params![ending.task.0, text, at, at.and(ending.log_id.as_ref())])?;
    // A final outcome is set once: a second one, from a poll that was under way, changes nothing.
    if set == 0 {
        return Ok(());
    }
    let known = Observation::new(db, ending, outcome.clone())?;
    tell_waiting(db, &known, i64::MAX, ending.at, hints)
}

pub(super) fn give_up(
    db: &Connection,
    lease: Lease,
    ending: &Ending,
    outcome: &Outcome,
    hints: &mut Hints,
) -> Result<Option<Timestamp>> {
    check(db, lease)?;
    save(db, ending.task, &ending.progress)?;
    let known = Observation::new(db, ending, outcome.clone())?;
    tell_waiting(db, &known, ending.at.0, ending.at, hints)?;
    let next: Option<i64> =
        db.prepare_cached(NEXT_DEADLINE)?.query_row([ending.task.0], |row| row.get(0))?;
    if next.is_none() {
        db.prepare_cached("UPDATE task SET watched = 0 WHERE id = ?1")?.execute([ending.task.0])?;
    }
    Ok(next.map(Timestamp))
}

/// What is known of how a task ended.
pub(super) struct Observation {
    task: TaskId,
    named: TaskRef,
    outcome: Outcome,
    progress: Progress,
    settled_at: Timestamp,
    log_id: Option<String>,
}

impl Observation {
    fn new(db: &Connection, ending: &Ending, outcome: Outcome) -> Result<Self> {
        let named = db
            .prepare_cached(
                "SELECT l.kind, l.account, t.website_id, t.delivery_task_id
                 FROM task t JOIN lane l ON l.id = t.lane WHERE t.id = ?1",
            )?
            .query_row([ending.task.0], |row| {
                Ok(TaskRef {
                    kind: named(row, 0, Kind::named)?,
                    account: row.get(1)?,
                    website_id: row.get(2)?,
                    delivery_task_id: row.get(3)?,
                })
            })?;
        Ok(Self {
            task: ending.task,
            named,
            outcome,
            progress: ending.progress,
            settled_at: ending.at,
            log_id: ending.log_id.clone(),
        })
    }

    /// How this task ended, if it has.
    pub(super) fn of_settled(db: &Connection, task: i64) -> Result<Option<Self>> {
        let settled = db
            .prepare_cached(
                "SELECT outcome, settled_at, log_id, polls, last_pending_at
                 FROM task WHERE id = ?1 AND outcome IS NOT NULL",
            )?
            .query_row([task], |row| {
                let progress = Progress {
                    polls: row.get(3)?,
                    last_pending_at: row.get::<_, Option<i64>>(4)?.map(Timestamp),
                    ..Progress::default()
                };
                let at = Timestamp(row.get(1)?);
                let ending = Ending { task: TaskId(task), at, progress, log_id: row.get(2)? };
                Ok((row.get::<_, String>(0)?, ending))
            })
            .optional()?;
        let Some((text, ending)) = settled else { return Ok(None) };
        let outcome =
            serde_json::from_str(&text).map_err(|e| StoreError::Corrupt(e.to_string()))?;
        Self::new(db, &ending, outcome).map(Some)
    }
}

/// Tells every registration that waits for the task and gives up by `deadline`.
fn tell_waiting(
    db: &Connection,
    known: &Observation,
    deadline: i64,
    now: Timestamp,
    hints: &mut Hints,
) -> Result<()> {
    let waiting: Vec<(String, String, i64, String)> = db
        .prepare_cached(WAITING)?
        .query_map(params![known.task.0, deadline], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    for (id, client, created_at, metadata) in waiting {
        let metadata =
            RawValue::from_string(metadata).map_err(|e| StoreError::Corrupt(e.to_string()))?;
        tell(db, known, &id, &client, Timestamp(created_at), &metadata, now, hints)?;
    }
    Ok(())
}

/// Fixes a registration's outcome and bytes, and makes its delivery due.
#[expect(clippy::too_many_arguments, reason = "a registration's row and what is known of its task")]
pub(super) fn tell(
    db: &Connection,
    known: &Observation,
    registration: &str,
    client: &str,
    registered_at: Timestamp,
    metadata: &RawValue,
    due_at: Timestamp,
    hints: &mut Hints,
) -> Result<()> {
    let observed = Observed {
        registered_at,
        last_pending_at: known.progress.last_pending_at,
        settled_at: known.settled_at,
        polls: known.progress.polls,
        log_id: known.log_id.clone(),
    };
    let report = Report::new(known.named.clone(), known.outcome.clone(), observed);
    let body = outcome::body(registration, &report, metadata);
    let position: i64 = db
        .prepare_cached(
            "INSERT INTO outcome_log (client, position) VALUES (?1, 1)
             ON CONFLICT (client) DO UPDATE SET position = position + 1 RETURNING position",
        )?
        .query_row([client], |row| row.get(0))?;
    let (origin, url): (String, String) = db
        .prepare_cached(
            "UPDATE registration SET state = 'delivering', body = ?2, outcome_position = ?3,
                                     next_attempt_at = ?4, unresolved = ?5, unresolved_at = ?6
             WHERE id = ?1 AND state = 'watching' RETURNING callback_origin, callback_url",
        )?
        .query_row(
            params![
                registration,
                body,
                position,
                due_at.0,
                known.outcome.unresolved_reason(),
                known.outcome.unresolved_reason().map(|_| known.settled_at.0),
            ],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
    hints.push(Hint::Outcome { registration_id: registration.to_owned() });
    if gone::is_gone(db, client, &url)? {
        return gone::end_one(db, registration, due_at);
    }
    hints.push(Hint::Due(Destination::new(client, origin)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_a_task_is_looked_up_and_not_searched_for() {
        let db = Connection::open_in_memory().unwrap();
        for migration in super::super::schema::MIGRATIONS {
            db.execute_batch(migration).unwrap();
        }
        for sql in [WAITING, NEXT_DEADLINE, CHANGES] {
            let sql = sql.replace('?', "");
            let plan: Vec<String> = db
                .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
                .unwrap()
                .query_map([], |row| row.get(3))
                .unwrap()
                .collect::<rusqlite::Result<_>>()
                .unwrap();
            let by_task = "SEARCH registration USING INDEX registration_of_task (task=?)";
            assert!(plan.iter().any(|step| step == by_task), "{sql}: {plan:#?}");
            assert!(!plan.iter().any(|step| step.starts_with("SCAN")), "{sql}: {plan:#?}");
        }
    }
}
