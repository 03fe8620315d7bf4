//! A store in memory, for the API's tests: what the conformance suite asks of `Registry`, and as
//! much of the rest as it takes to settle a task and to attempt a delivery.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use outcomed::clock::Timestamp;
use outcomed::outcome::Outcome;
use outcomed::store::{
    AppTicket, Attempt, Change, Checkpoint, Delivery, Destination, DestinationPage,
    DestinationPlace, Ending, Filter, Hint, Lanes, Lease, Listed, NewRedelivery, NewRegistration,
    NewRewatch, Next, Notice, Old, Outbox, Redelivery, RedeliveryState, RedeliveryStep, Registered,
    Registry, Result, Rewatch, RewatchPage, Rewatches, Store, StoreError, TakenLane, Watch,
};
use outcomed::task::{DeliveryState, LaneName, Registration, State, TaskId, TaskRef};
use tokio::sync::broadcast;

use crate::rows::Rows;

pub(crate) struct MemoryStore {
    rows: Mutex<Rows>,
    hints: broadcast::Sender<Hint>,
    /// Every verb fails.
    pub(crate) away: AtomicBool,
    /// No verb returns.
    pub(crate) hung: AtomicBool,
    /// Hints are lost.
    pub(crate) silent: AtomicBool,
}

impl MemoryStore {
    pub(crate) fn new() -> Self {
        Self {
            rows: Mutex::default(),
            hints: broadcast::channel(64).0,
            away: AtomicBool::new(false),
            hung: AtomicBool::new(false),
            silent: AtomicBool::new(false),
        }
    }

    /// How often readiness was proved by a write.
    pub(crate) fn pings(&self) -> u32 {
        self.rows.lock().unwrap().pings
    }

    pub(crate) fn accepted(&self) -> Vec<String> {
        self.rows.lock().unwrap().accepted.clone()
    }

    /// Returns once this many listen for hints, as every long poll under way does.
    pub(crate) async fn listeners(&self, count: usize) {
        while self.hints.receiver_count() < count {
            tokio::task::yield_now().await;
        }
    }

    async fn with<T>(&self, work: impl FnOnce(&mut Rows) -> T) -> Result<T> {
        if self.hung.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if self.away.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable("switched off by the test".into()));
        }
        Ok(work(&mut self.rows.lock().unwrap()))
    }

    fn hint(&self, hint: Hint) {
        if !self.silent.load(Ordering::Relaxed) {
            let _ = self.hints.send(hint);
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn ping(&self, _now: Timestamp) -> Result<()> {
        self.with(|rows| rows.pings += 1).await
    }

    async fn forget(&self, _what: Old, _before: Timestamp, _limit: u32) -> Result<u32> {
        unreachable!("the API forgets nothing")
    }

    async fn notices(&self) -> Result<Vec<Notice>> {
        unreachable!("the API alerts nobody")
    }

    async fn keep_notice(&self, _notice: &Notice) -> Result<()> {
        unreachable!("the API alerts nobody")
    }

    async fn keep_ticket(&self, _ticket: &AppTicket) -> Result<()> {
        unreachable!("the API's events go to its sink")
    }

    async fn tickets(&self) -> Result<Vec<AppTicket>> {
        unreachable!("the API's events go to its sink")
    }

    async fn prune(&self, _ended_before: Timestamp, _limit: u32) -> Result<u32> {
        unreachable!("the API forgets nothing")
    }

    fn hints(&self) -> broadcast::Receiver<Hint> {
        self.hints.subscribe()
    }
}

#[async_trait]
impl Registry for MemoryStore {
    async fn register(&self, new: Vec<NewRegistration>) -> Result<Vec<Registered>> {
        self.with(|rows| new.into_iter().map(|new| rows.register(new)).collect()).await
    }

    async fn find(&self, id: &str) -> Result<Option<Registration>> {
        self.with(|rows| rows.registrations.get(id).cloned()).await
    }

    async fn list(&self, filter: &Filter, before: Option<&str>, limit: u32) -> Result<Listed> {
        let fits = |row: &&Registration| {
            let host = url::Url::parse(&row.callback.url).unwrap();
            let host = host.host_str().unwrap();
            filter.client.as_ref().is_none_or(|client| *client == row.client)
                && filter.state.is_none_or(|state| state == row.state)
                && filter.account.as_ref().is_none_or(|account| *account == row.task.account)
                && filter
                    .delivery_task_id
                    .as_ref()
                    .is_none_or(|it| *it == row.task.delivery_task_id)
                && filter.callback_host.as_ref().is_none_or(|it| it == host)
                && before.is_none_or(|before| row.id.as_str() < before)
        };
        self.with(|rows| {
            let newest_first = rows.registrations.values().rev();
            let items = newest_first.filter(fits).take(limit as usize).cloned().collect();
            Listed { items, resume: None }
        })
        .await
    }

    async fn cancel(&self, id: &str, _now: Timestamp) -> Result<Option<Registration>> {
        self.with(|rows| {
            let row = rows.registrations.get_mut(id)?;
            if row.state.may_become(State::Cancelled) {
                row.state = State::Cancelled;
                row.delivery.next_attempt_at = None;
            }
            Some(row.clone())
        })
        .await
    }

    async fn attempts(&self, id: &str) -> Result<Vec<Attempt>> {
        self.with(|rows| rows.attempts.get(id).cloned().unwrap_or_default()).await
    }

    async fn redeliver(&self, id: &str, now: Timestamp) -> Result<Option<Registration>> {
        self.with(|rows| {
            let row = rows.registrations.get_mut(id)?;
            if row.outcome.is_some() && row.state != State::Cancelled {
                row.state = State::Delivering;
                row.delivery.next_attempt_at = Some(now);
            }
            Some(row.clone())
        })
        .await
    }

    async fn outcomes(
        &self,
        client: &str,
        after: u64,
        limit: u32,
    ) -> Result<Vec<(u64, Registration)>> {
        self.with(|rows| {
            (1..)
                .zip(&rows.order)
                .map(|(position, id)| (position, rows.registrations[id].clone()))
                .filter(|(position, row)| *position > after && row.client == client)
                .take(limit as usize)
                .collect()
        })
        .await
    }

    async fn counts(&self) -> Result<Vec<(State, u64)>> {
        unreachable!("the API counts nothing")
    }

    async fn begin_redelivery(&self, new: NewRedelivery) -> Result<Redelivery> {
        self.with(|rows| {
            let filter = &new.filter;
            let fits = |row: &&Registration| {
                row.state == filter.state
                    && filter.client.as_ref().is_none_or(|it| *it == row.client)
            };
            let begun = Redelivery {
                matched: rows.registrations.values().filter(fits).count() as u64,
                id: new.id.clone(),
                owner: new.owner,
                filter: new.filter,
                state: RedeliveryState::Running,
                created_at: new.created_at,
                finished_at: None,
                done: 0,
            };
            rows.redeliveries.insert(new.id, begun.clone());
            begun
        })
        .await
    }

    async fn redelivery(&self, id: &str) -> Result<Option<Redelivery>> {
        self.with(|rows| rows.redeliveries.get(id).cloned()).await
    }

    async fn cancel_redelivery(&self, id: &str, now: Timestamp) -> Result<Option<Redelivery>> {
        self.with(|rows| {
            let row = rows.redeliveries.get_mut(id)?;
            if row.state == RedeliveryState::Running {
                row.state = RedeliveryState::Cancelled;
                row.finished_at = Some(now);
            }
            Some(row.clone())
        })
        .await
    }
}

#[async_trait]
impl Lanes for MemoryStore {
    async fn lanes(&self) -> Result<Vec<LaneName>> {
        unreachable!("the API polls nothing")
    }

    async fn take(&self, _lane: &LaneName, _now: Timestamp) -> Result<TakenLane> {
        let lease = Lease { lane: 1, epoch: 1 };
        Ok(TakenLane { lease, version: 0, reservations: Vec::new(), memory: None })
    }

    async fn changes(&self, _lease: &Lease, _version: u64, _limit: u32) -> Result<Vec<Change>> {
        self.with(|rows| {
            let watch = |task: &TaskRef| Watch {
                website_id: task.website_id.clone(),
                delivery_task_id: task.delivery_task_id.clone(),
                registered_at: Timestamp(0),
                give_up_at: Timestamp(0),
                progress: outcomed::store::Progress::default(),
            };
            (0..)
                .zip(&rows.tasks)
                .map(|(row, task)| Change {
                    task: TaskId(row),
                    version: u64::try_from(row).unwrap() + 1,
                    watch: Some(watch(task)),
                })
                .collect()
        })
        .await
    }

    async fn checkpoint(&self, _lease: &Lease, _checkpoint: Checkpoint) -> Result<()> {
        unreachable!("the API polls nothing")
    }

    async fn settle(&self, _lease: &Lease, ending: Ending, outcome: Outcome) -> Result<()> {
        let told = self
            .with(|rows| {
                let task = rows.tasks[usize::try_from(ending.task.0).unwrap()].clone();
                rows.settle(&task, &ending, &outcome)
            })
            .await?;
        for registration_id in told {
            self.hint(Hint::Outcome { registration_id });
        }
        Ok(())
    }

    async fn give_up(
        &self,
        _lease: &Lease,
        _ending: Ending,
        _outcome: Outcome,
    ) -> Result<Option<Timestamp>> {
        unreachable!("the API polls nothing")
    }
}

#[async_trait]
impl Outbox for MemoryStore {
    async fn destinations(&self, _: &DestinationPlace, _: u32) -> Result<DestinationPage> {
        unreachable!("the API delivers nothing")
    }
    async fn asked(&self, _now: Timestamp, _limit: u32) -> Result<Vec<Delivery>> {
        unreachable!("the API delivers nothing")
    }
    async fn reschedule(&self, _under_way: &[Delivery], _at: Timestamp) -> Result<()> {
        unreachable!("the API delivers nothing")
    }
    async fn due(&self, _to: &Destination, now: Timestamp, limit: u32) -> Result<Vec<Delivery>> {
        let delivery = |row: &Registration| Delivery {
            registration_id: row.id.clone(),
            client: row.client.clone(),
            callback_url: row.callback.url.clone(),
            callback_origin: String::new(),
            lane: 1,
            body: Vec::new(),
            attempts: row.delivery.attempts,
            round: row.delivery.attempts,
            first_attempt_at: None,
            asked: 0,
            due_at: now,
        };
        self.with(|rows| {
            let due = rows.registrations.values().filter(|row| row.state == State::Delivering);
            due.take(limit as usize).map(delivery).collect()
        })
        .await
    }

    async fn record_attempt(
        &self,
        delivery: &Delivery,
        attempt: Attempt,
        next: Next,
    ) -> Result<bool> {
        self.with(|rows| {
            let row = rows.registrations.get_mut(&delivery.registration_id).unwrap();
            row.delivery = DeliveryState {
                attempts: attempt.number,
                next_attempt_at: if let Next::RetryAt(at) = next { Some(at) } else { None },
                last_status: attempt.status,
                last_error: attempt.error.clone(),
            };
            row.state = match next {
                Next::Delivered => State::Delivered,
                Next::RetryAt(_) => State::Delivering,
                Next::Undeliverable | Next::Gone => State::Undeliverable,
            };
            rows.attempts.entry(delivery.registration_id.clone()).or_default().push(attempt);
            true
        })
        .await
    }

    async fn postpone(&self, _: &Delivery, _until: Timestamp, _error: &str) -> Result<()> {
        unreachable!("the API delivers nothing")
    }

    async fn step_redelivery(
        &self,
        _: &[String],
        _: u32,
        _: Timestamp,
    ) -> Result<Option<RedeliveryStep>> {
        unreachable!("the API delivers nothing")
    }

    async fn end_gone(&self, _: &str, _: &str, _now: Timestamp, _: u32) -> Result<u32> {
        unreachable!("the API delivers nothing")
    }

    async fn callback_accepts(&self, client: &str, url: &str) -> Result<()> {
        self.with(|rows| rows.accepted.push(format!("{client} {url}"))).await
    }
}

#[async_trait]
impl Rewatches for MemoryStore {
    async fn begin_rewatch(&self, new: NewRewatch) -> Result<Option<Rewatch>> {
        self.with(|rows| rows.begin_rewatch(new)).await
    }

    async fn rewatch(&self, id: &str) -> Result<Option<Rewatch>> {
        self.with(|rows| rows.rewatches.get(id).cloned()).await
    }

    async fn cancel_rewatch(&self, id: &str, now: Timestamp) -> Result<Option<Rewatch>> {
        self.with(|rows| {
            let row = rows.rewatches.get_mut(id)?;
            if row.state == RedeliveryState::Running {
                (row.state, row.finished_at) = (RedeliveryState::Cancelled, Some(now));
            }
            Some(row.clone())
        })
        .await
    }

    async fn rewatch_page(&self, _: u32, _: Timestamp) -> Result<Option<RewatchPage>> {
        unreachable!("the API works nothing off")
    }

    async fn rewatched(&self, _: &RewatchPage, _: u32, _: Timestamp) -> Result<()> {
        unreachable!("the API works nothing off")
    }
}
