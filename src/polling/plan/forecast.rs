//! How many looks a price would lead to, compared with the room in the quota.

use super::classes::{Classes, seconds};
use super::schedule::Schedule;
use super::table::Table;
use crate::clock::Steady;
use crate::polling::estimate::ages;

/// How far ahead the room is compared with the looks planned, seconds.
pub const HORIZONS: [f64; 4] = [8.0, 20.0, 40.0, 60.0];

/// The room in the quota over each horizon, looks.
pub type Room = [f64; HORIZONS.len()];

/// Looks that the price of `row` leads to over each horizon.
#[must_use]
pub fn looks(row: usize, table: &Table, classes: &Classes, rate: f64, now: Steady) -> Room {
    let schedule = table.row(row);
    let mut planned = Room::default();
    for class in classes.iter() {
        let (Some(head), Some(last)) = (class.queue.front(), class.queue.back()) else { continue };
        let age = head.age();
        let gap = schedule.gap(class.place);
        let left = table.life().survival(age).max(1e-6);
        let still = table.life().survival(age + gap) / left;
        let further = Further::after(table, schedule, age + gap);
        for (planned, horizon) in planned.iter_mut().zip(HORIZONS) {
            let until = seconds(now.0) + horizon - gap;
            if seconds(head.looked.0) > until {
                continue;
            }
            let due = if seconds(last.looked.0) <= until {
                class.queue.len()
            } else {
                class.queue.partition_point(|task| seconds(task.looked.0) <= until)
            };
            let from = seconds(head.looked.0).max(seconds(now.0) - gap);
            let to = seconds(last.looked.0).min(until).max(from);
            let remaining = until - f64::midpoint(from, to);
            let again = still * further.within(remaining);
            #[expect(clippy::cast_precision_loss, reason = "tasks of one lane")]
            let due = due as f64;
            *planned += due * (1.0 + again);
        }
    }
    let first = schedule.gap((0, 0.0));
    let still = table.life().survival(first);
    let further = Further::after(table, schedule, first);
    for (planned, horizon) in planned.iter_mut().zip(HORIZONS) {
        const SLICES: u32 = 6;
        let span = horizon - first;
        if span <= 0.0 {
            continue;
        }
        let width = span / f64::from(SLICES);
        for slice in 0..SLICES {
            let remaining = (f64::from(slice) + 0.5) * width;
            *planned += rate * width * (1.0 + still * further.within(remaining));
        }
    }
    planned
}

/// Looks at a task that a look found pending: the next one at its time, those after it at their
/// average rate.
struct Further<'a> {
    schedule: &'a Schedule,
    age: f64,
    /// The share pending at this age, the age at the next look, and looks on average by then.
    left: f64,
    next: f64,
    by_next: f64,
}

impl<'a> Further<'a> {
    fn after(table: &Table, schedule: &'a Schedule, age: f64) -> Self {
        let place = ages::place(age);
        let left = ages::at(table.life().survive(), place).max(1e-6);
        let next = age + schedule.gap(place);
        Self { schedule, age, left, next, by_next: schedule.looks(next) }
    }

    /// In so many seconds from then.
    fn within(&self, remaining: f64) -> f64 {
        let end = self.age + remaining;
        if self.next > end {
            return 0.0;
        }
        1.0 + (self.schedule.looks(end) - self.by_next).max(0.0) / self.left
    }
}

/// The largest share of any horizon's room that the price of `row` would take.
#[must_use]
pub fn load(
    row: usize,
    table: &Table,
    classes: &Classes,
    rate: f64,
    room: &Room,
    now: Steady,
) -> f64 {
    let planned = looks(row, table, classes, rate, now);
    planned.iter().zip(room).map(|(planned, room)| planned / room.max(1.0)).fold(0.0, f64::max)
}
