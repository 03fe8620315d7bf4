//! The shared store: one Postgres, any number of daemons.
//!
//! Each verb is at most two flights to the database, its statements sent without waiting for each
//! other. Rows are locked in one order: lanes by name, then tasks, registrations and logs; so
//! nobody waits in a circle. Nothing rests on advisory locks, sequences' order or notifications.

mod calling_off;
mod connect;
mod ending;
mod fleet;
mod gone;
mod hints;
pub(super) mod import;
mod inspect;
mod lanes;
mod look;
mod members;
mod notices;
mod outbox;
mod redelivery;
mod register;
mod rewatch;
mod rows;
mod schema;
mod session;
mod tickets;
mod upkeep;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::broadcast;
use tokio_retry::RetryIf;
use tokio_retry::strategy::{ExponentialBackoff, jitter};
use uuid::Uuid;

pub use connect::UrlError;
pub use look::{Seen, look};
pub use schema::SchemaError;

use self::connect::Target;
use self::hints::Hints;
use self::session::{BEATS, CLIENTS, FLEET, Sessions, WORK, on_session};
use super::{
    AppTicket, Attempt, Change, Checkpoint, Delivery, Destination, DestinationPage,
    DestinationPlace, Ending, Filter, Hint, Lanes, Lease, Listed, NewRedelivery, NewRegistration,
    Next, Notice, Old, Outbox, Redelivery, RedeliveryStep, Registered, Registry, Result, Store,
    StoreError, TakenLane,
};
use crate::clock::Timestamp;
use crate::outcome::Outcome;
use crate::task::{LaneName, Registration, State};

/// How long a daemon that starts waits for its database, which may be starting too.
const START_MAX: Duration = Duration::from_secs(30);
/// How long it waits for the schema to be brought up to date: indexes of millions of rows.
const MIGRATION_MAX: Duration = Duration::from_secs(600);
/// The longest wait between two tries meanwhile.
const START_AGAIN_MAX: Duration = Duration::from_secs(2);

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The database is there, and refuses.
    #[error(
        "cannot open the store: {0}; check the user, password, database and sslrootcert in `store.url`"
    )]
    Refused(String),
    /// The database did not answer in time.
    #[error("cannot open the store: {0}")]
    Away(StoreError),
    /// Its schema.
    #[error("cannot open the store: {0}")]
    Schema(#[from] SchemaError),
    /// Another store's data came into it in part, or have gone back.
    #[error("cannot open the store: {0}")]
    Imported(String),
}

/// The shared store, as one daemon holds it.
pub struct Postgres {
    /// For what clients ask.
    sessions: Sessions,
    /// For polling and delivery, which wait for no client.
    work: Sessions,
    /// For leases, which wait for neither.
    fleet: Sessions,
    beats: Sessions,
    hints: Hints,
    /// This daemon in the fleet, once it has joined: from then on it sees the deliveries of its own
    /// lanes only.
    me: Mutex<Option<Uuid>>,
    /// The version of each held lane at the last beat.
    seen: Mutex<BTreeMap<i64, i64>>,
}

impl Postgres {
    /// Connects, waiting for the database for a while, and brings its schema up to date.
    pub async fn open(url: &str) -> std::result::Result<Self, OpenError> {
        let (target, work) = ready(url).await?;
        if let Some(refusal) = imported(&work).await.map_err(OpenError::Away)? {
            return Err(OpenError::Imported(refusal));
        }
        let share = |share| Sessions::new(&target, share).map_err(OpenError::Refused);
        let (sessions, fleet, beats) = (share(CLIENTS)?, share(FLEET)?, share(BEATS)?);
        let hints = Hints::start(target, work.clone()).await;
        let (me, seen) = (Mutex::new(None), Mutex::new(BTreeMap::new()));
        Ok(Self { sessions, work, fleet, beats, hints, me, seen })
    }

    fn me(&self) -> Option<Uuid> {
        *lock(&self.me)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Connections to a database that is there and whose schema is up to date.
async fn ready(url: &str) -> std::result::Result<(Target, Sessions), OpenError> {
    let target = Target::of(url)?;
    let sessions = Sessions::new(&target, WORK).map_err(OpenError::Refused)?;
    let late = |what: &str, max: Duration| {
        let why = format!("{what} within {} s", max.as_secs());
        OpenError::Away(StoreError::Unavailable(why))
    };
    let there = tokio::time::timeout(START_MAX, persist(|| reach(&sessions))).await;
    let what = "the database was not there (is `store.url` right, and is it running?)";
    there.unwrap_or_else(|_| Err(late(what, START_MAX)))?;
    let migrated = tokio::time::timeout(MIGRATION_MAX, persist(|| migrate(&sessions))).await;
    let what = "the database's schema could not be brought up to date";
    migrated.unwrap_or_else(|_| Err(late(what, MIGRATION_MAX)))?;
    Ok((target, sessions))
}

/// Tries a step of the start again as long as the database is away.
async fn persist<F>(step: impl FnMut() -> F) -> std::result::Result<(), OpenError>
where
    F: Future<Output = std::result::Result<(), OpenError>>,
{
    let waits = ExponentialBackoff::from_millis(2).factor(50).max_delay(START_AGAIN_MAX);
    RetryIf::start(waits.map(jitter), step, |error: &OpenError| {
        let again = matches!(error, OpenError::Away(StoreError::Unavailable(_)));
        if again {
            tracing::warn!(%error, "waiting for the database");
        }
        again
    })
    .await
}

async fn reach(sessions: &Sessions) -> std::result::Result<(), OpenError> {
    if let Some(refusal) = sessions.refusal().await {
        return Err(OpenError::Refused(refusal));
    }
    sessions.get().await.map(drop).map_err(OpenError::Away)
}

async fn migrate(sessions: &Sessions) -> std::result::Result<(), OpenError> {
    let migrated = async { on_session!(sessions, MIGRATION_MAX, |db| schema::migrate(&db)) };
    Ok(migrated.await.map_err(OpenError::Away)??)
}

/// Why its data must not be used, if that is so.
async fn imported(sessions: &Sessions) -> Result<Option<String>> {
    on_session!(sessions, |db| import::refusal(&db))
}

#[async_trait]
impl Store for Postgres {
    async fn ping(&self, now: Timestamp) -> Result<()> {
        on_session!(self.work, |db| upkeep::ping(&db, now))
    }

    async fn prune(&self, ended_before: Timestamp, limit: u32) -> Result<u32> {
        on_session!(self.work, |db| upkeep::prune(&db, ended_before, limit))
    }

    async fn forget(&self, what: Old, before: Timestamp, limit: u32) -> Result<u32> {
        on_session!(self.work, |db| upkeep::forget(&db, what, before, limit))
    }

    async fn notices(&self) -> Result<Vec<Notice>> {
        on_session!(self.work, |db| notices::all(&db))
    }

    async fn keep_notice(&self, notice: &Notice) -> Result<()> {
        on_session!(self.work, |db| notices::keep(&db, notice))
    }

    async fn keep_ticket(&self, ticket: &AppTicket) -> Result<()> {
        on_session!(self.work, |db| tickets::keep(&db, ticket))?;
        // The lanes that wait for it may be another daemon's.
        self.hints.tell_moves();
        Ok(())
    }

    async fn tickets(&self) -> Result<Vec<AppTicket>> {
        on_session!(self.work, |db| tickets::all(&db))
    }

    async fn backlog(&self, after: &DestinationPlace, limit: u32) -> Result<DestinationPage> {
        on_session!(self.sessions, |db| outbox::destinations(&db, None, after, limit))
    }

    fn hints(&self) -> broadcast::Receiver<Hint> {
        self.hints.subscribe()
    }
}

#[async_trait]
impl Registry for Postgres {
    async fn register(&self, new: Vec<NewRegistration>) -> Result<Vec<Registered>> {
        let mut hints = Vec::new();
        let done = on_session!(self.sessions, |db| register::register(&db, &new, &mut hints))?;
        self.hints.tell(hints);
        Ok(done)
    }

    async fn find(&self, id: &str) -> Result<Option<Registration>> {
        on_session!(self.sessions, |db| inspect::find(&db, id))
    }

    async fn list(&self, filter: &Filter, before: Option<&str>, limit: u32) -> Result<Listed> {
        on_session!(self.sessions, |db| inspect::list(&db, filter, before, limit))
    }

    async fn cancel(&self, id: &str, now: Timestamp) -> Result<Option<Registration>> {
        let mut hints = Vec::new();
        let done = on_session!(self.sessions, |db| calling_off::cancel(&db, id, now, &mut hints))?;
        self.hints.tell(hints);
        Ok(done)
    }

    async fn attempts(&self, id: &str) -> Result<Vec<Attempt>> {
        on_session!(self.sessions, |db| inspect::attempts(&db, id))
    }

    async fn redeliver(&self, id: &str, now: Timestamp) -> Result<Option<Registration>> {
        let mut hints = Vec::new();
        let done = on_session!(self.sessions, |db| outbox::redeliver(&db, id, now, &mut hints))?;
        self.hints.tell(hints);
        Ok(done)
    }

    async fn outcomes(
        &self,
        client: &str,
        after: u64,
        limit: u32,
    ) -> Result<Vec<(u64, Registration)>> {
        on_session!(self.sessions, |db| inspect::outcomes(&db, client, after, limit))
    }

    async fn counts(&self) -> Result<Vec<(State, u64)>> {
        on_session!(self.work, |db| inspect::counts(&db))
    }

    async fn begin_redelivery(&self, new: NewRedelivery) -> Result<Redelivery> {
        let matched = redelivery::count(&self.sessions, &new.filter).await?;
        let begun = on_session!(self.sessions, |db| redelivery::begin(&db, &new, matched))?;
        begun.ok_or_else(|| StoreError::Corrupt(format!("{} vanished", new.id)))
    }

    async fn redelivery(&self, id: &str) -> Result<Option<Redelivery>> {
        on_session!(self.sessions, |db| redelivery::find(&db, id))
    }

    async fn cancel_redelivery(&self, id: &str, now: Timestamp) -> Result<Option<Redelivery>> {
        on_session!(self.sessions, |db| redelivery::cancel(&db, id, now))
    }
}

#[async_trait]
impl Lanes for Postgres {
    async fn lanes(&self) -> Result<Vec<LaneName>> {
        on_session!(self.work, |db| lanes::lanes(&db))
    }

    async fn take(&self, lane: &LaneName, _now: Timestamp) -> Result<TakenLane> {
        on_session!(self.work, |db| lanes::take(&db, lane))
    }

    async fn watched(&self, lease: &Lease, version: u64, limit: u32) -> Result<Vec<Change>> {
        on_session!(self.work, |db| lanes::watched(&db, *lease, version, limit))
    }

    async fn changes(&self, lease: &Lease, version: u64, limit: u32) -> Result<Vec<Change>> {
        on_session!(self.work, |db| lanes::changes(&db, *lease, version, limit))
    }

    async fn checkpoint(&self, lease: &Lease, checkpoint: Checkpoint) -> Result<()> {
        on_session!(self.work, |db| lanes::checkpoint(&db, *lease, &checkpoint))
    }

    async fn settle(&self, lease: &Lease, ending: Ending, outcome: Outcome) -> Result<()> {
        let mut hints = Vec::new();
        on_session!(self.work, |db| ending::settle(&db, *lease, &ending, &outcome, &mut hints))?;
        self.hints.tell(hints);
        Ok(())
    }

    async fn give_up(
        &self,
        lease: &Lease,
        ending: Ending,
        outcome: Outcome,
    ) -> Result<Option<Timestamp>> {
        let mut hints = Vec::new();
        let next = on_session!(self.work, |db| ending::give_up(
            &db, *lease, &ending, &outcome, &mut hints
        ))?;
        self.hints.tell(hints);
        Ok(next)
    }
}

#[async_trait]
impl Outbox for Postgres {
    async fn destinations(&self, after: &DestinationPlace, limit: u32) -> Result<DestinationPage> {
        let me = self.me();
        on_session!(self.work, |db| outbox::destinations(&db, me, after, limit))
    }

    async fn due(&self, to: &Destination, now: Timestamp, limit: u32) -> Result<Vec<Delivery>> {
        let me = self.me();
        on_session!(self.work, |db| outbox::due(&db, to, now, limit, me))
    }

    async fn asked(&self, now: Timestamp, limit: u32) -> Result<Vec<Delivery>> {
        let me = self.me();
        on_session!(self.work, |db| outbox::asked(&db, now, limit, me))
    }

    async fn reschedule(&self, under_way: &[Delivery], at: Timestamp) -> Result<()> {
        on_session!(self.work, |db| outbox::reschedule(&db, under_way, at))
    }

    async fn record_attempt(
        &self,
        delivery: &Delivery,
        attempt: Attempt,
        next: Next,
    ) -> Result<bool> {
        let mut hints = Vec::new();
        let ours = on_session!(self.work, |db| outbox::record_attempt(
            &db, delivery, &attempt, next, &mut hints
        ))?;
        self.hints.tell(hints);
        Ok(ours)
    }

    async fn postpone(&self, delivery: &Delivery, until: Timestamp, error: &str) -> Result<()> {
        on_session!(self.work, |db| outbox::postpone(&db, delivery, until, error))
    }

    async fn end_gone(
        &self,
        client: &str,
        callback_url: &str,
        now: Timestamp,
        limit: u32,
    ) -> Result<u32> {
        let mut hints = Vec::new();
        let ended = on_session!(self.work, |db| gone::end(
            &db,
            client,
            callback_url,
            now,
            limit,
            &mut hints
        ))?;
        self.hints.tell(hints);
        Ok(ended)
    }

    async fn callback_accepts(&self, client: &str, callback_url: &str) -> Result<()> {
        on_session!(self.sessions, |db| gone::unmark(&db, client, callback_url))
    }

    async fn step_redelivery(
        &self,
        passed_by: &[String],
        limit: u32,
        now: Timestamp,
    ) -> Result<Option<RedeliveryStep>> {
        let mut hints = Vec::new();
        let step =
            on_session!(self.work, |db| redelivery::step(&db, passed_by, limit, now, &mut hints))?;
        self.hints.tell(hints);
        Ok(step)
    }
}
