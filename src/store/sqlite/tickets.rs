//! Store apps' tickets: one row an app, the newest.

use rusqlite::{Connection, params};

use crate::clock::Timestamp;
use crate::config::secret::Secret;
use crate::store::{AppTicket, Result};

pub(super) fn keep(db: &Connection, new: &AppTicket) -> Result<()> {
    db.prepare_cached(
        "INSERT INTO app_ticket (app_id, ticket, at) VALUES (?1, ?2, ?3)
         ON CONFLICT (app_id) DO UPDATE SET ticket = excluded.ticket, at = excluded.at
         WHERE excluded.at >= app_ticket.at",
    )?
    .execute(params![new.app_id, new.ticket.expose(), new.at.0])?;
    Ok(())
}

pub(super) fn all(db: &Connection) -> Result<Vec<AppTicket>> {
    let rows = db
        .prepare_cached("SELECT app_id, ticket, at FROM app_ticket ORDER BY app_id")?
        .query_map([], |row| {
            Ok(AppTicket {
                app_id: row.get(0)?,
                ticket: Secret::new(row.get::<_, String>(1)?),
                at: Timestamp(row.get(2)?),
            })
        })?
        .collect::<rusqlite::Result<_>>();
    Ok(rows?)
}
