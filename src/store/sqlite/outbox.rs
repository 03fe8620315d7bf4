//! Deliveries: what is due, and what became of each attempt.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::rows::expect_registration;
use super::writer::Hints;
use super::{gone, inspect};
use crate::clock::{Timestamp, millis};
use crate::store::{
    Attempt, Delivery, Destination, DestinationPage, DestinationPlace, Hint, Next, Result,
};
use crate::task::{Registration, State};

/// One step of the index, however many deliveries each destination has.
const NEXT_DESTINATION: &str = "
    SELECT client, callback_origin, next_attempt_at FROM registration
    WHERE state = 'delivering' AND (callback_origin, client) > (?1, ?2)
    ORDER BY callback_origin, client, next_attempt_at LIMIT 1";

pub(super) fn destinations(
    db: &Connection,
    after: DestinationPlace,
    limit: u32,
) -> Result<DestinationPage> {
    let mut statement = db.prepare_cached(NEXT_DESTINATION)?;
    let (mut found, mut last) = (Vec::new(), after.to);
    for _ in 0..limit {
        let next = statement.query_row(params![last.origin, last.client], |row| {
            let to = Destination { client: row.get(0)?, origin: row.get(1)? };
            Ok((to, Timestamp(row.get(2)?)))
        });
        let Some((to, at)) = next.optional()? else {
            return Ok(DestinationPage { found, next: None });
        };
        last.clone_from(&to);
        found.push((to, at));
    }
    Ok(DestinationPage { found, next: Some(DestinationPlace::after(&last)) })
}

const DELIVERY: &str = "
    SELECT id, client, callback_url, body, attempts, round, first_attempt_at, next_attempt_at,
           callback_origin, (SELECT lane FROM task WHERE task.id = registration.task), asked
    FROM registration";

fn delivery(row: &Row<'_>) -> rusqlite::Result<Delivery> {
    Ok(Delivery {
        registration_id: row.get(0)?,
        client: row.get(1)?,
        callback_url: row.get(2)?,
        body: row.get(3)?,
        attempts: row.get(4)?,
        round: row.get(5)?,
        first_attempt_at: row.get::<_, Option<i64>>(6)?.map(Timestamp),
        due_at: Timestamp(row.get(7)?),
        callback_origin: row.get(8)?,
        lane: row.get(9)?,
        asked: row.get(10)?,
    })
}

pub(super) fn due(
    db: &Connection,
    to: &Destination,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<Delivery>> {
    let sql = format!(
        "{DELIVERY}
         WHERE state = 'delivering' AND callback_origin = ?1 AND client = ?2
         AND next_attempt_at <= ?3 ORDER BY next_attempt_at, id LIMIT ?4"
    );
    let rows = db
        .prepare_cached(&sql)?
        .query_map(params![to.origin, to.client, now.0, limit], delivery)?
        .collect::<rusqlite::Result<_>>();
    Ok(rows?)
}

pub(super) fn asked(db: &Connection, now: Timestamp, limit: u32) -> Result<Vec<Delivery>> {
    let sql = format!(
        "{DELIVERY}
         WHERE state = 'delivering' AND asked > 0 AND client = ?1 AND next_attempt_at <= ?2
         ORDER BY next_attempt_at, id LIMIT ?3"
    );
    let next = "SELECT min(client) FROM registration
                WHERE state = 'delivering' AND asked > 0 AND client > ?1";
    let (mut found, mut client) = (Vec::new(), String::new());
    loop {
        let next: Option<String> =
            db.prepare_cached(next)?.query_row([&client], |row| row.get(0))?;
        let Some(next) = next else { return Ok(found) };
        client = next;
        for row in db.prepare_cached(&sql)?.query_map(params![client, now.0, limit], delivery)? {
            found.push(row?);
        }
    }
}

pub(super) fn reschedule(db: &Connection, under_way: &[Delivery], at: Timestamp) -> Result<()> {
    for delivery in under_way {
        db.prepare_cached(
            "UPDATE registration SET next_attempt_at = ?4
             WHERE id = ?1 AND state = 'delivering' AND attempts = ?2 AND round = ?3
             AND asked = ?5",
        )?
        .execute(params![
            delivery.registration_id,
            delivery.attempts,
            delivery.round,
            at.0,
            delivery.asked
        ])?;
    }
    Ok(())
}

pub(super) fn record_attempt(
    db: &Connection,
    delivery: &Delivery,
    attempt: &Attempt,
    next: Next,
    hints: &mut Hints,
) -> Result<bool> {
    let id = &delivery.registration_id;
    if inspect::find(db, id)?.is_none() {
        return Ok(false);
    }
    log_attempt(db, id, attempt)?;
    let (state, next_at) = match next {
        Next::Delivered => (State::Delivered, None),
        Next::RetryAt(at) => (State::Delivering, Some(at.0)),
        Next::Undeliverable | Next::Gone => (State::Undeliverable, None),
    };
    let ended_at = attempt.at.after(attempt.duration);
    match next {
        Next::Gone => gone::mark(db, &delivery.client, &delivery.callback_url, ended_at)?,
        Next::Delivered => gone::unmark(db, &delivery.client, &delivery.callback_url)?,
        Next::RetryAt(_) | Next::Undeliverable => {}
    }
    let finished_at = next_at.is_none().then_some(ended_at.0);
    let changed = db
        .prepare_cached(
            "UPDATE registration SET state = ?4, next_attempt_at = ?5, attempts = ?6,
                    round = round + 1, last_status = ?7, last_error = ?8, finished_at = ?9,
                    first_attempt_at = min(coalesce(first_attempt_at, ?10), ?10), asked = 0
             WHERE id = ?1 AND state = 'delivering' AND attempts = ?2 AND round = ?3
             AND asked = ?11",
        )?
        .execute(params![
            id,
            delivery.attempts,
            delivery.round,
            state.name(),
            next_at,
            attempt.number,
            attempt.status,
            attempt.error,
            finished_at,
            attempt.at.0,
            delivery.asked,
        ])?;
    if changed == 0 {
        db.prepare_cached("UPDATE registration SET attempts = max(attempts, ?2) WHERE id = ?1")?
            .execute(params![id, attempt.number])?;
    } else if finished_at.is_some() {
        hints.push(Hint::Outcome { registration_id: id.clone() });
    }
    Ok(changed > 0)
}

fn log_attempt(db: &Connection, registration: &str, attempt: &Attempt) -> Result<()> {
    db.prepare_cached(
        "INSERT OR REPLACE INTO attempt
             (registration, number, at, duration_ms, status, error, reply_excerpt, verdict,
              connect_ms, first_byte_ms, error_class, reason)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?
    .execute(params![
        registration,
        attempt.number,
        attempt.at.0,
        millis(attempt.duration),
        attempt.status,
        attempt.error,
        attempt.reply_excerpt,
        attempt.verdict,
        attempt.details.connect.map(millis),
        attempt.details.first_byte.map(millis),
        attempt.details.error_class,
        attempt.details.reason,
    ])?;
    Ok(())
}

pub(super) fn postpone(
    db: &Connection,
    delivery: &Delivery,
    until: Timestamp,
    error: &str,
) -> Result<()> {
    db.prepare_cached(
        "UPDATE registration SET next_attempt_at = ?4, last_error = ?5, asked = 0
         WHERE id = ?1 AND state = 'delivering' AND attempts = ?2 AND round = ?3 AND asked = ?6",
    )?
    .execute(params![
        delivery.registration_id,
        delivery.attempts,
        delivery.round,
        until.0,
        error,
        delivery.asked
    ])?;
    Ok(())
}

/// Makes it due again from the start of the schedule; `asked`: by a person, for this one.
pub(super) fn redeliver(
    db: &Connection,
    id: &str,
    now: Timestamp,
    asked: bool,
    hints: &mut Hints,
) -> Result<Option<Registration>> {
    let Some(before) = inspect::find(db, id)? else { return Ok(None) };
    let to: Option<Destination> = db
        .prepare_cached(
            "UPDATE registration
             SET state = 'delivering', next_attempt_at = ?2, round = 0, first_attempt_at = NULL,
                 finished_at = NULL, asked = asked + ?3
             WHERE id = ?1 AND state IN ('delivering', 'delivered', 'undeliverable')
             RETURNING client, callback_origin",
        )?
        .query_row(params![id, now.0, asked], |row| {
            Ok(Destination { client: row.get(0)?, origin: row.get(1)? })
        })
        .optional()?;
    let Some(to) = to else { return Ok(Some(before)) };
    gone::unmark(db, &before.client, &before.callback.url)?;
    hints.push(Hint::Due(to));
    if asked {
        hints.push(Hint::Asked);
    }
    Ok(Some(expect_registration(db, id)?))
}

/// Where a hint says that something is due.
pub(super) fn destination_of(hint: &Hint) -> Option<Destination> {
    match hint {
        Hint::Due(to) => Some(to.clone()),
        Hint::Watch(_) | Hint::Outcome { .. } | Hint::Asked => None,
    }
}
