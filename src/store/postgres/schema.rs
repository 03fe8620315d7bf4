//! The schema: numbered migrations, forward only, one daemon at a time.

use super::session::{Failure, Session, Tried, flight};
use crate::store::StoreError;

/// Every migration, oldest first. Never edit one that was released: add another.
const MIGRATIONS: [&str; 4] = [
    include_str!("migrations/0001_initial.sql"),
    include_str!("migrations/0002_delivery.sql"),
    include_str!("migrations/0003_fleet.sql"),
    include_str!("migrations/0004_isolation.sql"),
];

/// The newest version of the schema that this outcomed knows.
pub(super) const KNOWN: usize = MIGRATIONS.len();

/// Which migrations there have been; the row 0 is only there to be locked.
const BOOK: &str = "
    CREATE TABLE IF NOT EXISTS schema_migration (
        version BIGINT PRIMARY KEY,
        applied_at TIMESTAMPTZ NOT NULL
    );
    INSERT INTO schema_migration (version, applied_at) VALUES (0, now()) ON CONFLICT DO NOTHING";

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Written by a later version.
    #[error(
        "its schema is version {found}, newer than the {known} this outcomed knows: \
         run the newer outcomed, or restore the backup made before upgrading"
    )]
    Newer {
        /// The database's.
        found: usize,
        /// Ours.
        known: usize,
    },
}

/// Brings the database to the newest schema, while nobody else does.
pub(super) async fn migrate(db: &Session) -> Tried<Result<(), SchemaError>> {
    // Two daemons that create the book at once: one of them fails, and finds it the next time.
    db.batch(BOOK).await.map_err(|failure| match failure {
        Failure::Db(error) if error.code().is_some_and(|code| BOOK_RACE.contains(&code.code())) => {
            Failure::Again
        }
        failure => failure,
    })?;
    let [lock, last] = db
        .prepare([
            "SELECT version FROM schema_migration WHERE version = 0 FOR UPDATE",
            "SELECT max(version) FROM schema_migration",
        ])
        .await?;
    let ((), _, last) = flight!(db.say("BEGIN"), db.send(&lock, &[]), db.send(&last, &[]))?;
    let found = last.first().and_then(|row| row.get::<_, Option<i64>>(0)).unwrap_or(0);
    let found = usize::try_from(found).map_err(|e| StoreError::Corrupt(e.to_string()))?;
    let known = KNOWN;
    if found > known {
        db.say("ROLLBACK").await?;
        return Ok(Err(SchemaError::Newer { found, known }));
    }
    // An index of millions of rows takes longer than any statement of a daemon may.
    db.say("SET LOCAL statement_timeout = 0").await?;
    for (version, migration) in MIGRATIONS.iter().enumerate().skip(found) {
        db.batch(migration).await?;
        let version = i64::try_from(version + 1).unwrap_or(i64::MAX);
        db.query("INSERT INTO schema_migration VALUES ($1, now())", &[&version]).await?;
    }
    db.say("COMMIT").await?;
    Ok(Ok(()))
}

/// What creating a table that is being created says: `unique_violation`, `duplicate_table`.
const BOOK_RACE: [&str; 2] = ["23505", "42P07"];
