//! The schedules of one estimate for every price, each solved when it is first asked for.

use std::sync::{Arc, LazyLock, OnceLock};

use super::schedule::Schedule;
use crate::polling::estimate::lifetimes::Lifetimes;

/// Prices on the grid.
pub const PRICES: usize = 40;
/// Prices per doubling: gaps grow with the root of the price, so neighbours differ by a fifth.
const PER_DOUBLING: f64 = 2.0;
/// The lowest price, seconds.
const LOWEST: f64 = 0.001;

/// The schedules of one estimate.
#[derive(Debug)]
pub struct Table {
    life: Arc<Lifetimes>,
    rows: [OnceLock<Schedule>; PRICES],
}

impl Table {
    /// Schedules for tasks that live like this.
    #[must_use]
    pub fn new(life: Arc<Lifetimes>) -> Self {
        Self { life, rows: [const { OnceLock::new() }; PRICES] }
    }

    /// The schedules of the prior, shared by all lanes that have learned nothing yet.
    #[must_use]
    pub fn prior() -> Arc<Self> {
        static PRIOR: LazyLock<Arc<Table>> =
            LazyLock::new(|| Arc::new(Table::new(Lifetimes::prior())));
        Arc::clone(&PRIOR)
    }

    /// How long tasks live.
    #[must_use]
    pub fn life(&self) -> &Arc<Lifetimes> {
        &self.life
    }

    /// The schedule for the price of that row.
    #[must_use]
    pub fn row(&self, row: usize) -> &Schedule {
        let row = row.min(PRICES - 1);
        self.rows[row].get_or_init(|| Schedule::solve(&self.life, price(row)))
    }

    /// Seconds from a pending look at this place to the next look, at the price of `level`.
    #[must_use]
    pub fn gap(&self, level: f64, place: (usize, f64)) -> f64 {
        let (row, share) = split(level);
        let (low, high) = (self.row(row).gap(place), self.row(row + 1).gap(place));
        // Between two humps the best gap jumps, and anything between the two is worse than either.
        if high > JUMP * low {
            return if share < 0.5 { low } else { high };
        }
        low + (high - low) * share
    }

    /// The highest level at which a task pending at `place` would be looked at after `waited`
    /// seconds, searching from `start`.
    #[must_use]
    pub fn level(&self, start: f64, place: (usize, f64), waited: f64) -> f64 {
        let (mut row, _) = split(start);
        while row > 0 && self.row(row).gap(place) > waited {
            row -= 1;
        }
        while row + 2 < PRICES && self.row(row + 1).gap(place) <= waited {
            row += 1;
        }
        let (low, high) = (self.row(row).gap(place), self.row(row + 1).gap(place));
        let share = if high > low { ((waited - low) / (high - low)).clamp(0.0, 1.0) } else { 0.0 };
        #[expect(clippy::cast_precision_loss, reason = "a few dozen rows")]
        let row = row as f64;
        row + share
    }
}

/// The price (seconds) of a row.
#[must_use]
pub fn price(row: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a few dozen rows")]
    price_at(row as f64)
}

/// The price (seconds) at a level: a row, or a place between two.
#[must_use]
pub fn price_at(level: f64) -> f64 {
    LOWEST * (level / PER_DOUBLING).exp2()
}

/// The level of a price (seconds).
#[must_use]
pub fn level_of(price: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a few dozen rows")]
    let highest = (PRICES - 1) as f64;
    (PER_DOUBLING * (price / LOWEST).log2()).clamp(0.0, highest)
}

/// Gaps of neighbouring prices that differ by more are two different plans.
const JUMP: f64 = 1.6;

fn split(level: f64) -> (usize, f64) {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
    let row = (level.max(0.0) as usize).min(PRICES - 2);
    #[expect(clippy::cast_precision_loss, reason = "a few dozen rows")]
    let share = (level - row as f64).clamp(0.0, 1.0);
    (row, share)
}
