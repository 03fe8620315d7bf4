//! The real store, with a chance to die before and after everything it does, and to refuse.

use std::sync::Arc;

use async_trait::async_trait;
use outcomed::clock::Timestamp;
use outcomed::outcome::Outcome;
use outcomed::store::sqlite::Sqlite;
use outcomed::store::{
    AppTicket, Attempt, Change, Checkpoint, Delivery, Destination, Ending, Filter, Hint, Lanes,
    Lease, Listed, NewRedelivery, NewRegistration, NewRewatch, Next, Notice, Old, Outbox,
    Redelivery, RedeliveryStep, Registered, Registry, Result, Rewatch, RewatchPage, Rewatches,
    Store, StoreError, TakenLane,
};
use outcomed::task::{LaneName, Registration, State};
use tokio::sync::broadcast;

use super::world::Shared;

/// The store as the simulated daemon has it.
pub struct Mortal {
    pub inner: Arc<Sqlite>,
    pub world: Shared,
}

impl Mortal {
    async fn before(&self) -> Result<()> {
        self.world.effect().await;
        if self.world.chance(0.02) {
            return Err(StoreError::Unavailable("database or disk is full".into()));
        }
        Ok(())
    }
}

/// `self.before()?`, the verb, the other chance to die.
macro_rules! mortally {
    ($self:ident.$verb:ident($($argument:expr),*)) => {{
        $self.before().await?;
        let result = $self.inner.$verb($($argument),*).await;
        $self.world.effect().await;
        result
    }};
}

#[async_trait]
impl Store for Mortal {
    async fn ping(&self, now: Timestamp) -> Result<()> {
        mortally!(self.ping(now))
    }
    async fn forget(&self, what: Old, before: Timestamp, limit: u32) -> Result<u32> {
        mortally!(self.forget(what, before, limit))
    }
    async fn notices(&self) -> Result<Vec<Notice>> {
        mortally!(self.notices())
    }
    async fn keep_notice(&self, notice: &Notice) -> Result<()> {
        mortally!(self.keep_notice(notice))
    }
    async fn keep_ticket(&self, ticket: &AppTicket) -> Result<()> {
        mortally!(self.keep_ticket(ticket))
    }
    async fn tickets(&self) -> Result<Vec<AppTicket>> {
        mortally!(self.tickets())
    }
    async fn prune(&self, ended_before: Timestamp, limit: u32) -> Result<u32> {
        mortally!(self.prune(ended_before, limit))
    }
    fn hints(&self) -> broadcast::Receiver<Hint> {
        self.inner.hints()
    }
}

#[async_trait]
impl Registry for Mortal {
    async fn register(&self, new: Vec<NewRegistration>) -> Result<Vec<Registered>> {
        mortally!(self.register(new))
    }
    async fn find(&self, id: &str) -> Result<Option<Registration>> {
        mortally!(self.find(id))
    }
    async fn list(&self, f: &Filter, before: Option<&str>, limit: u32) -> Result<Listed> {
        mortally!(self.list(f, before, limit))
    }
    async fn cancel(&self, id: &str, now: Timestamp) -> Result<Option<Registration>> {
        mortally!(self.cancel(id, now))
    }
    async fn attempts(&self, id: &str) -> Result<Vec<Attempt>> {
        mortally!(self.attempts(id))
    }
    async fn redeliver(&self, id: &str, now: Timestamp) -> Result<Option<Registration>> {
        mortally!(self.redeliver(id, now))
    }
    async fn outcomes(&self, c: &str, after: u64, limit: u32) -> Result<Vec<(u64, Registration)>> {
        mortally!(self.outcomes(c, after, limit))
    }
    async fn counts(&self) -> Result<Vec<(State, u64)>> {
        mortally!(self.counts())
    }
    async fn begin_redelivery(&self, new: NewRedelivery) -> Result<Redelivery> {
        mortally!(self.begin_redelivery(new))
    }
    async fn redelivery(&self, id: &str) -> Result<Option<Redelivery>> {
        mortally!(self.redelivery(id))
    }
    async fn cancel_redelivery(&self, id: &str, now: Timestamp) -> Result<Option<Redelivery>> {
        mortally!(self.cancel_redelivery(id, now))
    }
}

#[async_trait]
impl Lanes for Mortal {
    async fn lanes(&self) -> Result<Vec<LaneName>> {
        mortally!(self.lanes())
    }
    async fn take(&self, lane: &LaneName, now: Timestamp) -> Result<TakenLane> {
        mortally!(self.take(lane, now))
    }
    async fn watched(&self, lease: &Lease, version: u64, limit: u32) -> Result<Vec<Change>> {
        mortally!(self.watched(lease, version, limit))
    }
    async fn changes(&self, lease: &Lease, version: u64, limit: u32) -> Result<Vec<Change>> {
        mortally!(self.changes(lease, version, limit))
    }
    async fn checkpoint(&self, lease: &Lease, checkpoint: Checkpoint) -> Result<()> {
        mortally!(self.checkpoint(lease, checkpoint))
    }
    async fn settle(&self, lease: &Lease, ending: Ending, outcome: Outcome) -> Result<()> {
        self.before().await?;
        let task = outcome.delivery.as_ref().and_then(|ids| ids.application_id.clone());
        let result = self.inner.settle(lease, ending, outcome).await;
        if let (Ok(()), Some(task)) = (&result, task) {
            self.world.lock().settled.insert(task);
        }
        self.world.effect().await;
        result
    }
    async fn give_up(
        &self,
        lease: &Lease,
        ending: Ending,
        outcome: Outcome,
    ) -> Result<Option<Timestamp>> {
        mortally!(self.give_up(lease, ending, outcome))
    }
}

#[async_trait]
impl Outbox for Mortal {
    async fn destinations(&self) -> Result<Vec<(Destination, Timestamp)>> {
        mortally!(self.destinations())
    }
    async fn due(&self, to: &Destination, now: Timestamp, limit: u32) -> Result<Vec<Delivery>> {
        mortally!(self.due(to, now, limit))
    }
    async fn asked(&self, now: Timestamp, limit: u32) -> Result<Vec<Delivery>> {
        mortally!(self.asked(now, limit))
    }
    async fn reschedule(&self, under_way: &[Delivery], at: Timestamp) -> Result<()> {
        mortally!(self.reschedule(under_way, at))
    }
    async fn record_attempt(&self, d: &Delivery, attempt: Attempt, next: Next) -> Result<bool> {
        mortally!(self.record_attempt(d, attempt, next))
    }
    async fn postpone(&self, delivery: &Delivery, until: Timestamp, error: &str) -> Result<()> {
        mortally!(self.postpone(delivery, until, error))
    }
    async fn step_redelivery(
        &self,
        passed_by: &[String],
        limit: u32,
        now: Timestamp,
    ) -> Result<Option<RedeliveryStep>> {
        mortally!(self.step_redelivery(passed_by, limit, now))
    }
    async fn end_gone(&self, client: &str, url: &str, now: Timestamp, limit: u32) -> Result<u32> {
        mortally!(self.end_gone(client, url, now, limit))
    }
    async fn callback_accepts(&self, client: &str, url: &str) -> Result<()> {
        mortally!(self.callback_accepts(client, url))
    }
}

#[async_trait]
impl Rewatches for Mortal {
    async fn begin_rewatch(&self, new: NewRewatch) -> Result<Option<Rewatch>> {
        mortally!(self.begin_rewatch(new))
    }
    async fn rewatch(&self, id: &str) -> Result<Option<Rewatch>> {
        mortally!(self.rewatch(id))
    }
    async fn cancel_rewatch(&self, id: &str, now: Timestamp) -> Result<Option<Rewatch>> {
        mortally!(self.cancel_rewatch(id, now))
    }
    async fn rewatch_page(&self, limit: u32, now: Timestamp) -> Result<Option<RewatchPage>> {
        mortally!(self.rewatch_page(limit, now))
    }
    async fn rewatched(&self, page: &RewatchPage, done: u32, now: Timestamp) -> Result<()> {
        mortally!(self.rewatched(page, done, now))
    }
}
