//! Upkeep: the proof of life, and forgetting what is old.

use super::rows::get;
use super::session::{Session, Tried, flight};
use crate::clock::Timestamp;
use crate::store::Old;

pub(super) async fn ping(db: &Session, now: Timestamp) -> Tried<()> {
    let sql =
        "INSERT INTO heartbeat (id, at) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET at = $1";
    db.query(sql, &[&now.0]).await?;
    Ok(())
}

pub(super) async fn prune(db: &Session, ended_before: Timestamp, limit: u32) -> Tried<u32> {
    forget_registrations(db, "state IN ('delivered', 'cancelled')", ended_before, limit).await
}

/// The row may be locked by the deletion of its registration: it is gone then anyway.
const FORGET_ATTEMPTS: &str = "
    DELETE FROM attempt WHERE (registration, number) IN (
        SELECT registration, number FROM attempt WHERE at < $1
        ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED)
    RETURNING number";

const FORGET_REDELIVERIES: &str = "
    DELETE FROM redelivery WHERE id IN (
        SELECT id FROM redelivery WHERE finished_at < $1 ORDER BY finished_at LIMIT $2)
    RETURNING done";

const FORGET_GONE_CALLBACKS: &str = "
    DELETE FROM gone_callback WHERE (client, callback_url) IN (
        SELECT client, callback_url FROM gone_callback WHERE since < $1
        ORDER BY since LIMIT $2 FOR UPDATE SKIP LOCKED)
    RETURNING since";
const FORGET_REWATCHES: &str = "
    DELETE FROM rewatch WHERE id IN (
        SELECT id FROM rewatch WHERE finished_at < $1 ORDER BY finished_at LIMIT $2)
    RETURNING done";

pub(super) async fn forget(db: &Session, what: Old, before: Timestamp, limit: u32) -> Tried<u32> {
    let sql = match what {
        Old::Undeliverable => {
            return forget_registrations(db, "state = 'undeliverable'", before, limit).await;
        }
        Old::Attempts => FORGET_ATTEMPTS,
        Old::Redeliveries => FORGET_REDELIVERIES,
        Old::GoneCallbacks => FORGET_GONE_CALLBACKS,
        Old::Rewatches => FORGET_REWATCHES,
    };
    let gone = db.query(sql, &[&before.0, &i64::from(limit)]).await?;
    Ok(u32::try_from(gone.len()).unwrap_or(u32::MAX))
}

const LOCK_LANES: &str = "
    SELECT id FROM lane WHERE id = ANY($1) ORDER BY account, kind FOR NO KEY UPDATE";

const FORGET_TASKS: &str = "
    DELETE FROM task t WHERE id = ANY($1) AND NOT watched
    AND NOT EXISTS (SELECT 1 FROM registration WHERE task = t.id)";

/// A redelivery or another daemon may have been faster: what is old is judged again. `ended` is
/// the condition of a partial index.
async fn forget_registrations(
    db: &Session,
    ended: &str,
    ended_before: Timestamp,
    limit: u32,
) -> Tried<u32> {
    let old = format!(
        "SELECT id, lane FROM registration
         WHERE {ended} AND finished_at < $1 ORDER BY finished_at LIMIT $2"
    );
    let old = db.query(&old, &[&ended_before.0, &i64::from(limit)]).await?;
    if old.is_empty() {
        return Ok(0);
    }
    let ids: Vec<&str> = old.iter().map(|row| get(row, 0)).collect::<Tried<_>>()?;
    let lanes: Vec<i64> = old.iter().map(|row| get(row, 1)).collect::<Tried<_>>()?;
    let forget = format!(
        "DELETE FROM registration WHERE id = ANY($1) AND {ended} AND finished_at < $2
         RETURNING task"
    );
    let [lock, forget, forget_tasks] = db.prepare([LOCK_LANES, &forget, FORGET_TASKS]).await?;
    let ((), _, forgotten) = flight!(
        db.say("BEGIN"),
        db.send(&lock, &[&lanes]),
        db.send(&forget, &[&ids, &ended_before.0]),
    )?;
    let tasks: Vec<i64> = forgotten.iter().map(|row| get(row, 0)).collect::<Tried<_>>()?;
    flight!(db.send(&forget_tasks, &[&tasks]), db.say("COMMIT"))?;
    Ok(u32::try_from(forgotten.len()).unwrap_or(u32::MAX))
}
