//! How far tasks have come, written down with a reservation or by itself. What a failed write held
//! goes with the next one.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Worker, effects};
use crate::clock::Steady;
use crate::store::{self, Boot, Checkpoint, Progress, Reservation};
use crate::task::TaskId;

/// How often progress is written down when no reservation carries it.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);
/// Tasks written in one commit.
const PROGRESS_MAX: usize = 1_000;

/// What is not written down yet.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    tasks: BTreeSet<TaskId>,
    since: Option<Steady>,
    /// A write is under way: a second one could overtake it, and be undone by it.
    under_way: bool,
}

/// What a write holds.
#[derive(Debug, Default)]
pub(super) struct Written {
    tasks: Option<BTreeSet<TaskId>>,
    memory: bool,
}

impl Unwritten {
    pub(super) fn insert(&mut self, task: TaskId, now: Steady) {
        self.tasks.insert(task);
        self.since.get_or_insert(now);
    }

    pub(super) fn remove(&mut self, task: TaskId) {
        self.tasks.remove(&task);
    }

    /// What to write now.
    fn take(&mut self, now: Steady) -> BTreeSet<TaskId> {
        let left = match self.tasks.iter().nth(PROGRESS_MAX).copied() {
            Some(beyond) => self.tasks.split_off(&beyond),
            None => BTreeSet::new(),
        };
        self.since = (!left.is_empty()).then_some(now);
        self.under_way = true;
        std::mem::replace(&mut self.tasks, left)
    }
}

impl Worker {
    /// Writes down a reservation and, with it, how far tasks have come.
    pub(super) fn reserve(&mut self, polls: u32, now: Steady) {
        let spent = self.lane.quota().reservations_with(polls, now);
        let (mut checkpoint, written) = if self.unwritten.under_way {
            (Checkpoint::default(), Written::default())
        } else {
            self.progress_to_write(now)
        };
        checkpoint.reservations = Some(self.reservations(spent));
        let (store, lease) = (self.context.store.clone(), self.lease);
        self.effects.push(effects::reserve(store, lease, checkpoint, polls, written));
    }

    /// Writes down how far tasks have come, if no reservation has for long.
    pub(super) fn write_progress(&mut self, now: Steady) {
        let due = self.unwritten.since.is_some_and(|since| now.since(since) >= PROGRESS_EVERY);
        if due && !self.unwritten.under_way {
            let (checkpoint, written) = self.progress_to_write(now);
            let (store, lease) = (self.context.store.clone(), self.lease);
            self.effects.push(effects::write_progress(store, lease, checkpoint, written));
        }
    }

    /// What was really spent, and all progress: the last thing a lane's owner writes.
    pub(super) fn last_write(
        &mut self,
        spent: Vec<(Steady, u32)>,
    ) -> impl Future<Output = store::Result<()>> + use<> {
        let tasks = std::mem::take(&mut self.unwritten.tasks);
        let progress = self.progress_of(&tasks);
        let reservations = Some(self.reservations(spent));
        let checkpoint = Checkpoint { reservations, memory: self.lane.memory(), progress };
        let (store, lease) = (self.context.store.clone(), self.lease);
        async move { store.checkpoint(&lease, checkpoint).await }
    }

    /// A write of progress is over.
    pub(super) fn progress_written(
        &mut self,
        written: Written,
        stored: store::Result<()>,
        now: Steady,
    ) {
        let Written { tasks, memory } = written;
        if tasks.is_some() {
            self.unwritten.under_way = false;
        }
        let Err(error) = stored else { return };
        if memory {
            self.lane.not_kept();
        }
        for task in tasks.into_iter().flatten() {
            if self.lane.watched(task).is_some() {
                self.unwritten.insert(task, now);
            }
        }
        self.not_stored("a reservation or the progress of tasks", &error);
    }

    pub(super) fn progress_to_write(&mut self, now: Steady) -> (Checkpoint, Written) {
        let tasks = self.unwritten.take(now);
        let progress = self.progress_of(&tasks);
        let memory = self.lane.memory();
        let written = Written { tasks: Some(tasks), memory: memory.is_some() };
        (Checkpoint { reservations: None, memory, progress }, written)
    }

    fn progress_of(&self, tasks: &BTreeSet<TaskId>) -> Vec<(TaskId, Progress)> {
        tasks.iter().filter_map(|task| Some((*task, self.progress(*task)?))).collect()
    }

    fn reservations(&self, spent: Vec<(Steady, u32)>) -> Vec<Reservation> {
        let boot = self.context.clock.boot();
        let reservation = |(at, polls)| Reservation {
            at: self.wall_of(at),
            polls,
            boot: boot.map(|id| Boot { id, at }),
        };
        spent.into_iter().map(reservation).collect()
    }
}
