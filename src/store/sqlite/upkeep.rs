//! Upkeep: the proof of life, and forgetting what is old.

use rusqlite::{Connection, params};

use crate::clock::Timestamp;
use crate::store::{Old, Result};

pub(super) fn ping(db: &Connection, now: Timestamp) -> Result<()> {
    db.prepare_cached(
        "INSERT INTO heartbeat (id, at) VALUES (1, ?1) ON CONFLICT (id) DO UPDATE SET at = ?1",
    )?
    .execute([now.0])?;
    Ok(())
}

pub(super) fn forget(db: &Connection, what: Old, before: Timestamp, limit: u32) -> Result<u32> {
    let gone = match what {
        Old::Undeliverable => {
            return drop_registrations(
                db,
                "SELECT id, task FROM registration
                 WHERE state = 'undeliverable' AND finished_at < ?1
                 ORDER BY finished_at LIMIT ?2",
                before,
                limit,
            );
        }
        Old::Attempts => db
            .prepare_cached(
                "DELETE FROM attempt WHERE (registration, number) IN
                     (SELECT registration, number FROM attempt WHERE at < ?1 ORDER BY at LIMIT ?2)",
            )?
            .execute(params![before.0, limit])?,
        Old::Redeliveries => db
            .prepare_cached(
                "DELETE FROM redelivery WHERE id IN
                     (SELECT id FROM redelivery WHERE finished_at < ?1 ORDER BY finished_at LIMIT ?2)",
            )?
            .execute(params![before.0, limit])?,
        Old::GoneCallbacks => db
            .prepare_cached(
                "DELETE FROM gone_callback WHERE (client, callback_url) IN
                     (SELECT client, callback_url FROM gone_callback WHERE since < ?1
                      ORDER BY since LIMIT ?2)",
            )?
            .execute(params![before.0, limit])?,
        Old::Rewatches => db
            .prepare_cached(
                "DELETE FROM rewatch WHERE id IN
                     (SELECT id FROM rewatch WHERE finished_at < ?1 ORDER BY finished_at LIMIT ?2)",
            )?
            .execute(params![before.0, limit])?,
    };
    Ok(u32::try_from(gone).unwrap_or(u32::MAX))
}

pub(super) fn prune(db: &Connection, ended_before: Timestamp, limit: u32) -> Result<u32> {
    drop_registrations(
        db,
        "SELECT id, task FROM registration
         WHERE state IN ('delivered', 'cancelled') AND finished_at < ?1
         ORDER BY finished_at LIMIT ?2",
        ended_before,
        limit,
    )
}

const FORGET_TASK: &str = "
    DELETE FROM task WHERE id = ?1 AND watched = 0
    AND NOT EXISTS (SELECT 1 FROM registration WHERE task = ?1)";

/// Drops the registrations that `select` finds, and the tasks that lose their last one.
fn drop_registrations(
    db: &Connection,
    select: &str,
    ended_before: Timestamp,
    limit: u32,
) -> Result<u32> {
    let mut select = db.prepare_cached(select)?;
    let old: Vec<(String, i64)> = select
        .query_map(params![ended_before.0, limit], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (id, task) in &old {
        db.prepare_cached("DELETE FROM registration WHERE id = ?1")?.execute([id])?;
        db.prepare_cached(FORGET_TASK)?.execute([task])?;
    }
    Ok(u32::try_from(old.len()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whether_a_task_is_still_named_is_looked_up_and_not_searched_for() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(include_str!("migrations/0001_initial.sql")).unwrap();
        db.execute_batch(include_str!("migrations/0002_delivery.sql")).unwrap();
        let plan: Vec<String> = db
            .prepare(&format!("EXPLAIN QUERY PLAN {}", FORGET_TASK.replace("?1", "1")))
            .unwrap()
            .query_map([], |row| row.get(3))
            .unwrap()
            .collect::<rusqlite::Result<_>>()
            .unwrap();
        assert!(plan.iter().any(|step| step.contains("registration_of_task (task=?)")), "{plan:?}");
        assert!(!plan.iter().any(|step| step.starts_with("SCAN")), "{plan:?}");
    }
}
