//! Upkeep: the proof of life, and forgetting what is old.

use rusqlite::{Connection, params};

use crate::clock::Timestamp;
use crate::store::Result;

pub(super) fn ping(db: &Connection, now: Timestamp) -> Result<()> {
    db.prepare_cached(
        "INSERT INTO heartbeat (id, at) VALUES (1, ?1) ON CONFLICT (id) DO UPDATE SET at = ?1",
    )?
    .execute([now.0])?;
    Ok(())
}

pub(super) fn prune(db: &Connection, ended_before: Timestamp, limit: u32) -> Result<u32> {
    let mut select = db.prepare_cached(
        "SELECT id, task FROM registration
         WHERE state IN ('delivered', 'cancelled') AND finished_at < ?1
         ORDER BY finished_at LIMIT ?2",
    )?;
    let old: Vec<(String, i64)> = select
        .query_map(params![ended_before.0, limit], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (id, task) in &old {
        db.prepare_cached("DELETE FROM registration WHERE id = ?1")?.execute([id])?;
        db.prepare_cached(
            "DELETE FROM task WHERE id = ?1 AND watched = 0
             AND NOT EXISTS (SELECT 1 FROM registration WHERE task = ?1)",
        )?
        .execute([task])?;
    }
    Ok(u32::try_from(old.len()).unwrap_or(u32::MAX))
}
