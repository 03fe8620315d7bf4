//! The schema: numbered migrations, forward only.

use rusqlite::{Connection, TransactionBehavior};

/// `outc`: says whose file this is.
const APPLICATION_ID: i32 = 0x6f75_7463;

/// Every migration, oldest first. Never edit one that was released: add another.
const MIGRATIONS: [&str; 2] =
    [include_str!("migrations/0001_initial.sql"), include_str!("migrations/0002_delivery.sql")];

/// Why a database file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Somebody else's file.
    #[error("it is a database of another program: point `store.url` at another file")]
    Foreign,
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

/// Brings the database to the newest schema.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), SchemaError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let application: i32 = transaction.pragma_query_value(None, "application_id", |r| r.get(0))?;
    let tables: i64 =
        transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0))?;
    if application != APPLICATION_ID && tables > 0 {
        return Err(SchemaError::Foreign);
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
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", i64::try_from(known).unwrap_or(i64::MAX))?;
    transaction.commit()?;
    Ok(())
}
