//! The price of a look: the lowest at which the looks it leads to fit into the quota.

use std::time::Duration;

use super::table::{PRICES, level_of, price_at};
use crate::clock::Steady;

/// A price is good for so long: gaps at the quota's limit are rarely shorter.
const GOOD_FOR: Duration = Duration::from_secs(1);
/// With more classes than this a price is good for another second, which keeps the cost of planning
/// one poll what it is; a lane with so many classes changes slowly.
const CLASSES_PER_SECOND: usize = 24;
const SECONDS_MAX: usize = 5;
/// The share of the price found that is asked, and the looks planned for each place in the quota:
/// looks forgone are lost, looks that the quota delays a little are not, so it is better to ask a
/// little too few seconds than too many. Where looks are dear a small error in what is forecast
/// would be a large one in the price, so a part of it is in the looks. Both measured together.
const SHARE: f64 = 0.9;
const LOOKS_A_PLACE: f64 = 1.06;
/// No look ever costs more, seconds: in a backlog a look spends a place in the quota for a
/// minute, and what that is worth does not grow with the backlog. Of 14 to 60 this came nearest to
/// the bound for bursts of 1000 and more together with 800 tasks a minute.
const HIGHEST: f64 = 22.0;

/// The price of a look.
#[derive(Clone, Debug)]
pub struct Price {
    level: f64,
    lowest: f64,
    set_at: Option<Steady>,
    good_for: Duration,
}

impl Price {
    /// A look must save at least `worth`.
    #[must_use]
    pub fn new(worth: Duration) -> Self {
        let lowest = worth.as_secs_f64();
        Self { level: level_of(lowest), lowest, set_at: None, good_for: GOOD_FOR }
    }

    /// The price, as a level of the table.
    #[must_use]
    pub fn level(&self) -> f64 {
        self.level
    }

    /// The row of the table nearest to the price.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number")]
    pub fn row(&self) -> usize {
        self.level.round() as usize
    }

    /// The least that it may be, as a level of the table.
    #[must_use]
    pub fn lowest(&self) -> f64 {
        level_of(self.lowest)
    }

    /// Whether it is time for a new price.
    #[must_use]
    pub fn stale(&self, now: Steady) -> bool {
        self.set_at.is_none_or(|at| now >= at.after(self.good_for))
    }

    /// When it is time for a new price.
    #[must_use]
    pub fn next_at(&self, now: Steady) -> Steady {
        self.set_at.map_or(now, |at| at.after(self.good_for))
    }

    /// Sets the price anew; `load` tells what share of the room the looks would take that a row's
    /// price leads to.
    /// `classes` is what a forecast has to go through: with many, the price is found less often.
    pub fn update(&mut self, now: Steady, classes: usize, load: impl Fn(usize) -> f64) {
        self.set_at = Some(now);
        let rounds = classes.div_ceil(CLASSES_PER_SECOND).clamp(1, SECONDS_MAX);
        self.good_for = GOOD_FOR * u32::try_from(rounds).unwrap_or(1);
        let market = price_at(fitting(self.row_below(), |row| load(row) / LOOKS_A_PLACE));
        self.level = level_of((market * SHARE).min(HIGHEST).max(self.lowest));
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number")]
    fn row_below(&self) -> usize {
        self.level as usize
    }
}

/// The level at which the load is one, searched from a row near it.
fn fitting(start: usize, load: impl Fn(usize) -> f64) -> f64 {
    let mut row = start;
    let mut here = load(row);
    if here > 1.0 {
        while row + 1 < PRICES {
            let next = load(row + 1);
            if next <= 1.0 {
                return between(row, here, next);
            }
            (row, here) = (row + 1, next);
        }
    } else {
        while row > 0 {
            let next = load(row - 1);
            if next > 1.0 {
                return between(row - 1, next, here);
            }
            (row, here) = (row - 1, next);
        }
    }
    as_level(row)
}

/// Where between a row and the next the load passes one: it falls like a power of the price.
fn between(row: usize, above: f64, below: f64) -> f64 {
    as_level(row) + (above.ln() / (above / below.max(1e-6)).ln()).clamp(0.0, 1.0)
}

#[expect(clippy::cast_precision_loss, reason = "a few dozen rows")]
fn as_level(row: usize) -> f64 {
    row as f64
}
