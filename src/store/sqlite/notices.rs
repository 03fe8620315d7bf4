//! Notices: few, and read all at once.

use rusqlite::{Connection, params};

use crate::clock::Timestamp;
use crate::store::{Notice, Result};

pub(super) fn all(db: &Connection) -> Result<Vec<Notice>> {
    let rows = db
        .prepare_cached(
            "SELECT client, subject, raised, since, at, id, body, attempts, next_attempt_at
             FROM notice ORDER BY client, subject",
        )?
        .query_map([], |row| {
            Ok(Notice {
                client: row.get(0)?,
                subject: row.get(1)?,
                raised: row.get(2)?,
                since: Timestamp(row.get(3)?),
                at: Timestamp(row.get(4)?),
                id: row.get(5)?,
                body: row.get(6)?,
                attempts: row.get(7)?,
                next_attempt_at: row.get::<_, Option<i64>>(8)?.map(Timestamp),
            })
        })?
        .collect::<rusqlite::Result<_>>();
    Ok(rows?)
}

pub(super) fn keep(db: &Connection, notice: &Notice) -> Result<()> {
    if notice.is_over() {
        db.prepare_cached("DELETE FROM notice WHERE client = ?1 AND subject = ?2 AND id = ?3")?
            .execute([&notice.client, &notice.subject, &notice.id])?;
        return Ok(());
    }
    db.prepare_cached(
        "INSERT INTO notice
             (client, subject, raised, since, at, id, body, attempts, next_attempt_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (client, subject) DO UPDATE SET
             raised = excluded.raised, since = excluded.since, at = excluded.at, id = excluded.id,
             body = excluded.body, attempts = excluded.attempts,
             next_attempt_at = excluded.next_attempt_at
         WHERE notice.id = excluded.id OR notice.raised <> excluded.raised",
    )?
    .execute(params![
        notice.client,
        notice.subject,
        notice.raised,
        notice.since.0,
        notice.at.0,
        notice.id,
        notice.body,
        notice.attempts,
        notice.next_attempt_at.map(|at| at.0),
    ])?;
    Ok(())
}
