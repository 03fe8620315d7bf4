//! Callback URLs that are gone: their receivers said 410.

use rusqlite::{Connection, OptionalExtension, params};

use super::writer::Hints;
use crate::clock::Timestamp;
use crate::store::{CALLBACK_GONE, Hint, Result};

/// The ids make the order that of the index, which a name of a state in a parameter would hide.
const WAITING: &str = "
    SELECT id FROM registration WHERE state = 'delivering' AND client = ?1 AND callback_url = ?2
    ORDER BY id LIMIT ?3";

pub(super) fn mark(db: &Connection, client: &str, url: &str, since: Timestamp) -> Result<()> {
    db.prepare_cached(
        "INSERT INTO gone_callback (client, callback_url, since) VALUES (?1, ?2, ?3)
         ON CONFLICT DO NOTHING",
    )?
    .execute(params![client, url, since.0])?;
    Ok(())
}

pub(super) fn unmark(db: &Connection, client: &str, url: &str) -> Result<()> {
    db.prepare_cached("DELETE FROM gone_callback WHERE client = ?1 AND callback_url = ?2")?
        .execute([client, url])?;
    Ok(())
}

pub(super) fn is_gone(db: &Connection, client: &str, url: &str) -> Result<bool> {
    let found = db
        .prepare_cached("SELECT 1 FROM gone_callback WHERE client = ?1 AND callback_url = ?2")?
        .query_row([client, url], |_| Ok(()))
        .optional()?;
    Ok(found.is_some())
}

/// Ends a delivery unsent.
pub(super) fn end_one(db: &Connection, id: &str, now: Timestamp) -> Result<()> {
    db.prepare_cached(
        "UPDATE registration SET state = 'undeliverable', next_attempt_at = NULL,
                finished_at = ?2, last_error = ?3
         WHERE id = ?1 AND state = 'delivering'",
    )?
    .execute(params![id, now.0, CALLBACK_GONE])?;
    Ok(())
}

/// One step.
pub(super) fn end(
    db: &Connection,
    client: &str,
    url: &str,
    now: Timestamp,
    limit: u32,
    hints: &mut Hints,
) -> Result<u32> {
    if !is_gone(db, client, url)? {
        return Ok(0);
    }
    let waiting: Vec<String> = db
        .prepare_cached(WAITING)?
        .query_map(params![client, url, limit], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for id in &waiting {
        end_one(db, id, now)?;
        hints.push(Hint::Outcome { registration_id: id.clone() });
    }
    Ok(u32::try_from(waiting.len()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_a_callback_is_looked_up_and_not_searched_for() {
        let db = Connection::open_in_memory().unwrap();
        for sql in [
            include_str!("migrations/0001_initial.sql"),
            include_str!("migrations/0002_delivery.sql"),
            include_str!("migrations/0003_isolation.sql"),
        ] {
            db.execute_batch(sql).unwrap();
        }
        let plan: Vec<String> = db
            .prepare(&format!("EXPLAIN QUERY PLAN {}", WAITING.replace('?', "")))
            .unwrap()
            .query_map([], |row| row.get(3))
            .unwrap()
            .collect::<rusqlite::Result<_>>()
            .unwrap();
        let by_callback = "USING COVERING INDEX registration_waiting (client=? AND callback_url=?)";
        assert!(plan.iter().all(|step| step.ends_with(by_callback)), "{plan:?}");
    }
}
