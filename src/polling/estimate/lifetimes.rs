//! How long tasks take to settle: a smooth distribution on the grid of ages.

use std::sync::{Arc, LazyLock};

use super::ages::{self, POINTS};

/// The share of all tasks that the prior expects to settle hours later, or never.
const PRIOR_NEVER: f64 = 0.01;
/// The prior's median age, seconds, and its spread in `ln(1 + age)`: Feishu says "normally within
/// a minute", so that is where 93 % are.
const PRIOR_MEDIAN: f64 = 12.0;
const PRIOR_SPREAD: f64 = 1.05;

/// A distribution of the age at which a task settles.
#[derive(Clone, Debug, PartialEq)]
pub struct Lifetimes {
    /// The share not settled at each point.
    survive: Box<[f32]>,
    /// The density at each point, per second.
    density: Box<[f32]>,
}

impl Lifetimes {
    /// The distribution with these shares settling between each point and the next; what is left
    /// of 1 settles later or never.
    #[must_use]
    pub fn of_cells(cells: &[f64]) -> Self {
        debug_assert_eq!(cells.len(), POINTS - 1);
        let slope = |cell: usize| cells[cell].max(0.0) / (ages::age(cell + 1) - ages::age(cell));
        let density: Vec<f64> = (0..POINTS)
            .map(|point| match point {
                0 => slope(0),
                last if last == POINTS - 1 => slope(last - 1),
                inner => f64::midpoint(slope(inner - 1), slope(inner)),
            })
            .collect();
        // The shares are those of a density that is straight between the points, to the last
        // digit: short gaps hang on the difference of the two.
        let mut settled = vec![0.0; POINTS];
        for point in 1..POINTS {
            let width = ages::age(point) - ages::age(point - 1);
            settled[point] =
                settled[point - 1] + width * f64::midpoint(density[point - 1], density[point]);
        }
        let whole: f64 = cells.iter().sum();
        let scale = whole.min(1.0) / settled[POINTS - 1].max(1e-12);
        let survive: Vec<f32> =
            settled.iter().map(|settled| narrow((1.0 - settled * scale).max(0.0))).collect();
        let density: Vec<f32> = density.iter().map(|density| narrow(density * scale)).collect();
        Self { survive: survive.into(), density: density.into() }
    }

    /// The distribution with these chances to settle in each cell, for a task that comes to it.
    #[must_use]
    pub fn of_chances(chances: &[f64]) -> Self {
        let mut left = 1.0;
        let cells: Vec<f64> = chances
            .iter()
            .map(|chance| {
                let share = left * chance;
                left -= share;
                share
            })
            .collect();
        Self::of_cells(&cells)
    }

    /// What is expected where nothing has been seen yet.
    #[must_use]
    pub fn prior() -> Arc<Self> {
        static PRIOR: LazyLock<Arc<Lifetimes>> =
            LazyLock::new(|| Arc::new(Lifetimes::of_chances(prior_chances())));
        Arc::clone(&PRIOR)
    }

    /// The share not settled at an age in seconds.
    #[must_use]
    pub fn survival(&self, age: f64) -> f64 {
        ages::at(&self.survive, ages::place(age))
    }

    /// The share not settled at each point.
    #[must_use]
    pub fn survive(&self) -> &[f32] {
        &self.survive
    }

    /// The density at each point, per second.
    #[must_use]
    pub fn density(&self) -> &[f32] {
        &self.density
    }

    /// The chance that a task pending at `last` has settled by `now` (ages in seconds).
    #[must_use]
    pub fn settled_between(&self, last: f64, now: f64) -> f64 {
        let before = self.survival(last).max(1e-9);
        (1.0 - self.survival(now) / before).clamp(0.0, 1.0)
    }
}

/// The prior's chance to settle in each cell, for a task that comes to it.
#[must_use]
pub fn prior_chances() -> &'static [f64] {
    static CHANCES: LazyLock<Vec<f64>> = LazyLock::new(|| {
        let mut left = 1.0;
        let chances = prior_cells().into_iter().enumerate().map(|(cell, share)| {
            let chance = f64::max(share / left, tail(ages::age(cell + 1)));
            left -= share;
            chance
        });
        chances.collect()
    });
    &CHANCES
}

/// However old a task is, its chance to settle before it is e times as old: the way heavy tails
/// do it. With less the last stragglers would starve.
const TAIL_RATE: f64 = 0.8;

/// The chance, in the cell that ends at an age (seconds), of a task in the tail.
fn tail(age: f64) -> f64 {
    let in_tail = (age / PRIOR_MEDIAN).min(1.0);
    TAIL_RATE * in_tail * ages::STEP * age / (1.0 + age)
}

fn prior_cells() -> Vec<f64> {
    let centre = PRIOR_MEDIAN.ln_1p();
    let bell: Vec<f64> = (0..POINTS - 1)
        .map(|cell| {
            #[expect(clippy::cast_precision_loss, reason = "a few hundred points")]
            let place = (cell as f64 + 0.5) * ages::STEP;
            let off = (place - centre) / PRIOR_SPREAD;
            // Heavier than a bell on both sides: a surprise must not be impossible.
            (-0.5 * off * off).exp() + 0.02 / (1.0 + off * off)
        })
        .collect();
    let sum: f64 = bell.iter().sum();
    bell.into_iter().map(|share| share / sum * (1.0 - PRIOR_NEVER)).collect()
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "shares and densities: seven digits are plenty"
)]
fn narrow(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prior_expects_most_tasks_within_a_minute() {
        let prior = Lifetimes::prior();
        assert!((0.85..0.97).contains(&prior.settled_between(0.0, 60.0)));
        assert!(prior.survival(3_600.0) < 0.03);
        assert!(prior.survive().is_sorted_by(|a, b| a >= b));
    }
}
