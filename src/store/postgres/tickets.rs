//! Store apps' tickets: one row an app, the newest.

use super::rows::get;
use super::session::{Session, Tried};
use crate::clock::Timestamp;
use crate::config::secret::Secret;
use crate::store::AppTicket;

const KEEP: &str = "
    INSERT INTO app_ticket (app_id, ticket, at) VALUES ($1, $2, $3)
    ON CONFLICT (app_id) DO UPDATE SET ticket = EXCLUDED.ticket, at = EXCLUDED.at
    WHERE EXCLUDED.at >= app_ticket.at";

pub(super) async fn keep(db: &Session, new: &AppTicket) -> Tried<()> {
    db.query(KEEP, &[&new.app_id, &new.ticket.expose(), &new.at.0]).await?;
    Ok(())
}

pub(super) async fn all(db: &Session) -> Tried<Vec<AppTicket>> {
    let rows = db.query("SELECT app_id, ticket, at FROM app_ticket ORDER BY app_id", &[]).await?;
    let read = |row| {
        let ticket: String = get(row, 1)?;
        Ok(AppTicket {
            app_id: get(row, 0)?,
            ticket: Secret::new(ticket),
            at: Timestamp(get(row, 2)?),
        })
    };
    rows.iter().map(read).collect()
}
