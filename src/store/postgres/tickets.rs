//! Store apps' tickets: one row an app, the newest.

use super::rows::get;
use super::session::{Session, Tried};
use crate::clock::Timestamp;

const KEEP: &str = "
    INSERT INTO app_ticket (app_id, ticket, at) VALUES ($1, $2, $3)
    ON CONFLICT (app_id) DO UPDATE SET ticket = EXCLUDED.ticket, at = EXCLUDED.at";

pub(super) async fn keep(db: &Session, app_id: &str, ticket: &str, now: Timestamp) -> Tried<()> {
    db.query(KEEP, &[&app_id, &ticket, &now.0]).await?;
    Ok(())
}

pub(super) async fn all(db: &Session) -> Tried<Vec<(String, String)>> {
    let rows = db.query("SELECT app_id, ticket FROM app_ticket ORDER BY app_id", &[]).await?;
    rows.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?))).collect()
}
