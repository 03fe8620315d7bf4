//! Notices: few, and read all at once.

use super::rows::{get, number, time};
use super::session::{Session, Tried};
use crate::clock::Timestamp;
use crate::store::Notice;

pub(super) async fn all(db: &Session) -> Tried<Vec<Notice>> {
    let sql = "SELECT client, subject, raised, since, at, id, body, attempts, next_attempt_at
               FROM notice ORDER BY client, subject";
    let notice = |row| {
        Ok(Notice {
            client: get(row, 0)?,
            subject: get(row, 1)?,
            raised: get(row, 2)?,
            since: Timestamp(get(row, 3)?),
            at: Timestamp(get(row, 4)?),
            id: get(row, 5)?,
            body: get(row, 6)?,
            attempts: number(row, 7)?,
            next_attempt_at: time(row, 8)?,
        })
    };
    db.query(sql, &[]).await?.iter().map(notice).collect()
}

/// Two daemons that see one incident make one notice: the first stands.
const KEEP: &str = "
    INSERT INTO notice (client, subject, raised, since, at, id, body, attempts, next_attempt_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
    ON CONFLICT (client, subject) DO UPDATE SET
        raised = EXCLUDED.raised, since = EXCLUDED.since, at = EXCLUDED.at, id = EXCLUDED.id,
        body = EXCLUDED.body, attempts = EXCLUDED.attempts,
        next_attempt_at = EXCLUDED.next_attempt_at
    WHERE notice.id = EXCLUDED.id OR notice.raised <> EXCLUDED.raised";

pub(super) async fn keep(db: &Session, notice: &Notice) -> Tried<()> {
    let (client, subject) = (&notice.client, &notice.subject);
    if notice.is_over() {
        let sql = "DELETE FROM notice WHERE client = $1 AND subject = $2 AND id = $3";
        db.query(sql, &[client, subject, &notice.id]).await?;
        return Ok(());
    }
    db.query(
        KEEP,
        &[
            client,
            subject,
            &notice.raised,
            &notice.since.0,
            &notice.at.0,
            &notice.id,
            &notice.body,
            &i64::from(notice.attempts),
            &notice.next_attempt_at.map(|at| at.0),
        ],
    )
    .await?;
    Ok(())
}
