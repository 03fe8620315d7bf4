//! Which task to look at next, and when.
//!
//! Every look has one price, in seconds of waiting, that a task must expect to save by it. The
//! price is the lowest at which the looks planned for the coming minute fit into the quota; the
//! [`table`] tells for each price how long a task waits after its last look.

pub mod appointments;
pub mod arrivals;
pub mod bunch;
pub mod classes;
pub mod curiosity;
pub mod figures;
pub mod forecast;
pub mod price;
pub mod schedule;
pub mod study;
pub mod table;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use appointments::Appointments;
use arrivals::Arrivals;
use bunch::Bunch;
use classes::{Classes, Waiting, seconds};
use curiosity::Curiosity;
use figures::{Figures, Lately};
use price::Price;
use study::Study;
use table::Table;

use super::estimate::{Estimate, ages};
use super::quota::Quota;
use crate::clock::Steady;
use crate::task::TaskId;

/// The schedule of one lane.
#[derive(Debug)]
pub struct Plan {
    classes: Classes,
    appointments: Appointments,
    curiosity: Curiosity,
    /// New tasks that have an appointment out of curiosity.
    curious: BTreeSet<Waiting>,
    arrivals: Arrivals,
    estimate: Estimate,
    table: Arc<Table>,
    price: Price,
    bunch: Option<Bunch>,
    figures: Option<(Figures, Steady)>,
    lately: Lately,
    /// The last look was an appointment: of those and others that are due, each has its turn.
    appointed: bool,
    /// Something was learned that has not been handed out to be kept.
    learned: bool,
}

/// Figures are for people: they may be so old.
const FIGURES_GOOD_FOR: Duration = Duration::from_secs(10);

/// A task registered longer ago was not registered with this owner of the lane: a backlog that is
/// loaded at a start says nothing about how many tasks are to come, and must not set the price.
const ARRIVED_WITHIN: Duration = Duration::from_secs(10);

impl Plan {
    /// An empty schedule. A look must save at least `worth` of waiting.
    #[must_use]
    pub fn new(worth: Duration) -> Self {
        Self {
            classes: Classes::default(),
            appointments: Appointments::default(),
            curiosity: Curiosity::default(),
            curious: BTreeSet::new(),
            arrivals: Arrivals::default(),
            estimate: Estimate::new(),
            table: Table::prior(),
            price: Price::new(worth),
            bunch: None,
            figures: None,
            lately: Lately::default(),
            appointed: false,
            learned: false,
        }
    }

    /// Chooses anew which tasks are looked at out of curiosity.
    pub fn reseed(&mut self, seed: u64) {
        self.curiosity = Curiosity::seeded(seed);
    }

    // ---- which tasks there are ----

    /// Plans a task.
    pub fn insert(&mut self, task: Waiting, now: Steady) {
        if task.looked == task.born {
            if now.since(task.born) < ARRIVED_WITHIN {
                self.arrivals.arrived(now);
            }
            if let Some(at) = self.probe(&task, now) {
                self.curious.insert(task);
                return self.appointments.make(task.task, at);
            }
        }
        self.wait(task);
    }

    /// When to look at a new task out of curiosity, if at all.
    fn probe(&mut self, task: &Waiting, now: Steady) -> Option<Steady> {
        let first = self.table.gap(self.price.level(), (0, 0.0));
        let at = self.curiosity.probe(task.task, first)?;
        let at = task.born.after(Duration::from_secs_f64(at));
        (at > now).then_some(at)
    }

    /// Plans no more looks at a task.
    pub fn remove(&mut self, task: &Waiting) {
        let _ = self.take(task);
    }

    /// Whether its look was an appointment.
    fn take(&mut self, task: &Waiting) -> bool {
        self.curious.remove(task);
        let appointed = self.appointments.remove(task.task);
        if !appointed {
            let (table, price) = (&self.table, &self.price);
            self.classes.remove(task, |head, place| due(table, price, head, place));
        }
        appointed
    }

    // ---- what looks told ----

    /// A look at this task is under way: it is not looked at again meanwhile.
    pub fn sent(&mut self, task: &Waiting) {
        self.appointed = self.take(task);
    }

    /// It was still pending at `looked`.
    pub fn pending(&mut self, task: &Waiting, looked: Steady) {
        self.probed(task, looked, false);
        self.estimate.pending(task.age(), seconds(looked.0 - task.born.0));
        self.wait(Waiting { looked, ..*task });
    }

    /// It was seen settled at `seen`.
    pub fn settled(&mut self, task: &Waiting, seen: Steady) {
        self.probed(task, seen, true);
        let age = seconds(seen.0 - task.born.0);
        let bound = self.figures.map(|(figures, _)| figures.bound);
        self.lately.settled(self.table.life(), task.age(), age, bound);
        self.estimate.settled(task.age(), age);
    }

    /// A new task that is looked at sooner than it would be was looked at out of curiosity.
    fn probed(&mut self, task: &Waiting, looked: Steady, settled: bool) {
        let age = seconds(looked.0 - task.born.0);
        let first = self.table.gap(self.price.level(), (0, 0.0));
        if task.looked == task.born && Curiosity::was_probe(age, first) {
            self.estimate.probed(age, settled);
        }
    }

    /// Looks at it then, whatever the schedule says.
    pub fn look_at(&mut self, task: &Waiting, at: Steady) {
        self.remove(task);
        self.appointments.make(task.task, at);
    }

    // ---- what to do ----

    /// The task to look at first and when that is worth it, or when to ask again.
    pub fn first(&mut self, now: Steady, quota: &Quota) -> First {
        if (self.classes.tasks() > 0 || !self.curious.is_empty()) && self.price.stale(now) {
            self.reprice(now, quota);
        }
        let appointed = self.appointments.first();
        let kept = appointed.filter(|(at, _)| *at <= now).map(|(_, task)| First::Look(task));
        if let Some(look) = kept
            && !self.appointed
        {
            return look;
        }
        let appointed = appointed.map(|(at, _)| at);
        let Some(due) = self.classes.first_due() else {
            return kept.unwrap_or(appointed.map_or(First::Nothing, First::Ask));
        };
        let reach = Bunch::reach(self.bunch, now);
        if due <= reach
            && let Some(task) = self.most_urgent(now, reach)
        {
            return First::Look(task);
        }
        if let Some(look) = kept {
            return look;
        }
        let begins = self.bunch.map(|bunch| bunch.begins).filter(|at| *at > now);
        let again = self.price.next_at(now).min(begins.unwrap_or(due));
        First::Ask(due.min(again).min(appointed.unwrap_or(again)))
    }

    /// Of all tasks due by `reach`, the one that would be looked at for the highest price.
    fn most_urgent(&self, now: Steady, reach: Steady) -> Option<TaskId> {
        let mut best: Option<(f64, TaskId)> = None;
        for class in self.classes.iter().filter(|class| class.due <= reach) {
            let Some(head) = class.queue.front() else { continue };
            let waited = seconds(now.0 - head.looked.0);
            let level = best.map_or(self.price.level(), |(level, _)| level);
            // One lookup tells whether it is worth more than the best so far.
            if best.is_none() || self.table.gap(level, class.place) < waited {
                best = Some((self.table.level(level, class.place, waited), head.task));
            }
        }
        best.map(|(_, task)| task)
    }

    fn reprice(&mut self, now: Steady, quota: &Quota) {
        self.arrivals.pass(now);
        let room = forecast::HORIZONS
            .map(|ahead| f64::from(quota.room(now, Duration::from_secs_f64(ahead))));
        let rate = self.arrivals.rate();
        let (table, classes) = (&self.table, &self.classes);
        self.price.update(now, classes.count(), |row| {
            forecast::load(row, table, classes, rate, &room, now)
        });
        self.less_curious();
        let (table, price) = (&self.table, &self.price);
        self.classes.reprice(|head, place| due(table, price, head, place));
        self.bunch = bunch::coming(table, price.level(), &self.classes, quota.pace(), now);
        self.sum_up(now, quota);
    }

    /// Looks out of curiosity are sooner than the planned ones: where the price has fallen since
    /// they were set, the task waits for its planned one.
    fn less_curious(&mut self) {
        let (table, price, appointments) = (&self.table, &self.price, &self.appointments);
        let later = |task: &Waiting| {
            let planned = due(table, price, task, ages::place(task.age()));
            appointments.of(task.task).is_some_and(|at| at > planned)
        };
        let late: Vec<Waiting> = self.curious.extract_if(.., |task| later(task)).collect();
        for task in late {
            self.appointments.remove(task.task);
            self.wait(task);
        }
    }

    /// What there is to learn: to be worked out beside the polls, then handed to
    /// [`Plan::learned`].
    pub fn study(&mut self) -> Option<Study> {
        let drifted = self.estimate.drifted();
        let lesson = self.estimate.lesson()?;
        if drifted {
            self.curiosity.revive();
        }
        Some(Study::new(lesson, self.price.row()))
    }

    /// From now on goes by what was learned.
    pub fn learned(&mut self, study: Study) {
        let Some((lesson, table)) = study.outcome() else { return };
        if self.estimate.learned(lesson, Arc::clone(table.life())) {
            self.learned = true;
            self.table = table;
        }
    }

    fn wait(&mut self, task: Waiting) {
        let (table, price) = (&self.table, &self.price);
        self.classes.insert(task, |head, place| due(table, price, head, place));
    }

    // ---- what to show and to keep ----

    /// How many tasks wait for a look.
    #[must_use]
    pub fn len(&self) -> usize {
        self.classes.tasks() + self.appointments.count()
    }

    /// Whether no task waits for a look.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When this task, which waits, will be looked at, by what is known now.
    #[must_use]
    pub fn next_look(&self, task: &Waiting) -> Steady {
        let place = ages::place(task.age());
        let planned = || due(&self.table, &self.price, task, place);
        self.appointments.of(task.task).unwrap_or_else(planned)
    }

    /// What the schedule amounts to, once something is known about the tasks.
    #[must_use]
    pub fn figures(&self) -> Option<Figures> {
        self.figures.map(|(figures, _)| self.lately.added_to(figures))
    }

    fn sum_up(&mut self, now: Steady, quota: &Quota) {
        let fresh = self.figures.is_some_and(|(_, at)| now < at.after(FIGURES_GOOD_FOR));
        if fresh || !self.estimate.known() {
            return;
        }
        let (level, lowest) = (self.price.level(), self.price.lowest());
        let rate = self.arrivals.rate();
        let figures = figures::figures(&self.table, level, lowest, rate, quota.limits());
        self.figures = Some((figures, now));
    }

    /// What has been learned about the tasks, to be kept for the lane's next owner; `None` while
    /// that is what it was when last asked.
    #[must_use]
    pub fn memory(&mut self) -> Option<Vec<u8>> {
        std::mem::take(&mut self.learned).then(|| self.estimate.memory()).flatten()
    }

    /// What [`Plan::memory`] gave was not kept.
    pub fn not_kept(&mut self) {
        self.learned = true;
    }

    /// Takes up what an earlier owner had learned; what cannot be read is left.
    pub fn remember(&mut self, memory: &[u8]) {
        if self.estimate.remember(memory) {
            self.table = Arc::new(Table::new(Arc::clone(self.estimate.life())));
        }
    }
}

/// What a plan says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// No task waits.
    Nothing,
    /// Nothing before then: ask again.
    Ask(Steady),
    /// Look at this task as soon as the quota allows.
    Look(TaskId),
}

fn due(table: &Table, price: &Price, task: &Waiting, place: (usize, f64)) -> Steady {
    let gap = table.gap(price.level(), place);
    #[expect(clippy::cast_possible_truncation, reason = "ms within hours")]
    let gap = (gap * 1000.0).ceil() as i64;
    Steady(task.looked.0.saturating_add(gap.max(1)))
}
