//! From the embedded store into the shared one, in one transaction of the database: until it is
//! committed nothing has happened there, so one that was killed starts over.
//!
//! At no moment can a daemon be started on both: the file refuses daemons from before the first row
//! is read, and the database has the rows and the right to serve in one commit.

mod error;
pub(in crate::store) mod table;

use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_retry::RetryIf;
use tokio_retry::strategy::ExponentialBackoff;
use uuid::Uuid;

pub use error::MigrationError;

use self::table::{Checksum, Column, TABLES};
use super::postgres::import::{self, Import, ImportError, Imported};
use super::sqlite;
use super::sqlite::export::{Export, Mark, Stage};
use crate::clock::{Clock, Timestamp};

/// How often it starts over while the database is away: about two minutes in all, longer than a
/// failover takes.
const TRIES: usize = 14;
/// The longest wait between two tries.
const AGAIN_MAX: Duration = Duration::from_secs(15);
/// Pages read from the file and not yet written.
const PAGES_MAX: usize = 2;

/// What a migration is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Rows go over.
    Copying,
    /// They are read back and compared.
    Comparing,
}

/// What a migration reports while it runs.
#[derive(Debug)]
pub enum Event<'a> {
    /// So many rows of all are through this phase.
    Rows {
        /// The phase.
        phase: Phase,
        /// The table.
        table: &'static str,
        /// Rows through it, of all tables.
        done: u64,
        /// Rows there are.
        of: u64,
    },
    /// The database was away: it starts over.
    StartingOver(&'a ImportError),
}

/// Is told how it goes.
pub type Watcher<'a> = &'a (dyn Fn(Event<'_>) + Sync);

/// One table, alike in both stores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Its name.
    pub table: &'static str,
    /// How many rows.
    pub rows: u64,
    /// In how many texts U+0000, which Postgres cannot hold, became U+FFFD.
    pub replaced: u64,
    /// SHA-256 over all rows in the order of their keys, computed in both.
    pub checksum: [u8; 32],
}

/// How a migration ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Migrated {
    /// All is there, and alike.
    Now(Vec<Tally>),
    /// It was committed before.
    Before {
        /// When.
        at: Timestamp,
    },
}

/// Migrates the file's data into the database.
pub async fn run(
    from: &Path,
    to: &str,
    clock: &dyn Clock,
    watcher: Watcher<'_>,
) -> Result<Migrated, MigrationError> {
    let file = open(from)?;
    let waits = ExponentialBackoff::from_millis(2).factor(100).max_delay(AGAIN_MAX).take(TRIES);
    let attempt = || async { migrate(&file, from, to, clock, watcher).await };
    RetryIf::start(waits, attempt, |error: &MigrationError| {
        let MigrationError::Import(error @ ImportError::Away(_)) = error else { return false };
        watcher(Event::StartingOver(error));
        true
    })
    .await
}

async fn migrate(
    file: &Export,
    from: &Path,
    to: &str,
    clock: &dyn Clock,
    watcher: Watcher<'_>,
) -> Result<Migrated, MigrationError> {
    let shown = import::schema(to).await?;
    let mut import = Import::begin(to).await?;
    let mark = file.mark().await?;
    if let Some(at) = committed_at(&import, mark.as_ref(), &shown).await? {
        if let Some(mark) = mark {
            file.set_mark(Mark { stage: Stage::Finished(at), ..mark }).await?;
        }
        return Ok(Migrated::Before { at });
    }
    import.lock().await?;
    // Somebody may have come before the lock.
    if committed_at(&import, mark.as_ref(), &shown).await?.is_some() {
        return Err(rival());
    }
    let now = clock.wall();
    let new = || Mark { id: Uuid::now_v7(), target: shown, begun_at: now, stage: Stage::Begun };
    let mark = Mark { stage: Stage::Begun, ..mark.unwrap_or_else(new) };
    file.set_mark(mark.clone()).await?;
    let of = file.rows().await?;
    let mut done = 0;
    let mut tallies = Vec::new();
    for table in TABLES {
        let progress = |rows| {
            done += rows;
            watcher(Event::Rows { phase: Phase::Copying, table, done, of });
        };
        let columns = file.columns(table).await?;
        tallies.push((copy(file, &mut import, table, &columns, progress).await?, columns));
    }
    done = 0;
    for (tally, columns) in &tallies {
        let progress = |rows| {
            done += rows;
            watcher(Event::Rows { phase: Phase::Comparing, table: tally.table, done, of });
        };
        let (rows, checksum) = import.checksum(tally.table, columns, progress).await?.finish();
        if (rows, checksum) != (tally.rows, tally.checksum) {
            let (table, here) = (tally.table, tally.rows);
            return Err(MigrationError::Differs { table, rows: here, found: rows });
        }
    }
    // From here on only the database can tell whether it was committed.
    file.set_mark(Mark { stage: Stage::Committing, ..mark.clone() }).await?;
    let at = clock.wall();
    let (id, source) = (mark.id, name(from));
    import.commit(&Imported { id, source, at, unfinished: false, abandoned_at: None }).await?;
    file.set_mark(Mark { stage: Stage::Finished(at), ..mark }).await?;
    Ok(Migrated::Now(tallies.into_iter().map(|it| it.0).collect()))
}

/// When this migration was committed before, if it was; an error if the two do not belong together.
async fn committed_at(
    import: &Import,
    mark: Option<&Mark>,
    shown: &str,
) -> Result<Option<Timestamp>, MigrationError> {
    let imported = import.imported().await?;
    match (mark, imported) {
        (Some(mark), Some(it))
            if it.id == mark.id && !it.unfinished && it.abandoned_at.is_none() =>
        {
            Ok(Some(it.at))
        }
        (_, Some(other)) => Err(MigrationError::OtherMigration {
            target: shown.to_owned(),
            source_name: other.source.clone(),
            state: match other {
                Imported { abandoned_at: Some(_), .. } => ", which was taken back",
                Imported { unfinished: true, .. } => ", which an earlier version left unfinished",
                _ => "",
            },
        }),
        // The same database may go by another name; an empty one of the same name was made anew.
        (Some(mark), None) if mark.target != shown || mark.stage.is_finished() => {
            Err(MigrationError::OtherTarget { target: mark.target.clone() })
        }
        _ => {
            nobody_uses(import, shown).await?;
            let (target, tables) = (shown.to_owned(), import.tables_in_use().await?);
            if tables.is_empty() {
                Ok(None)
            } else {
                Err(MigrationError::NotEmpty { target, tables })
            }
        }
    }
}

/// Reads a table from one end to the other, page by page, while the page before is written.
async fn copy(
    file: &Export,
    import: &mut Import,
    table: &'static str,
    columns: &[Column],
    mut progress: impl FnMut(u64),
) -> Result<Tally, MigrationError> {
    let (pages, incoming) = mpsc::channel(PAGES_MAX);
    let reading = file.read(table, columns.to_vec(), pages);
    let (mut checksum, mut replaced) = (Checksum::default(), 0);
    let writing = async {
        // Dropped as soon as writing fails, so that reading ends too.
        let mut incoming = incoming;
        let mut copying = import.copy(table, columns).await?;
        while let Some(mut page) = incoming.recv().await {
            for row in &mut page {
                let values = row.iter_mut().zip(columns).filter(|(_, column)| !column.key);
                replaced += values.map(|(value, _)| u64::from(value.make_storable())).sum::<u64>();
                checksum.add(row);
                copying.write(row).await?;
            }
            progress(page.len() as u64);
        }
        Ok::<_, MigrationError>(copying)
    };
    let (read, written) = tokio::join!(reading, writing);
    // What could not be read whole is not closed as if it were.
    let (copying, ()) = (written?, read?);
    copying.finish().await?;
    let (rows, checksum) = checksum.finish();
    Ok(Tally { table, rows, replaced, checksum })
}

/// Goes back to the file: daemons open it again, and the database no more.
pub async fn abandon(from: &Path, to: &str, clock: &dyn Clock) -> Result<(), MigrationError> {
    let file = open(from)?;
    let mark = file.mark().await?.ok_or(MigrationError::NotMigrated)?;
    // Where no commit was ever asked for, nothing is there.
    if mark.stage != Stage::Begun {
        let target = import::schema(to).await?;
        let import = Import::begin(to).await?;
        match import.imported().await? {
            Some(imported) if imported.id == mark.id => {
                nobody_uses(&import, &target).await?;
                import.lock().await?;
                // One may have come before the lock.
                nobody_uses(&import, &target).await?;
                let abandoned_at = imported.abandoned_at.or_else(|| Some(clock.wall()));
                import.commit(&Imported { abandoned_at, ..imported }).await?;
            }
            None if target == mark.target => {}
            _ => return Err(MigrationError::OtherTarget { target: mark.target }),
        }
    }
    Ok(file.clear_mark().await?)
}

async fn nobody_uses(import: &Import, shown: &str) -> Result<(), MigrationError> {
    let daemons = import.daemons().await?;
    let target = shown.to_owned();
    if daemons.is_empty() { Ok(()) } else { Err(MigrationError::Daemons { target, daemons }) }
}

fn rival() -> MigrationError {
    ImportError::Refused("another `outcomed migrate-store` has just done it".into()).into()
}

fn open(from: &Path) -> Result<Export, MigrationError> {
    // Opening would create it.
    if !from.is_file() {
        return Err(MigrationError::NoFile(from.to_owned()));
    }
    Export::open(from).map_err(|error| match error {
        sqlite::OpenError::Locked { source: sqlite::LockError::Taken(lock), .. } => {
            MigrationError::InUse { path: from.to_owned(), lock }
        }
        error => MigrationError::Source(error),
    })
}

/// Where the data come from, as a person would write it.
fn name(from: &Path) -> String {
    let path = std::fs::canonicalize(from).unwrap_or_else(|_| from.to_owned());
    format!("sqlite:{}", path.display())
}
