//! The real store, behind a door that takes time, refuses, forgets to answer, and lets its caller
//! die before and after everything it does. With several daemons it judges leases as a shared
//! database does; epochs are left to the store.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use outcomed::clock::Timestamp;
use outcomed::outcome::Outcome;
use outcomed::store::sqlite::Sqlite;
use outcomed::store::{
    AppTicket, Attempt, Change, Checkpoint, Delivery, Destination, DestinationPage,
    DestinationPlace, Ending, Filter, Hint, Lanes, Lease, Listed, NewRedelivery, NewRegistration,
    NewRewatch, Next, Notice, Old, Outbox, Redelivery, RedeliveryStep, Registered, Registry,
    Result, Rewatch, RewatchPage, Rewatches, Store, StoreError, TakenLane,
};
use outcomed::task::{LaneName, Registration, State};
use tokio::sync::broadcast;

use super::world::Shared;

/// The open database, which a daemon that is alone closes when it dies.
pub type Disk = Arc<Mutex<Option<Arc<Sqlite>>>>;

pub const ALL: u32 = 100_000;

/// The store as one simulated daemon has it.
pub struct Door {
    disk: Disk,
    world: Shared,
    node: usize,
    hints: broadcast::Sender<Hint>,
}

impl Door {
    /// To be called on the daemon's runtime.
    pub fn new(disk: &Disk, world: &Shared, node: usize) -> Arc<Self> {
        let door = Self {
            disk: Arc::clone(disk),
            world: world.clone(),
            node,
            hints: broadcast::channel(4096).0,
        };
        if let Some(store) = door.store() {
            let (mut heard, told, world) = (store.hints(), door.hints.clone(), world.clone());
            tokio::spawn(async move {
                while let Ok(hint) = heard.recv().await {
                    // A daemon that is alone hears itself.
                    let lost = world.fault(|faults| faults.hints_lost, 0.2);
                    if !lost || world.lock().daemons == 1 {
                        let _ = told.send(hint);
                    }
                }
            });
        }
        Arc::new(door)
    }

    pub fn store(&self) -> Option<Arc<Sqlite>> {
        self.disk.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn now(&self) -> i64 {
        self.world.lock().now_of(self.node)
    }

    /// Tells this daemon alone.
    pub fn hint(&self, hint: Hint) {
        let _ = self.hints.send(hint);
    }

    async fn until(&self, at: i64) {
        let wait = u64::try_from(at - self.now()).unwrap_or(0);
        if wait > 0 {
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
    }

    async fn takes_time(&self) {
        if self.world.fault(|faults| faults.store_slow, 0.05) {
            self.world.delay(500, 4_000).await;
        } else if self.world.fault(|faults| faults.store_slow, 0.9) {
            self.world.delay(1, 100).await;
        }
    }

    /// The way in. What is shared happens in the order of the world's time.
    pub async fn enter(&self, verb: &str) -> Result<Arc<Sqlite>> {
        self.world.effect(self.node).await;
        self.takes_time().await;
        loop {
            let (stalled, last) = {
                let world = self.world.lock();
                (world.store_stalls_until, world.store_at)
            };
            let now = self.now();
            if now >= stalled && now >= last {
                break;
            }
            self.until(stalled.max(last)).await;
        }
        if self.now() < self.world.lock().cut_off_until[self.node] {
            self.world.delay(500, 3_000).await;
            return Err(StoreError::Unavailable(format!("{verb}: no route to the store")));
        }
        if self.world.fault(|faults| faults.store_refuses, 0.04) {
            return Err(StoreError::Unavailable(format!("{verb}: database or disk is full")));
        }
        let now = self.now();
        self.world.lock().store_at = now;
        self.store().ok_or_else(|| StoreError::Unavailable(format!("{verb}: not open")))
    }

    /// The way out: the answer may be late, or lost.
    pub async fn leave<T>(&self, verb: &str, result: Result<T>) -> Result<T> {
        self.world.effect(self.node).await;
        self.takes_time().await;
        if self.now() < self.world.lock().cut_off_until[self.node]
            || result.is_ok() && self.world.fault(|faults| faults.store_lies, 0.03)
        {
            self.world
                .node_tells(self.node, format_args!("{verb}: stored, but the answer is lost"));
            return Err(StoreError::Unavailable(format!("{verb}: the answer was lost")));
        }
        result
    }

    fn tells(&self, line: std::fmt::Arguments<'_>) {
        self.world.node_tells(self.node, line);
    }

    fn shared(&self) -> bool {
        self.world.lock().daemons > 1
    }

    /// What a shared database says to a write of a lane whose owner has expired.
    fn judge(&self, lease: Lease) -> Result<()> {
        let now = self.now();
        let good = self.world.lock().leases.is_owned_by_the_living(lease.lane, now);
        if !self.shared() || good { Ok(()) } else { Err(StoreError::LeaseLost) }
    }

    /// A write of a lane's state was accepted: it must have been the owner's.
    fn accepted<T>(&self, verb: &str, lease: Lease, result: &Result<T>) {
        if result.is_err() || !self.shared() {
            return;
        }
        let (now, node) = (self.now(), self.node);
        let holder = {
            let world = self.world.lock();
            world.leases.account(lease.lane).and_then(|name| world.leases.holder(&name, now))
        };
        if holder != Some(node) {
            self.world.violated(format!(
                "{verb} of d{node} under {lease:?} was accepted, but the lane is {holder:?}'s"
            ));
        }
    }

    /// A delivery belongs to the daemon that holds its lane.
    fn is_mine(&self, delivery: &Delivery) -> bool {
        let (now, node) = (self.now(), self.node);
        let leases = &self.world.lock().leases;
        let account = leases.account(delivery.lane);
        account.is_some_and(|account| leases.holder(&account, now) == Some(node))
    }
}

/// In, the verb, and out.
macro_rules! through {
    ($self:ident.$verb:ident($($argument:expr),*)) => {{
        let store = $self.enter(stringify!($verb)).await?;
        let result = store.$verb($($argument),*).await;
        drop(store);
        $self.leave(stringify!($verb), result).await
    }};
}

/// The same for a write of a lane's state.
macro_rules! fenced {
    ($self:ident.$verb:ident($lease:ident $(, $argument:expr)*)) => {{
        let store = $self.enter(stringify!($verb)).await?;
        $self.tells(format_args!("{} of lane {}", stringify!($verb), $lease.lane));
        $self.judge(*$lease)?;
        let result = store.$verb($lease $(, $argument)*).await;
        drop(store);
        $self.accepted(stringify!($verb), *$lease, &result);
        result
    }};
}

#[async_trait]
impl Store for Door {
    async fn ping(&self, now: Timestamp) -> Result<()> {
        through!(self.ping(now))
    }
    async fn forget(&self, what: Old, before: Timestamp, limit: u32) -> Result<u32> {
        through!(self.forget(what, before, limit))
    }
    async fn notices(&self) -> Result<Vec<Notice>> {
        through!(self.notices())
    }
    async fn keep_notice(&self, notice: &Notice) -> Result<()> {
        through!(self.keep_notice(notice))
    }
    async fn prune(&self, ended_before: Timestamp, limit: u32) -> Result<u32> {
        through!(self.prune(ended_before, limit))
    }
    async fn keep_ticket(&self, ticket: &AppTicket) -> Result<()> {
        through!(self.keep_ticket(ticket))
    }
    async fn tickets(&self) -> Result<Vec<AppTicket>> {
        through!(self.tickets())
    }
    fn hints(&self) -> broadcast::Receiver<Hint> {
        self.hints.subscribe()
    }
}

#[async_trait]
impl Registry for Door {
    async fn register(&self, new: Vec<NewRegistration>) -> Result<Vec<Registered>> {
        through!(self.register(new))
    }
    async fn find(&self, id: &str) -> Result<Option<Registration>> {
        through!(self.find(id))
    }
    async fn list(&self, f: &Filter, before: Option<&str>, limit: u32) -> Result<Listed> {
        through!(self.list(f, before, limit))
    }
    async fn cancel(&self, id: &str, now: Timestamp) -> Result<Option<Registration>> {
        through!(self.cancel(id, now))
    }
    async fn attempts(&self, id: &str) -> Result<Vec<Attempt>> {
        through!(self.attempts(id))
    }
    async fn redeliver(&self, id: &str, now: Timestamp) -> Result<Option<Registration>> {
        through!(self.redeliver(id, now))
    }
    async fn outcomes(&self, c: &str, after: u64, limit: u32) -> Result<Vec<(u64, Registration)>> {
        through!(self.outcomes(c, after, limit))
    }
    async fn counts(&self) -> Result<Vec<(State, u64)>> {
        through!(self.counts())
    }
    async fn begin_redelivery(&self, new: NewRedelivery) -> Result<Redelivery> {
        through!(self.begin_redelivery(new))
    }
    async fn redelivery(&self, id: &str) -> Result<Option<Redelivery>> {
        through!(self.redelivery(id))
    }
    async fn cancel_redelivery(&self, id: &str, now: Timestamp) -> Result<Option<Redelivery>> {
        through!(self.cancel_redelivery(id, now))
    }
}

#[async_trait]
impl Lanes for Door {
    async fn lanes(&self) -> Result<Vec<LaneName>> {
        through!(self.lanes())
    }
    async fn take(&self, lane: &LaneName, now: Timestamp) -> Result<TakenLane> {
        through!(self.take(lane, now))
    }
    async fn watched(&self, lease: &Lease, version: u64, limit: u32) -> Result<Vec<Change>> {
        through!(self.watched(lease, version, limit))
    }
    async fn changes(&self, lease: &Lease, version: u64, limit: u32) -> Result<Vec<Change>> {
        through!(self.changes(lease, version, limit))
    }
    async fn checkpoint(&self, lease: &Lease, checkpoint: Checkpoint) -> Result<()> {
        let reserves = checkpoint.reservations.is_some();
        let result = fenced!(self.checkpoint(lease, checkpoint));
        if result.is_ok() && reserves {
            let now = self.now();
            self.world.lock().leases.reserved.insert(lease.lane, now);
        }
        self.leave("checkpoint", result).await
    }
    async fn settle(&self, lease: &Lease, ending: Ending, outcome: Outcome) -> Result<()> {
        let task = outcome.delivery.as_ref().and_then(|ids| ids.application_id.clone());
        let result = fenced!(self.settle(lease, ending, outcome));
        if let (Ok(()), Some(task)) = (&result, task) {
            let now = self.now();
            self.world.lock().settled.entry(task).or_insert(now);
        }
        self.leave("settle", result).await
    }
    async fn give_up(
        &self,
        lease: &Lease,
        ending: Ending,
        outcome: Outcome,
    ) -> Result<Option<Timestamp>> {
        let result = fenced!(self.give_up(lease, ending, outcome));
        self.leave("give_up", result).await
    }
}

#[async_trait]
impl Outbox for Door {
    async fn destinations(&self, after: &DestinationPlace, limit: u32) -> Result<DestinationPage> {
        let store = self.enter("destinations").await?;
        let mut page = store.destinations(after, limit).await?;
        if self.shared() {
            let mut mine = Vec::new();
            for (to, _) in page.found {
                let rows = store.due(&to, Timestamp(i64::MAX), ALL).await?;
                let rows = rows.iter().filter(|row| self.is_mine(row));
                if let Some(at) = rows.map(|row| row.due_at).min() {
                    mine.push((to, at));
                }
            }
            page.found = mine;
        }
        drop(store);
        self.leave("destinations", Ok(page)).await
    }
    async fn due(&self, to: &Destination, now: Timestamp, limit: u32) -> Result<Vec<Delivery>> {
        let store = self.enter("due").await?;
        let mut rows = store.due(to, now, if self.shared() { ALL } else { limit }).await?;
        if self.shared() {
            rows.retain(|row| self.is_mine(row));
            rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        }
        drop(store);
        self.leave("due", Ok(rows)).await
    }
    async fn asked(&self, now: Timestamp, limit: u32) -> Result<Vec<Delivery>> {
        let store = self.enter("asked").await?;
        let mut rows = store.asked(now, if self.shared() { ALL } else { limit }).await?;
        rows.retain(|row| !self.shared() || self.is_mine(row));
        drop(store);
        self.leave("asked", Ok(rows)).await
    }
    async fn reschedule(&self, under_way: &[Delivery], at: Timestamp) -> Result<()> {
        through!(self.reschedule(under_way, at))
    }
    async fn record_attempt(&self, d: &Delivery, attempt: Attempt, next: Next) -> Result<bool> {
        through!(self.record_attempt(d, attempt, next))
    }
    async fn postpone(&self, delivery: &Delivery, until: Timestamp, error: &str) -> Result<()> {
        through!(self.postpone(delivery, until, error))
    }
    async fn step_redelivery(
        &self,
        passed_by: &[String],
        limit: u32,
        now: Timestamp,
    ) -> Result<Option<RedeliveryStep>> {
        through!(self.step_redelivery(passed_by, limit, now))
    }
    async fn end_gone(&self, client: &str, url: &str, now: Timestamp, limit: u32) -> Result<u32> {
        through!(self.end_gone(client, url, now, limit))
    }
    async fn callback_accepts(&self, client: &str, url: &str) -> Result<()> {
        through!(self.callback_accepts(client, url))
    }
}

#[async_trait]
impl Rewatches for Door {
    async fn begin_rewatch(&self, new: NewRewatch) -> Result<Option<Rewatch>> {
        through!(self.begin_rewatch(new))
    }
    async fn rewatch(&self, id: &str) -> Result<Option<Rewatch>> {
        through!(self.rewatch(id))
    }
    async fn cancel_rewatch(&self, id: &str, now: Timestamp) -> Result<Option<Rewatch>> {
        through!(self.cancel_rewatch(id, now))
    }
    async fn rewatch_page(&self, limit: u32, now: Timestamp) -> Result<Option<RewatchPage>> {
        through!(self.rewatch_page(limit, now))
    }
    async fn rewatched(&self, page: &RewatchPage, done: u32, now: Timestamp) -> Result<()> {
        through!(self.rewatched(page, done, now))
    }
}
