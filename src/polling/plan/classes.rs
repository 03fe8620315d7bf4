//! The tasks of a lane, by the age at which they were last seen pending.
//!
//! Tasks of one class wait the same time for their next look, so in each class the one that was
//! looked at first is due first: a change of price touches one head per class instead of every
//! task.

use std::collections::VecDeque;

use crate::clock::Steady;
use crate::polling::estimate::ages;
use crate::task::TaskId;

/// A task waiting for its next look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waiting {
    /// When it was last seen pending, or registered.
    pub looked: Steady,
    /// Which.
    pub task: TaskId,
    /// When it was registered.
    pub born: Steady,
}

impl Waiting {
    /// Its age when it was last seen pending, seconds.
    #[must_use]
    pub fn age(&self) -> f64 {
        seconds(self.looked.0 - self.born.0)
    }
}

/// Seconds of milliseconds.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "spans of time far below 2^53 ms")]
pub fn seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}

/// One class.
#[derive(Debug)]
pub struct Class {
    point: u16,
    /// Ordered, the one that was looked at first in front.
    pub queue: VecDeque<Waiting>,
    /// When its head is due at the current price.
    pub due: Steady,
    /// Where its head's age lies on the grid.
    pub place: (usize, f64),
}

impl Class {
    /// Its head is another one, or the price.
    fn refresh(&mut self, due: impl Fn(&Waiting, (usize, f64)) -> Steady) {
        if let Some(head) = self.queue.front() {
            self.place = ages::place(head.age());
            self.due = due(head, self.place);
        }
    }
}

/// All classes that hold tasks, by age.
#[derive(Debug, Default)]
pub struct Classes {
    classes: Vec<Class>,
    tasks: usize,
}

impl Classes {
    /// Adds a task. `due` tells when the head of a class is due.
    pub fn insert(&mut self, task: Waiting, due: impl Fn(&Waiting, (usize, f64)) -> Steady) {
        self.tasks += 1;
        let point = class_of(&task);
        let place = match self.classes.binary_search_by_key(&point, |class| class.point) {
            Ok(place) => place,
            Err(place) => {
                self.classes.insert(
                    place,
                    Class { point, queue: VecDeque::new(), due: Steady(i64::MAX), place: (0, 0.0) },
                );
                place
            }
        };
        let class = &mut self.classes[place];
        // Nearly always the last: looks come in order of time.
        let index = match class.queue.back() {
            Some(last) if *last > task => class.queue.partition_point(|other| *other < task),
            _ => class.queue.len(),
        };
        class.queue.insert(index, task);
        if index == 0 {
            class.refresh(due);
        }
    }

    /// Takes a task out. Whether it was there.
    pub fn remove(
        &mut self,
        task: &Waiting,
        due: impl Fn(&Waiting, (usize, f64)) -> Steady,
    ) -> bool {
        let point = class_of(task);
        let Ok(place) = self.classes.binary_search_by_key(&point, |class| class.point) else {
            return false;
        };
        let class = &mut self.classes[place];
        let Ok(index) = class.queue.binary_search(task) else { return false };
        class.queue.remove(index);
        self.tasks -= 1;
        match class.queue.front() {
            None => drop(self.classes.remove(place)),
            Some(_) if index == 0 => class.refresh(due),
            Some(_) => {}
        }
        true
    }

    /// Computes anew when each class is due.
    pub fn reprice(&mut self, due: impl Fn(&Waiting, (usize, f64)) -> Steady) {
        for class in &mut self.classes {
            class.due = class.queue.front().map_or(class.due, |head| due(head, class.place));
        }
    }

    /// When the first task is due.
    #[must_use]
    pub fn first_due(&self) -> Option<Steady> {
        self.classes.iter().map(|class| class.due).min()
    }

    /// The classes, youngest first.
    pub fn iter(&self) -> impl Iterator<Item = &Class> {
        self.classes.iter()
    }

    /// How many classes hold tasks.
    #[must_use]
    pub fn count(&self) -> usize {
        self.classes.len()
    }

    /// How many tasks wait.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.tasks
    }
}

fn class_of(task: &Waiting) -> u16 {
    u16::try_from(ages::nearest(task.age())).unwrap_or(u16::MAX)
}
