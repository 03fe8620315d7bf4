//! Moving from the embedded store to the shared one.
//!
//! At no moment can a daemon be started on both: the file is marked before the first row leaves it
//! and refuses daemons from then on, the database refuses them until everything is there and
//! compared. Each page of rows is one commit together with its place, so a move that was killed
//! goes on where it was.

mod check;
mod error;
mod table;
mod value;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_retry::strategy::ExponentialBackoff;
use uuid::Uuid;

pub use error::MoveError;
pub(in crate::store) use table::{PAGE_ROWS, TABLES, Table};
pub(in crate::store) use value::{Row, Value};

use super::StoreError;
use super::postgres::arriving::{Arriving, Place};
use super::sqlite::leaving::{Leaving, Mark};
use super::sqlite::{LockError, OpenError};
use crate::clock::Clock;

/// How often a step is tried again while the database is away: about two minutes in all, longer
/// than a failover takes.
const TRIES: usize = 14;
/// The longest wait between two tries.
const AGAIN_MAX: Duration = Duration::from_secs(15);

/// What a move is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Rows go over.
    Copying,
    /// Rows are compared.
    Checking,
}

/// What a move tells while it is at it.
#[derive(Debug)]
pub enum News<'a> {
    /// It goes on where it was, with so many rows there already.
    Resumed {
        /// How many.
        rows: u64,
    },
    /// So many rows of all are through this step.
    Rows {
        /// The step.
        step: Step,
        /// The table.
        table: &'static str,
        /// Rows through it, of all tables.
        done: u64,
        /// Rows there are.
        of: u64,
    },
    /// The database was away, and is tried again.
    Again(&'a StoreError),
}

/// Is told how a move goes.
pub type Watcher<'a> = &'a (dyn Fn(News<'_>) + Sync);

/// One table, alike on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Its name.
    pub table: &'static str,
    /// How many rows.
    pub rows: u64,
    /// In how many texts U+0000, which Postgres cannot hold, became U+FFFD.
    pub replaced: u64,
    /// SHA-256 over all rows in the order of their keys, computed on both sides.
    pub checksum: [u8; 32],
}

/// How a move ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moved {
    /// All is there, and alike.
    Now(Vec<Tally>),
    /// It was finished before.
    Before {
        /// When.
        at: crate::clock::Timestamp,
    },
}

/// Counts what is through a step.
struct Told<'a> {
    watcher: Watcher<'a>,
    done: AtomicU64,
    of: u64,
}

impl Told<'_> {
    fn rows(&self, table: &Table, more: u64, step: Step) {
        let done = self.done.fetch_add(more, Ordering::Relaxed) + more;
        (self.watcher)(News::Rows { step, table: table.name, done, of: self.of });
    }
}

/// Moves the file's data into the database, or goes on with it.
pub async fn run(
    from: &Path,
    to: &str,
    clock: &dyn Clock,
    watcher: Watcher<'_>,
) -> Result<Moved, MoveError> {
    let leaving = open(from)?;
    let arriving = Arriving::connect(to).await?;
    let mark = begin(&leaving, &arriving, clock).await?;
    let arrival = arriving.begin(mark.id, &shown(from), clock.wall()).await?;
    if let Some(at) = arrival.map_err(|obstacle| error::obstacle(obstacle, &arriving))?.finished_at
    {
        return Ok(Moved::Before { at });
    }
    let mut of = 0;
    let mut before = 0;
    for table in &TABLES {
        of += leaving.count(table).await?;
        before += arriving.place(table).await?.copied;
    }
    if before > 0 {
        watcher(News::Resumed { rows: before });
    }
    let told = Told { watcher, done: before.into(), of };
    for table in &TABLES {
        persist(watcher, async || copy(table, mark.id, &leaving, &arriving, &told).await).await?;
    }
    let mut tallies = Vec::new();
    let told = Told { watcher, done: 0.into(), of };
    for table in &TABLES {
        let alike = async || check::check(table, &leaving, &arriving, &told).await;
        tallies.push(persist(watcher, alike).await?);
    }
    // A database too busy for it will do it by itself, a little later.
    let _ = arriving.analyze().await;
    // The file first: if this is cut off in between, neither is open to daemons.
    let now = clock.wall();
    leaving.set_mark(Mark { finished_at: Some(now), ..mark.clone() }).await?;
    if !persist(watcher, async || Ok(arriving.finish(mark.id, now).await?)).await? {
        return Err(rival(&arriving).await);
    }
    Ok(Moved::Now(tallies))
}

/// Goes back to the file: daemons open it again, and the database no more.
pub async fn abandon(from: &Path, to: &str, clock: &dyn Clock) -> Result<(), MoveError> {
    let leaving = open(from)?;
    let mark = leaving.mark().await?.ok_or(MoveError::NotMoved)?;
    // One that was never finished is closed to daemons as it is, even if it cannot be reached now.
    if mark.finished_at.is_some() {
        let arriving = Arriving::connect(to).await?;
        match arriving.arrival().await? {
            Some(arrival) if arrival.id == mark.id => {
                if !arriving.abandon(mark.id, clock.wall()).await? {
                    return Err(rival(&arriving).await);
                }
            }
            None if arriving.shown == mark.target => {}
            _ => return Err(MoveError::OtherTarget { target: mark.target }),
        }
    }
    Ok(leaving.clear_mark().await?)
}

fn open(from: &Path) -> Result<Leaving, MoveError> {
    // Opening would create it.
    if !from.is_file() {
        return Err(MoveError::NoFile(from.to_owned()));
    }
    Leaving::open(from).map_err(|error| match error {
        OpenError::Locked { source: LockError::Taken(lock), .. } => {
            MoveError::InUse { path: from.to_owned(), lock }
        }
        error => MoveError::Source(error),
    })
}

/// Where the data come from, as a person would write it.
fn shown(from: &Path) -> String {
    let path = std::fs::canonicalize(from).unwrap_or_else(|_| from.to_owned());
    format!("sqlite:{}", path.display())
}

/// Marks the file, or finds it marked with this move.
async fn begin(
    leaving: &Leaving,
    arriving: &Arriving,
    clock: &dyn Clock,
) -> Result<Mark, MoveError> {
    let arrival = arriving.arrival().await?;
    if let Some(mark) = leaving.mark().await? {
        // The same database may go by another name; an empty one of the same name was made anew.
        let same = arrival.as_ref().map_or(mark.target == arriving.shown, |a| a.id == mark.id);
        let redone = arrival.is_none() && mark.finished_at.is_some();
        let ours = same && !redone;
        return if ours { Ok(mark) } else { Err(MoveError::OtherTarget { target: mark.target }) };
    }
    // What is in the way is said before the file is marked.
    let id = Uuid::now_v7();
    if let Some(obstacle) = arriving.obstacle(id).await? {
        return Err(error::obstacle(obstacle, arriving));
    }
    let target = arriving.shown.clone();
    let mark = Mark { id, target, begun_at: clock.wall(), finished_at: None };
    leaving.set_mark(mark.clone()).await?;
    Ok(mark)
}

/// Copies what of a table is not there yet. The next page is read while one is written.
async fn copy(
    table: &'static Table,
    id: Uuid,
    from: &Leaving,
    to: &Arriving,
    told: &Told<'_>,
) -> Result<(), MoveError> {
    let mut place = to.place(table).await?;
    let mut page = from.page(table, place.after.clone()).await?;
    while let Some(last) = page.last() {
        let after = last[..table.key].to_vec();
        check::make_storable(table, &mut page);
        let (before, copied) = (place.copied, place.copied + page.len() as u64);
        let put = to.put(id, table, before, &page);
        let (put, next) = tokio::join!(put, from.page(table, after.clone()));
        let there = Place { copied, after };
        // What a killed predecessor had sent may still have been on its way: then it is there.
        if !put? && to.place(table).await? != there {
            return Err(rival(to).await);
        }
        told.rows(table, copied - before, Step::Copying);
        (place, page) = (there, next?);
    }
    Ok(())
}

/// Somebody else changed the target: who?
async fn rival(arriving: &Arriving) -> MoveError {
    match arriving.daemons().await {
        Ok(daemons) if !daemons.is_empty() => {
            MoveError::Daemons { target: arriving.shown.clone(), daemons }
        }
        _ => MoveError::Rival { target: arriving.shown.clone() },
    }
}

/// Does it again while the database is away. What is done twice changes nothing.
async fn persist<T>(
    watcher: Watcher<'_>,
    work: impl AsyncFn() -> Result<T, MoveError>,
) -> Result<T, MoveError> {
    let waits = ExponentialBackoff::from_millis(2).factor(100).max_delay(AGAIN_MAX);
    for wait in waits.take(TRIES) {
        match work().await {
            Err(MoveError::Store(error @ StoreError::Unavailable(_))) => {
                watcher(News::Again(&error));
                tokio::time::sleep(wait).await;
            }
            done => return done,
        }
    }
    work().await
}
