//! Callback URLs that are gone: their receivers said 410.

use super::rows::get;
use super::session::{Session, Tried};
use crate::clock::Timestamp;
use crate::store::{CALLBACK_GONE, Hint};

pub(super) async fn unmark(db: &Session, client: &str, url: &str) -> Tried<()> {
    let sql = "DELETE FROM gone_callback WHERE client = $1 AND callback_url = $2";
    db.query(sql, &[&client, &url]).await?;
    Ok(())
}

/// Locked in the order of their ids; what somebody else has locked is being attempted, cancelled
/// or sent again, and ends by that or in a later step.
pub(super) const END: &str = "
    WITH waiting AS (
        SELECT id FROM registration
        WHERE state = 'delivering' AND client = $1 AND callback_url = $2
        AND EXISTS (SELECT 1 FROM gone_callback WHERE client = $1 AND callback_url = $2)
        ORDER BY id LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED)
    UPDATE registration r SET state = 'undeliverable', next_attempt_at = NULL, finished_at = $4,
        last_error = $5
    FROM waiting WHERE r.id = waiting.id RETURNING r.id";

/// One step.
pub(super) async fn end(
    db: &Session,
    client: &str,
    url: &str,
    now: Timestamp,
    limit: u32,
    hints: &mut Vec<Hint>,
) -> Tried<u32> {
    hints.clear();
    let ended = db.query(END, &[&client, &url, &i64::from(limit), &now.0, &CALLBACK_GONE]).await?;
    for row in &ended {
        hints.push(Hint::Outcome { registration_id: get(row, 0)? });
    }
    Ok(u32::try_from(ended.len()).unwrap_or(u32::MAX))
}
