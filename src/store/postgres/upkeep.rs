//! Upkeep: the proof of life, and forgetting what is old.

use super::rows::get;
use super::session::{Session, Tried, flight};
use crate::clock::Timestamp;

pub(super) async fn ping(db: &Session, now: Timestamp) -> Tried<()> {
    let sql =
        "INSERT INTO heartbeat (id, at) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET at = $1";
    db.query(sql, &[&now.0]).await?;
    Ok(())
}

const OLD: &str = "
    SELECT id, lane FROM registration
    WHERE state IN ('delivered', 'cancelled') AND finished_at < $1 ORDER BY finished_at LIMIT $2";

const LOCK_LANES: &str = "
    SELECT id FROM lane WHERE id = ANY($1) ORDER BY account, kind FOR NO KEY UPDATE";

/// A redelivery or another daemon may have been faster: what is old is judged again.
const FORGET: &str = "
    DELETE FROM registration
    WHERE id = ANY($1) AND state IN ('delivered', 'cancelled') AND finished_at < $2
    RETURNING task";

const FORGET_TASKS: &str = "
    DELETE FROM task t WHERE id = ANY($1) AND NOT watched
    AND NOT EXISTS (SELECT 1 FROM registration WHERE task = t.id)";

pub(super) async fn prune(db: &Session, ended_before: Timestamp, limit: u32) -> Tried<u32> {
    let old = db.query(OLD, &[&ended_before.0, &i64::from(limit)]).await?;
    if old.is_empty() {
        return Ok(0);
    }
    let ids: Vec<&str> = old.iter().map(|row| get(row, 0)).collect::<Tried<_>>()?;
    let lanes: Vec<i64> = old.iter().map(|row| get(row, 1)).collect::<Tried<_>>()?;
    let [lock, forget, forget_tasks] = db.prepare([LOCK_LANES, FORGET, FORGET_TASKS]).await?;
    let ((), _, forgotten) = flight!(
        db.say("BEGIN"),
        db.send(&lock, &[&lanes]),
        db.send(&forget, &[&ids, &ended_before.0]),
    )?;
    let tasks: Vec<i64> = forgotten.iter().map(|row| get(row, 0)).collect::<Tried<_>>()?;
    flight!(db.send(&forget_tasks, &[&tasks]), db.say("COMMIT"))?;
    Ok(u32::try_from(forgotten.len()).unwrap_or(u32::MAX))
}
