//! What is under way of each lane, so that a lane can be given up without anything of it being sent
//! twice: first nothing new of it begins, then what is under way is put off past its deadline.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::store::{Delivery, Outbox};

/// An attempt's record, and what two daemons' clocks differ by, after its deadline.
pub(super) const OVERDUE: Duration = Duration::from_secs(3);
/// The longest that putting off may hold up the lane's next owner.
const PUT_OFF_MAX: Duration = Duration::from_secs(1);

/// Attempts under way, by registration, and the lanes that are another's now.
#[derive(Clone)]
pub struct Handover {
    outbox: Arc<dyn Outbox>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// With the time by which each is over.
    under_way: BTreeMap<String, (Delivery, Timestamp)>,
    given_up: BTreeSet<i64>,
}

impl Handover {
    /// Nothing is under way.
    #[must_use]
    pub fn new(outbox: Arc<dyn Outbox>) -> Self {
        Self { outbox, state: Arc::default() }
    }

    /// The lane's row is this daemon's, perhaps again.
    pub fn claimed(&self, lane: i64) {
        self.lock().given_up.remove(&lane);
    }

    /// The lane's row will be, or is, another's: once this returns, its next owner attempts nothing
    /// that is still under way here.
    pub async fn give_up(&self, lane: i64) {
        let (under_way, until) = {
            let mut state = self.lock();
            state.given_up.insert(lane);
            let of_it = state.under_way.values().filter(|(delivery, _)| delivery.lane == lane);
            let until = of_it.clone().map(|(_, over_by)| *over_by).max();
            (of_it.map(|(delivery, _)| delivery.clone()).collect::<Vec<_>>(), until)
        };
        if let Some(until) = until {
            self.reschedule(&under_way, until).await;
        }
    }

    /// These attempts were cut off: they are due again.
    pub(super) async fn cut_off(&self, now: Timestamp) {
        let all: Vec<Delivery> =
            std::mem::take(&mut self.lock().under_way).into_values().map(|it| it.0).collect();
        if !all.is_empty() {
            self.reschedule(&all, now).await;
        }
    }

    async fn reschedule(&self, under_way: &[Delivery], at: Timestamp) {
        let moving = self.outbox.reschedule(under_way, at);
        let moved = tokio::time::timeout(PUT_OFF_MAX, moving).await;
        if !matches!(moved, Ok(Ok(()))) {
            let deliveries = under_way.len();
            tracing::warn!(
                deliveries,
                "attempts under way could not be handed over: their callbacks may be sent twice"
            );
        }
    }

    /// An attempt begins, unless its lane is given up; it is over when the guard is dropped.
    pub(super) fn begin(&self, delivery: &Delivery, over_by: Timestamp) -> Option<Guard> {
        let mut state = self.lock();
        if state.given_up.contains(&delivery.lane) {
            return None;
        }
        let id = delivery.registration_id.clone();
        // Which row it is, and where it stands, is all that is asked later.
        let row = Delivery { body: Vec::new(), ..delivery.clone() };
        state.under_way.insert(id.clone(), (row, over_by));
        Some(Guard { handover: self.clone(), id, recorded: false })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An attempt under way. One that is dropped unrecorded was cut off.
pub(super) struct Guard {
    handover: Handover,
    id: String,
    recorded: bool,
}

impl Guard {
    pub(super) fn over(mut self) {
        self.recorded = true;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.recorded {
            self.handover.lock().under_way.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Ids, Outcome};
    use crate::store::sqlite::Sqlite;
    use crate::store::{Destination, Ending, Lanes, NewRegistration, Progress, Registry};
    use crate::task::{Kind, TaskRef};

    fn new(number: u32) -> NewRegistration {
        NewRegistration {
            id: format!("reg_{number}"),
            client: "ats".into(),
            task: TaskRef {
                kind: Kind::default(),
                account: "default".into(),
                website_id: "7".into(),
                delivery_task_id: "t".into(),
            },
            callback_url: format!("https://a.example/{number}"),
            callback_origin: "https://a.example:443".into(),
            callback_host: "a.example".into(),
            metadata: "{}".into(),
            created_at: Timestamp(1_000),
            give_up_at: Timestamp(61_000),
        }
    }

    #[tokio::test]
    async fn what_is_under_way_is_due_again_after_the_last_of_it_is_over_and_nothing_else_begins() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Sqlite::open_simulated(&directory.path().join("a.db")).unwrap());
        store.register((1..=3).map(new).collect()).await.unwrap();
        let lease = store.take(&new(1).task.lane(), Timestamp(0)).await.unwrap().lease;
        let task = store.changes(&lease, 0, 1).await.unwrap()[0].task;
        let at = Timestamp(5_000);
        let ending = Ending { task, at, progress: Progress::default(), log_id: None };
        store.settle(&lease, ending, Outcome::succeeded(Ids::default())).await.unwrap();
        let to = Destination::new("ats", "https://a.example:443");
        let due = async |at| {
            let rows = store.due(&to, Timestamp(at), 9).await.unwrap();
            rows.into_iter().map(|row| row.registration_id).collect::<Vec<_>>()
        };
        let rows = store.due(&to, at, 9).await.unwrap();
        let (lane, handover) = (rows[0].lane, Handover::new(store.clone()));
        let over_by = [30_000, 20_000].map(Timestamp);
        let under_way: Vec<_> =
            rows.iter().zip(over_by).map(|(row, by)| handover.begin(row, by).unwrap()).collect();
        handover.give_up(lane + 1).await;
        assert_eq!(due(5_000).await.len(), 3, "another lane's");
        handover.give_up(lane).await;
        assert_eq!(due(29_999).await, ["reg_3"], "which nobody was sending");
        assert_eq!(due(30_000).await.len(), 3);
        assert!(handover.begin(&rows[2], over_by[0]).is_none(), "the next owner sends it");
        handover.claimed(lane);
        assert!(handover.begin(&rows[2], over_by[0]).is_some());
        under_way.into_iter().for_each(Guard::over);
    }
}
