//! Calling off: one registration, or all that go to a callback that is gone.

use std::collections::BTreeMap;

use super::rows::{COLUMNS, FROM, get, lane, registration};
use super::session::{Session, Tried, flight};
use crate::clock::Timestamp;
use crate::store::Hint;
use crate::task::Registration;

/// Registrations closed in one transaction: bounds how long their lanes are locked.
const CLOSED_AT_ONCE: u32 = 500;

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

const OPEN: &str = "
    SELECT id, lane FROM registration
    WHERE client = $1 AND callback_url = $2 AND state IN ('watching', 'delivering')
    ORDER BY id LIMIT $3";

const TOUCH_ALL: &str = "
    WITH held AS (
        SELECT l.id, n.count FROM unnest($1::bigint[], $2::bigint[]) AS n (lane, count)
        JOIN lane l ON l.id = n.lane ORDER BY l.account, l.kind FOR NO KEY UPDATE OF l)
    UPDATE lane SET version = version + held.count FROM held WHERE lane.id = held.id";

const CLOSE: &str = "
    WITH off AS (
        UPDATE registration
        SET state = CASE state WHEN 'watching' THEN 'cancelled' ELSE 'undeliverable' END,
            next_attempt_at = NULL, finished_at = $2,
            last_error = 'the callback answered 410 Gone to another delivery'
        WHERE id = ANY($1) AND state IN ('watching', 'delivering') RETURNING id, task, lane),
    changed AS (
        SELECT task, lane, row_number() OVER (PARTITION BY lane ORDER BY task) - 1 AS back
        FROM (SELECT DISTINCT task, lane FROM off) AS tasks),
    touched AS (
        UPDATE task t SET version = l.version - c.back, watched = t.watched AND EXISTS (
            SELECT 1 FROM registration r
            WHERE r.task = t.id AND r.state = 'watching' AND NOT r.id = ANY($1))
        FROM changed c JOIN lane l ON l.id = c.lane WHERE t.id = c.task)
    SELECT off.id, l.account, l.kind FROM off JOIN lane l ON l.id = off.lane ORDER BY off.id";

/// Closes some. Returns how many, and whether there may be more.
pub(super) async fn close_some(
    db: &Session,
    client: &str,
    url: &str,
    now: Timestamp,
    hints: &mut Vec<Hint>,
) -> Tried<(u64, bool)> {
    hints.clear();
    let open = db.query(OPEN, &[&client, &url, &i64::from(CLOSED_AT_ONCE)]).await?;
    if open.is_empty() {
        return Ok((0, false));
    }
    let ids: Vec<&str> = open.iter().map(|row| get(row, 0)).collect::<Tried<_>>()?;
    let mut lanes: BTreeMap<i64, i64> = BTreeMap::new();
    for row in &open {
        *lanes.entry(get(row, 1)?).or_insert(0) += 1;
    }
    let (lanes, counts): (Vec<i64>, Vec<i64>) = lanes.into_iter().unzip();
    let [touch, close] = db.prepare([TOUCH_ALL, CLOSE]).await?;
    let ((), _, closed, ()) = flight!(
        db.say("BEGIN"),
        db.send(&touch, &[&lanes, &counts]),
        db.send(&close, &[&ids, &now.0]),
        db.say("COMMIT"),
    )?;
    for row in &closed {
        hints.push(Hint::Watch(lane(row, 1, 2)?));
        hints.push(Hint::Outcome { registration_id: get(row, 0)? });
    }
    Ok((closed.len() as u64, open.len() == CLOSED_AT_ONCE as usize))
}
