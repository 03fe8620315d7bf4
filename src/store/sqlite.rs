//! The embedded store: one `SQLite` file, one writer, readers apart.

pub(super) mod export;
mod gone;
mod inspect;
mod lanes;
mod lock;
mod notices;
mod outbox;
mod readers;
mod redelivery;
mod register;
mod rewatch;
mod rows;
mod schema;
mod tickets;
mod upkeep;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::broadcast;

pub use lock::LockError;
pub use schema::SchemaError;

use self::lock::FileLock;
use self::readers::Readers;
use self::schema::Marked;
use self::writer::Writer;
use super::{
    AppTicket, Attempt, Change, Checkpoint, Delivery, Destination, DestinationPage,
    DestinationPlace, Ending, Filter, Hint, Lanes, Lease, Listed, NewRedelivery, NewRegistration,
    Next, Notice, Old, Outbox, Redelivery, RedeliveryStep, Registered, Registry, Result, Store,
    StoreError, TakenLane,
};
use crate::clock::{Clock, Timestamp};
use crate::outcome::Outcome;
use crate::task::{LaneName, Registration, State};

/// Hints kept for a listener that falls behind; one that misses some looks at the rows again.
const HINTS_MAX: usize = 4096;

/// Told of every commit: how many writes it held, and how long it took.
pub type OnCommit = Arc<dyn Fn(usize, Duration) + Send + Sync>;

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another daemon has it.
    #[error("cannot open the store {path}: {source}")]
    Locked {
        /// The file.
        path: String,
        /// Why.
        source: LockError,
    },
    /// It cannot be used.
    #[error("cannot open the store {path}: {source}")]
    Schema {
        /// The file.
        path: String,
        /// Why.
        source: SchemaError,
    },
}

/// The embedded store.
pub struct Sqlite {
    writer: Writer,
    /// For what clients ask.
    readers: Readers,
    /// For polling and delivery, which wait for no client.
    work: Readers,
    hints: broadcast::Sender<Hint>,
    /// Held for as long as the store is open.
    _lock: FileLock,
}

impl Sqlite {
    /// Opens (or creates) the file, alone. `on_commit` is told of every commit.
    pub fn open(
        path: &Path,
        clock: Arc<dyn Clock>,
        on_commit: OnCommit,
    ) -> std::result::Result<Self, OpenError> {
        let shown = path.display().to_string();
        let lock = FileLock::take(path)
            .map_err(|source| OpenError::Locked { path: shown.clone(), source })?;
        Self::open_locked(path, lock, clock, on_commit)
            .map_err(|source| OpenError::Schema { path: shown, source })
    }

    /// Opens the file for a simulation: everything runs on the caller's thread, so that simulated
    /// time does not pass meanwhile, and nothing waits for the disk, since no simulated crash cuts
    /// the power.
    pub fn open_simulated(path: &Path) -> std::result::Result<Self, OpenError> {
        let shown = path.display().to_string();
        let lock = FileLock::take(path)
            .map_err(|source| OpenError::Locked { path: shown.clone(), source })?;
        Self::open_on_caller(path, lock).map_err(|source| OpenError::Schema { path: shown, source })
    }

    fn open_locked(
        path: &Path,
        lock: FileLock,
        clock: Arc<dyn Clock>,
        on_commit: OnCommit,
    ) -> std::result::Result<Self, SchemaError> {
        let connection = writable(path)?;
        let (hints, _) = broadcast::channel(HINTS_MAX);
        let writer = Writer::start(connection, hints.clone(), clock, on_commit)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        let readers = Readers::open(readers::FOR_CLIENTS, || readable(path))?;
        let work = Readers::open(readers::FOR_WORK, || readable(path))?;
        Ok(Self { writer, readers, work, hints, _lock: lock })
    }

    fn open_on_caller(path: &Path, lock: FileLock) -> std::result::Result<Self, SchemaError> {
        let connection = writable(path)?;
        connection.pragma_update(None, "synchronous", "OFF")?;
        let (hints, _) = broadcast::channel(HINTS_MAX);
        let writer = Writer::on_caller(connection, hints.clone());
        let [readers, work] =
            [Readers::on_caller(readable(path)?), Readers::on_caller(readable(path)?)];
        Ok(Self { writer, readers, work, hints, _lock: lock })
    }
}

/// The writer's connection, its schema up to date.
fn writable(path: &Path) -> std::result::Result<Connection, SchemaError> {
    let mut connection = configured(path)?;
    schema::migrate(&mut connection, Marked::Refuse)?;
    Ok(connection)
}

/// Prepared statements kept by each connection: more than there are.
const STATEMENTS_MAX: usize = 256;

/// A connection with the settings that the promises rest on.
fn configured(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let connection = connect(path, flags)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // FULL, not NORMAL: with WAL, NORMAL may lose acknowledged commits to a power cut.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 4000)?;
    Ok(connection)
}

fn readable(path: &Path) -> rusqlite::Result<Connection> {
    connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

fn connect(path: &Path, access: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_NO_MUTEX | access)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // The plans that the tests hold are those that run, whatever is bound; and nothing is prepared
    // again because of what is bound.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // Somebody may be looking at the file with `sqlite3`.
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.pragma_update(None, "trusted_schema", "OFF")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(connection)
}

fn unavailable(error: &rusqlite::Error) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

#[async_trait]
impl Store for Sqlite {
    async fn ping(&self, now: Timestamp) -> Result<()> {
        self.writer.write(move |db, _| upkeep::ping(db, now)).await
    }

    async fn prune(&self, ended_before: Timestamp, limit: u32) -> Result<u32> {
        self.writer.write(move |db, _| upkeep::prune(db, ended_before, limit)).await
    }

    async fn forget(&self, what: Old, before: Timestamp, limit: u32) -> Result<u32> {
        self.writer.write(move |db, _| upkeep::forget(db, what, before, limit)).await
    }

    async fn notices(&self) -> Result<Vec<Notice>> {
        self.work.read(notices::all).await
    }

    async fn keep_notice(&self, notice: &Notice) -> Result<()> {
        let notice = notice.clone();
        self.writer.write(move |db, _| notices::keep(db, &notice)).await
    }

    async fn keep_ticket(&self, ticket: &AppTicket) -> Result<()> {
        let ticket = ticket.clone();
        self.writer.write(move |db, _| tickets::keep(db, &ticket)).await
    }

    async fn tickets(&self) -> Result<Vec<AppTicket>> {
        self.work.read(tickets::all).await
    }

    async fn backlog(&self, after: &DestinationPlace, limit: u32) -> Result<DestinationPage> {
        let after = after.clone();
        self.readers.read(move |db| outbox::destinations(db, after, limit)).await
    }

    fn hints(&self) -> broadcast::Receiver<Hint> {
        self.hints.subscribe()
    }
}

#[async_trait]
impl Registry for Sqlite {
    async fn register(&self, new: Vec<NewRegistration>) -> Result<Vec<Registered>> {
        self.writer.write_for_client(move |db, hints| register::register(db, &new, hints)).await
    }

    async fn find(&self, id: &str) -> Result<Option<Registration>> {
        let id = id.to_owned();
        self.readers.read(move |db| inspect::find(db, &id)).await
    }

    async fn list(&self, filter: &Filter, before: Option<&str>, limit: u32) -> Result<Listed> {
        let (filter, before) = (filter.clone(), before.map(str::to_owned));
        self.readers.read(move |db| inspect::list(db, &filter, before.as_deref(), limit)).await
    }

    async fn cancel(&self, id: &str, now: Timestamp) -> Result<Option<Registration>> {
        let id = id.to_owned();
        self.writer.write_for_client(move |db, hints| register::cancel(db, &id, now, hints)).await
    }

    async fn attempts(&self, id: &str) -> Result<Vec<Attempt>> {
        let id = id.to_owned();
        self.readers.read(move |db| inspect::attempts(db, &id)).await
    }

    async fn redeliver(&self, id: &str, now: Timestamp) -> Result<Option<Registration>> {
        let id = id.to_owned();
        self.writer
            .write_for_client(move |db, hints| outbox::redeliver(db, &id, now, true, hints))
            .await
    }

    async fn outcomes(
        &self,
        client: &str,
        after: u64,
        limit: u32,
    ) -> Result<Vec<(u64, Registration)>> {
        let client = client.to_owned();
        self.readers.read(move |db| inspect::outcomes(db, &client, after, limit)).await
    }

    async fn counts(&self) -> Result<Vec<(State, u64)>> {
        self.work.read(inspect::counts).await
    }

    async fn begin_redelivery(&self, new: NewRedelivery) -> Result<Redelivery> {
        let matched = redelivery::count(&self.readers, &new.filter).await?;
        self.writer.write_for_client(move |db, _| redelivery::begin(db, &new, matched)).await
    }

    async fn redelivery(&self, id: &str) -> Result<Option<Redelivery>> {
        let id = id.to_owned();
        self.readers.read(move |db| redelivery::find(db, &id)).await
    }

    async fn cancel_redelivery(&self, id: &str, now: Timestamp) -> Result<Option<Redelivery>> {
        let id = id.to_owned();
        self.writer.write_for_client(move |db, _| redelivery::cancel(db, &id, now)).await
    }
}

#[async_trait]
impl Lanes for Sqlite {
    async fn lanes(&self) -> Result<Vec<LaneName>> {
        self.work.read(lanes::lanes).await
    }

    async fn take(&self, lane: &LaneName, _now: Timestamp) -> Result<TakenLane> {
        let lane = lane.clone();
        self.writer.write(move |db, _| lanes::take(db, &lane)).await
    }

    async fn watched(&self, lease: &Lease, version: u64, limit: u32) -> Result<Vec<Change>> {
        let lease = *lease;
        self.work.read(move |db| lanes::watched(db, lease, version, limit)).await
    }

    async fn changes(&self, lease: &Lease, version: u64, limit: u32) -> Result<Vec<Change>> {
        let lease = *lease;
        self.work.read(move |db| lanes::changes(db, lease, version, limit)).await
    }

    async fn checkpoint(&self, lease: &Lease, checkpoint: Checkpoint) -> Result<()> {
        let lease = *lease;
        self.writer.write(move |db, _| lanes::checkpoint(db, lease, &checkpoint)).await
    }

    async fn settle(&self, lease: &Lease, ending: Ending, outcome: Outcome) -> Result<()> {
        let lease = *lease;
        self.writer.write(move |db, hints| lanes::settle(db, lease, &ending, &outcome, hints)).await
    }

    async fn give_up(
        &self,
        lease: &Lease,
        ending: Ending,
        outcome: Outcome,
    ) -> Result<Option<Timestamp>> {
        let lease = *lease;
        self.writer
            .write(move |db, hints| lanes::give_up(db, lease, &ending, &outcome, hints))
            .await
    }
}

#[async_trait]
impl Outbox for Sqlite {
    async fn destinations(&self, after: &DestinationPlace, limit: u32) -> Result<DestinationPage> {
        let after = after.clone();
        self.work.read(move |db| outbox::destinations(db, after, limit)).await
    }

    async fn due(&self, to: &Destination, now: Timestamp, limit: u32) -> Result<Vec<Delivery>> {
        let to = to.clone();
        self.work.read(move |db| outbox::due(db, &to, now, limit)).await
    }

    async fn asked(&self, now: Timestamp, limit: u32) -> Result<Vec<Delivery>> {
        self.work.read(move |db| outbox::asked(db, now, limit)).await
    }

    async fn reschedule(&self, under_way: &[Delivery], at: Timestamp) -> Result<()> {
        let under_way = under_way.to_vec();
        self.writer.write(move |db, _| outbox::reschedule(db, &under_way, at)).await
    }

    async fn record_attempt(
        &self,
        delivery: &Delivery,
        attempt: Attempt,
        next: Next,
    ) -> Result<bool> {
        let delivery = delivery.clone();
        self.writer
            .write(move |db, hints| outbox::record_attempt(db, &delivery, &attempt, next, hints))
            .await
    }

    async fn postpone(&self, delivery: &Delivery, until: Timestamp, error: &str) -> Result<()> {
        let (delivery, error) = (delivery.clone(), error.to_owned());
        self.writer.write(move |db, _| outbox::postpone(db, &delivery, until, &error)).await
    }

    async fn end_gone(
        &self,
        client: &str,
        callback_url: &str,
        now: Timestamp,
        limit: u32,
    ) -> Result<u32> {
        let (client, url) = (client.to_owned(), callback_url.to_owned());
        self.writer.write(move |db, hints| gone::end(db, &client, &url, now, limit, hints)).await
    }

    async fn callback_accepts(&self, client: &str, callback_url: &str) -> Result<()> {
        let (client, url) = (client.to_owned(), callback_url.to_owned());
        self.writer.write_for_client(move |db, _| gone::unmark(db, &client, &url)).await
    }

    async fn step_redelivery(
        &self,
        passed_by: &[String],
        limit: u32,
        now: Timestamp,
    ) -> Result<Option<RedeliveryStep>> {
        let passed_by = passed_by.to_vec();
        self.writer
            .write(move |db, hints| redelivery::step(db, &passed_by, limit, now, hints))
            .await
    }
}
