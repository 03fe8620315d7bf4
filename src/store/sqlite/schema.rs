//! The schema: numbered migrations, forward only.

use rusqlite::{Connection, TransactionBehavior};

use super::export::{self, Mark, Stage};

/// `outc`: says whose file this is.
const APPLICATION_ID: i32 = 0x6f75_7463;
/// `outm`: ours, and its data have moved, or are moving, elsewhere. Another id, so that a version
/// that knows nothing of moves refuses the file too.
const MOVED_ID: i32 = 0x6f75_746d;

/// Every migration, oldest first. Never edit one that was released: add another.
pub(super) const MIGRATIONS: [&str; 3] = [
    include_str!("migrations/0001_initial.sql"),
    include_str!("migrations/0002_delivery.sql"),
    include_str!("migrations/0003_isolation.sql"),
];

/// Why a database file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Somebody else's file.
    #[error("it is a database of another program: point `store.url` at another file")]
    Foreign,
    /// Its data are elsewhere.
    #[error("{0}")]
    Moved(String),
    /// Written by a later version.
    #[error(
        "its schema is version {found}, newer than the {known} this outcomed knows: \
         run the newer outcomed, or restore the backup made before upgrading"
    )]
    Newer {
        /// The file's.
        found: usize,
        /// Ours.
        known: usize,
    },
    /// `SQLite` refused.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

/// Two daemons, one here and one there, would tell every callback twice.
fn elsewhere(mark: &Mark) -> String {
    let Mark { target, begun_at, stage, .. } = mark;
    match stage {
        Stage::Finished(at) => format!(
            "its data moved to {target} at {at}: point `store.url` there; to go on with this file \
             instead, without what has happened since, run that `outcomed migrate-store` with \
             `--abandon`"
        ),
        Stage::Begun | Stage::Committing => format!(
            "its migration to {target} was begun at {begun_at} and not finished: run that `outcomed \
             migrate-store` again to finish, or with `--abandon` to go on with this file"
        ),
    }
}

/// What to make of a file whose data have moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marked {
    Refuse,
    Accept,
}

/// Says whether the file's data have moved.
pub(super) fn set_application(connection: &Connection, moved: bool) -> rusqlite::Result<()> {
    let id = if moved { MOVED_ID } else { APPLICATION_ID };
    connection.pragma_update(None, "application_id", id)
}

/// Brings the database to the newest schema.
pub(super) fn migrate(connection: &mut Connection, marked: Marked) -> Result<(), SchemaError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let application: i32 = transaction.pragma_query_value(None, "application_id", |r| r.get(0))?;
    let tables: i64 =
        transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0))?;
    let moved = application == MOVED_ID;
    if application != APPLICATION_ID && !moved && tables > 0 {
        return Err(SchemaError::Foreign);
    }
    if moved && marked == Marked::Refuse {
        let mark = export::mark(&transaction)?;
        return Err(mark
            .as_ref()
            .map_or(SchemaError::Foreign, |m| SchemaError::Moved(elsewhere(m))));
    }
    let found: i64 = transaction.pragma_query_value(None, "user_version", |r| r.get(0))?;
    let found = usize::try_from(found).unwrap_or(usize::MAX);
    let known = MIGRATIONS.len();
    if found > known {
        return Err(SchemaError::Newer { found, known });
    }
    for migration in &MIGRATIONS[found..] {
        transaction.execute_batch(migration)?;
    }
    set_application(&transaction, moved)?;
    transaction.pragma_update(None, "user_version", i64::try_from(known).unwrap_or(i64::MAX))?;
    transaction.commit()?;
    Ok(())
}
