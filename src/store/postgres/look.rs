//! Looking at a database without changing it: for `check-config --online`.

use super::connect::Target;
use super::rows::get;
use super::schema::KNOWN;
use super::session::{Session, Sessions, Tried, WORK, on_session};
use super::{OpenError, SchemaError};

/// What a database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The server's version, in its own words.
    pub version: String,
    /// The version of the schema; `None`: there is none yet.
    pub schema: Option<usize>,
    /// Whether a schema could be made there.
    pub may_create: bool,
}

/// Logs in and looks.
pub async fn look(url: &str) -> Result<Seen, OpenError> {
    let target = Target::of(url)?;
    let sessions = Sessions::new(&target, WORK).map_err(OpenError::Refused)?;
    if let Some(refusal) = sessions.refusal().await {
        return Err(OpenError::Refused(refusal));
    }
    let seen = ask(&sessions).await.map_err(OpenError::Away)?;
    match seen.schema {
        Some(found) if found > KNOWN => Err(SchemaError::Newer { found, known: KNOWN }.into()),
        _ => Ok(seen),
    }
}

async fn ask(sessions: &Sessions) -> crate::store::Result<Seen> {
    on_session!(sessions, |db| seen(&db))
}

async fn seen(db: &Session) -> Tried<Seen> {
    let sql = "SELECT current_setting('server_version'),
                      to_regclass('schema_migration') IS NOT NULL,
                      coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)";
    let rows = db.query(sql, &[]).await?;
    let row = rows.first().ok_or(super::session::Failure::Again)?;
    let made: bool = get(row, 1)?;
    let schema = if made {
        let rows = db.query("SELECT max(version) FROM schema_migration", &[]).await?;
        let version: Option<i64> = rows.first().map(|row| get(row, 0)).transpose()?.flatten();
        version.and_then(|version| usize::try_from(version).ok())
    } else {
        None
    };
    Ok(Seen { version: get(row, 0)?, schema, may_create: get(row, 2)? })
}
