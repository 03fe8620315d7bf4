//! Calling off one registration.

use super::rows::{COLUMNS, FROM, lane, registration};
use super::session::{Session, Tried, flight};
use crate::clock::Timestamp;
use crate::store::Hint;
use crate::task::Registration;

/// Locks the registration's lane; a version given out for nothing does no harm.
const TOUCH: &str = "
    UPDATE lane SET version = version + 1
    WHERE id = (SELECT lane FROM registration WHERE id = $1)";

const CANCEL: &str = "
    WITH off AS (
        UPDATE registration SET state = 'cancelled', next_attempt_at = NULL, finished_at = $2
        WHERE id = $1 AND state IN ('watching', 'delivering') RETURNING id, task, lane)
    UPDATE task t SET version = l.version, watched = t.watched AND EXISTS (
        SELECT 1 FROM registration r
        WHERE r.task = t.id AND r.state = 'watching' AND r.id <> off.id)
    FROM off JOIN lane l ON l.id = off.lane WHERE t.id = off.task
    RETURNING l.account, l.kind";

/// One flight. A task that nobody waits for any more is not polled; its lane learns so by the new
/// version.
pub(super) async fn cancel(
    db: &Session,
    id: &str,
    now: Timestamp,
    hints: &mut Vec<Hint>,
) -> Tried<Option<Registration>> {
    hints.clear();
    let find = format!("SELECT {COLUMNS} {FROM} WHERE r.id = $1");
    let [touch, cancel, find] = db.prepare([TOUCH, CANCEL, &find]).await?;
    let ((), _, off, found, ()) = flight!(
        db.say("BEGIN"),
        db.send(&touch, &[&id]),
        db.send(&cancel, &[&id, &now.0]),
        db.send(&find, &[&id]),
        db.say("COMMIT"),
    )?;
    if let Some(row) = off.first() {
        hints.push(Hint::Watch(lane(row, 0, 1)?));
        hints.push(Hint::Outcome { registration_id: id.to_owned() });
    }
    found.first().map(registration).transpose()
}
