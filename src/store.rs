//! The seam behind which everything durable lives.
//!
//! Three small views of one store: [`Registry`] for clients, [`Lanes`] for polling, [`Outbox`] for
//! delivery. Promises, held by one conformance suite for every database:
//! - a verb that changes something returns only once the change is durable;
//! - time is a parameter;
//! - an outcome and the deliveries it makes due are one commit;
//! - a record for a row that is no longer ours changes nothing and says so.

mod attempt;
pub mod fleet;
mod lane;
mod listing;
pub mod migration;
mod notice;
mod outbox;
pub mod postgres;
mod redelivery;
pub mod rewatch;
pub mod sqlite;
mod ticket;

pub use attempt::{ATTEMPTS_MAX, Attempt, AttemptDetails};
pub use lane::{Boot, Change, Checkpoint, Ending, Lease, Progress, Reservation, TakenLane, Watch};
pub use listing::{Filter, LOOKED_AT_MAX, Listed};
pub use notice::Notice;
pub use outbox::{
    CALLBACK_GONE, DESTINATIONS_STEP, Delivery, Destination, DestinationPage, DestinationPlace,
    Next, Outbox, walk,
};
pub use redelivery::{
    MATCHED_MAX, NewRedelivery, Redelivery, RedeliveryFilter, RedeliveryState, RedeliveryStep,
    STEP_LOOKED_AT_MAX,
};
pub use rewatch::{NewRewatch, Rewatch, RewatchFilter, RewatchPage, Rewatches, Unresolved};
pub use ticket::AppTicket;

use async_trait::async_trait;
use tokio::sync::broadcast;

use crate::clock::Timestamp;
use crate::outcome::Outcome;
use crate::task::{LaneName, Registration, State, TaskRef};

/// Why the store could not do it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Busy, full or away: nothing changed, try again.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// It takes nothing any more, however often it is asked: only a restart helps.
    #[error("the store has stopped: {0}")]
    Stopped(&'static str),
    /// A bug of ours: this call changed nothing, and would fail again.
    #[error("a fault in outcomed's store: {0}")]
    Fault(String),
    /// The lane belongs to somebody else now: nothing changed, stop.
    #[error("the lane's lease is lost")]
    LeaseLost,
    /// What is stored cannot be understood.
    #[error("the store holds something unreadable: {0}")]
    Corrupt(String),
}

/// The result of every verb.
pub type Result<T> = std::result::Result<T, StoreError>;

/// All views, and what keeps them together.
#[async_trait]
pub trait Store: Registry + Lanes + Outbox + Rewatches {
    /// Proves that a registration could be stored durably, by a small durable write.
    async fn ping(&self, now: Timestamp) -> Result<()>;

    /// Forgets at most `limit` finished registrations that ended before `ended_before`, and the
    /// tasks nobody refers to any more. Returns how many registrations went.
    async fn prune(&self, ended_before: Timestamp, limit: u32) -> Result<u32>;

    /// Forgets at most `limit` of what has become old at its own pace, the oldest first. Returns
    /// how many went.
    async fn forget(&self, what: Old, before: Timestamp, limit: u32) -> Result<u32>;

    /// Every notice, by client and subject. There are few: one for each incident that lasts.
    async fn notices(&self) -> Result<Vec<Notice>>;

    /// Stores a notice in the place of the one about the same subject to the same client; one that
    /// [is over](Notice::is_over) is dropped. Of two that say the same under different ids the
    /// first stands: an incident that several daemons see is told once.
    async fn keep_notice(&self, notice: &Notice) -> Result<()>;

    /// Keeps a store app's ticket, unless a newer one is kept. Every daemon of a fleet has it then.
    async fn keep_ticket(&self, ticket: &AppTicket) -> Result<()>;

    /// The tickets that are kept, by app.
    async fn tickets(&self) -> Result<Vec<AppTicket>>;

    /// The same as [`Outbox::destinations`], whichever daemon's the deliveries are.
    async fn backlog(&self, after: &DestinationPlace, limit: u32) -> Result<DestinationPage> {
        self.destinations(after, limit).await
    }

    /// What just changed. Only ever shortens a wait: the rows are the truth.
    fn hints(&self) -> broadcast::Receiver<Hint>;
}

/// What [`Store::forget`] forgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Old {
    /// Registrations that have been undeliverable since before then, with their attempts, and the
    /// tasks nobody refers to any more.
    Undeliverable,
    /// Entries of the attempt log that began before then, whatever became of their registrations.
    Attempts,
    /// Bulk redeliveries that were over before then.
    Redeliveries,
    /// Which callback URLs were gone already before then: the next attempt there finds out anew.
    GoneCallbacks,
    /// Bulk rewatches that were over before then.
    Rewatches,
}

/// What just changed.
#[derive(Clone, Debug)]
pub enum Hint {
    /// A lane has tasks that are new, or no longer waited for.
    Watch(LaneName),
    /// A registration has its outcome.
    Outcome {
        /// Which.
        registration_id: String,
    },
    /// A delivery became due.
    Due(Destination),
    /// A person asked for a delivery to be sent again.
    Asked,
}

// ---- clients ---------------------------------------------------------------------------------

/// What clients ask of the store.
#[async_trait]
pub trait Registry: Send + Sync {
    /// Stores registrations, all in one commit, answering in order. One that repeats an earlier
    /// one (same client, task and callback, neither cancelled nor unresolved) returns that one. One
    /// whose task has a final outcome already is due for delivery at once. A task that nobody
    /// waited for is watched from the start.
    async fn register(&self, new: Vec<NewRegistration>) -> Result<Vec<Registered>>;

    /// One registration.
    async fn find(&self, id: &str) -> Result<Option<Registration>>;

    /// Registrations that match, newest first, at most `limit`, older than the id `before`. At most
    /// [`LOOKED_AT_MAX`] are looked at: a page that is not full may say where to go on.
    async fn list(&self, filter: &Filter, before: Option<&str>, limit: u32) -> Result<Listed>;

    /// Calls a registration off. One that is over already stays as it is. `None`: no such one.
    async fn cancel(&self, id: &str, now: Timestamp) -> Result<Option<Registration>>;

    /// Every attempt of a registration, oldest first; of more than [`ATTEMPTS_MAX`] the newest.
    async fn attempts(&self, id: &str) -> Result<Vec<Attempt>>;

    /// Makes one registration with an outcome due again from the start of the schedule, and
    /// [asked for](Outbox::asked): it goes out at once. Returns
    /// it as it then is; one without an outcome, or cancelled, stays as it is. `None`: no such one.
    async fn redeliver(&self, id: &str, now: Timestamp) -> Result<Option<Registration>>;

    /// A client's registrations that have an outcome, in the order in which it was stored, after
    /// position `after`.
    async fn outcomes(
        &self,
        client: &str,
        after: u64,
        limit: u32,
    ) -> Result<Vec<(u64, Registration)>>;

    /// How many registrations stand in each state, counted as they come and go.
    async fn counts(&self) -> Result<Vec<(State, u64)>>;

    /// Stores a bulk redelivery, running, with the number of registrations that fit its filter,
    /// counted a page at a time up to [`MATCHED_MAX`].
    async fn begin_redelivery(&self, new: NewRedelivery) -> Result<Redelivery>;

    /// One bulk redelivery.
    async fn redelivery(&self, id: &str) -> Result<Option<Redelivery>>;

    /// Calls a bulk redelivery off. One that is over stays as it is. `None`: no such one.
    async fn cancel_redelivery(&self, id: &str, now: Timestamp) -> Result<Option<Redelivery>>;
}

/// A registration to be stored.
#[derive(Clone, Debug)]
pub struct NewRegistration {
    /// `reg_…`, chosen by the caller.
    pub id: String,
    /// Who registers.
    pub client: String,
    /// What is waited for.
    pub task: TaskRef,
    /// Where to tell.
    pub callback_url: String,
    /// The callback's `scheme://host:port`, by which deliveries are isolated from each other.
    pub callback_origin: String,
    /// The callback's host, by which people filter.
    pub callback_host: String,
    /// The client's JSON object, as text.
    pub metadata: String,
    /// Now.
    pub created_at: Timestamp,
    /// When to stop waiting.
    pub give_up_at: Timestamp,
}

/// What became of a registration request.
#[derive(Clone, Debug)]
pub enum Registered {
    /// It is stored.
    New(Registration),
    /// It was there before.
    Existing(Registration),
}

// ---- polling ---------------------------------------------------------------------------------

/// What polling asks of the store.
#[async_trait]
pub trait Lanes: Send + Sync {
    /// The lanes that have tasks to watch.
    async fn lanes(&self) -> Result<Vec<LaneName>>;

    /// Takes a lane (making it if need be): from now on writes under older leases are refused.
    async fn take(&self, lane: &LaneName, now: Timestamp) -> Result<TakenLane>;

    /// A page of the lane's watched tasks, in the order of their versions, after `version`, at most
    /// `limit`. A first load reads them all, then what [changed](Lanes::changes) since the version
    /// at which it [took](TakenLane::version) the lane: what changes while it loads is among those.
    async fn watched(&self, lease: &Lease, version: u64, limit: u32) -> Result<Vec<Change>> {
        self.changes(lease, version, limit).await
    }

    /// The lane's tasks that changed after `version`, in order of change, at most `limit`:
    /// watched ones and, unless `version` is 0, those nobody waits for any more.
    async fn changes(&self, lease: &Lease, version: u64, limit: u32) -> Result<Vec<Change>>;

    /// Writes down what a lane must not forget.
    async fn checkpoint(&self, lease: &Lease, checkpoint: Checkpoint) -> Result<()>;

    /// Stores a task's outcome and makes its deliveries due, in one commit. An unresolved one is
    /// the registrations' alone: the task is watched again once somebody registers it again.
    async fn settle(&self, lease: &Lease, ending: Ending, outcome: Outcome) -> Result<()>;

    /// Stores this outcome for the task's registrations whose time is over at `ending.at`.
    /// Returns when the next of the others gives up, or `None` if nobody waits any more.
    async fn give_up(
        &self,
        lease: &Lease,
        ending: Ending,
        outcome: Outcome,
    ) -> Result<Option<Timestamp>>;
}
