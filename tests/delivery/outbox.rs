//! An outbox in memory, with the promises of the real one.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use outcomed::clock::{Clock, SystemClock, Timestamp};
use outcomed::store::{
    Attempt, Delivery, Destination, DestinationPage, DestinationPlace, Hint, Next, Outbox,
    RedeliveryStep, Result, StoreError,
};
use tokio::sync::{Notify, broadcast};
use url::Url;

/// One delivery and what became of it.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) delivery: Delivery,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) postponed: Option<String>,
    /// `None` while unfinished.
    pub(crate) end: Option<Next>,
}

pub(crate) struct MemoryOutbox {
    rows: Mutex<BTreeMap<String, Row>>,
    /// So many writes fail from now on.
    failing_writes: Mutex<u32>,
    closed: Mutex<Vec<(String, String)>>,
    changed: Notify,
    pub(crate) hints: broadcast::Sender<Hint>,
}

impl MemoryOutbox {
    pub(crate) fn new() -> Self {
        Self {
            rows: Mutex::default(),
            failing_writes: Mutex::default(),
            closed: Mutex::default(),
            changed: Notify::new(),
            hints: broadcast::channel(64).0,
        }
    }

    fn rows(&self) -> MutexGuard<'_, BTreeMap<String, Row>> {
        self.rows.lock().unwrap()
    }

    /// Makes a delivery due now; returns its registration's id.
    pub(crate) fn add(&self, client: &str, url: &str) -> String {
        let mut rows = self.rows();
        let registration_id = format!("reg_{:04}", rows.len());
        let now = SystemClock::new().wall();
        let delivery = Delivery {
            registration_id: registration_id.clone(),
            client: client.to_owned(),
            callback_url: url.to_owned(),
            callback_origin: origin(url),
            lane: 1,
            body: format!(r#"{{"timestamp":"{now}","data":"{registration_id}"}}"#).into_bytes(),
            attempts: 0,
            round: 0,
            first_attempt_at: None,
            asked: 0,
            due_at: now,
        };
        let row = Row { delivery, attempts: Vec::new(), postponed: None, end: None };
        rows.insert(registration_id.clone(), row);
        drop(rows);
        let _ = self.hints.send(Hint::Due(Destination::new(client, origin(url))));
        registration_id
    }

    /// A bulk redelivery makes it due again.
    pub(crate) fn again(&self, id: &str) {
        let mut rows = self.rows();
        let row = rows.get_mut(id).unwrap();
        (row.delivery.round, row.delivery.due_at) = (0, SystemClock::new().wall());
        row.delivery.first_attempt_at = None;
        let _ = self.hints.send(Hint::Due(row.delivery.destination()));
    }

    pub(crate) fn row(&self, id: &str) -> Row {
        self.rows()[id].clone()
    }

    pub(crate) fn fail_writes(&self, count: u32) {
        *self.failing_writes.lock().unwrap() = count;
    }

    /// What was closed: client and URL.
    pub(crate) fn closed(&self) -> Vec<(String, String)> {
        self.closed.lock().unwrap().clone()
    }

    /// Waits until `done` holds for the row.
    pub(crate) async fn until(&self, id: &str, done: impl Fn(&Row) -> bool) -> Row {
        let waiting = async {
            loop {
                let changed = self.changed.notified();
                let row = self.row(id);
                if done(&row) {
                    return row;
                }
                changed.await;
            }
        };
        let limit = std::time::Duration::from_secs(20);
        let waited = tokio::time::timeout(limit, waiting).await;
        waited.unwrap_or_else(|_| panic!("{id} stays {:?}", self.row(id)))
    }

    fn write(&self) -> Result<MutexGuard<'_, BTreeMap<String, Row>>> {
        let mut failing = self.failing_writes.lock().unwrap();
        if *failing > 0 {
            *failing -= 1;
            return Err(StoreError::Unavailable("the disk is full".to_owned()));
        }
        Ok(self.rows())
    }
}

fn origin(url: &str) -> String {
    Url::parse(url).unwrap().origin().ascii_serialization()
}

#[async_trait]
impl Outbox for MemoryOutbox {
    async fn destinations(&self, _: &DestinationPlace, _: u32) -> Result<DestinationPage> {
        let mut origins = BTreeMap::new();
        for row in self.rows().values().filter(|row| row.end.is_none()) {
            let due_at = row.delivery.due_at;
            let earliest = origins.entry(row.delivery.destination()).or_insert(due_at);
            *earliest = due_at.min(*earliest);
        }
        Ok(DestinationPage { found: origins.into_iter().collect(), next: None })
    }

    async fn due(&self, to: &Destination, now: Timestamp, limit: u32) -> Result<Vec<Delivery>> {
        let mut due: Vec<Delivery> = self
            .rows()
            .values()
            .filter(|row| row.end.is_none() && row.delivery.due_at <= now)
            .map(|row| row.delivery.clone())
            .filter(|delivery| delivery.destination() == *to)
            .collect();
        due.sort_by_key(|delivery| delivery.due_at);
        due.truncate(limit as usize);
        Ok(due)
    }

    async fn record_attempt(
        &self,
        delivery: &Delivery,
        attempt: Attempt,
        next: Next,
    ) -> Result<bool> {
        let mut rows = self.write()?;
        let row = rows.get_mut(&delivery.registration_id).unwrap();
        let began_at = attempt.at;
        row.attempts.push(attempt);
        let ours = row.end.is_none()
            && (row.delivery.attempts, row.delivery.round) == (delivery.attempts, delivery.round);
        if ours {
            row.delivery.attempts += 1;
            row.delivery.round += 1;
            row.delivery.first_attempt_at.get_or_insert(began_at);
            match next {
                Next::RetryAt(at) => row.delivery.due_at = at,
                Next::Delivered | Next::Undeliverable | Next::Gone => row.end = Some(next),
            }
        }
        self.changed.notify_waiters();
        Ok(ours)
    }

    async fn postpone(&self, delivery: &Delivery, until: Timestamp, error: &str) -> Result<()> {
        let mut rows = self.write()?;
        let row = rows.get_mut(&delivery.registration_id).unwrap();
        row.delivery.due_at = until;
        row.postponed = Some(error.to_owned());
        self.changed.notify_waiters();
        Ok(())
    }

    async fn step_redelivery(
        &self,
        _: &[String],
        _: u32,
        _: Timestamp,
    ) -> Result<Option<RedeliveryStep>> {
        Ok(None)
    }

    async fn end_gone(&self, client: &str, url: &str, _: Timestamp, limit: u32) -> Result<u32> {
        let mut rows = self.write()?;
        let waiting = rows.values_mut().filter(|row| {
            row.end.is_none() && row.delivery.client == client && row.delivery.callback_url == url
        });
        let mut count = 0;
        for row in waiting.take(limit as usize) {
            row.end = Some(Next::Undeliverable);
            count += 1;
        }
        self.closed.lock().unwrap().push((client.to_owned(), url.to_owned()));
        self.changed.notify_waiters();
        Ok(count)
    }

    async fn asked(&self, _: Timestamp, _: u32) -> Result<Vec<Delivery>> {
        Ok(Vec::new())
    }

    async fn reschedule(&self, under_way: &[Delivery], at: Timestamp) -> Result<()> {
        let mut rows = self.write()?;
        for delivery in under_way {
            rows.get_mut(&delivery.registration_id).unwrap().delivery.due_at = at;
        }
        Ok(())
    }

    async fn callback_accepts(&self, _: &str, _: &str) -> Result<()> {
        Ok(())
    }
}
