//! The chance to settle at each age, behind looks that only bracket when it happened: expectation
//! maximisation on the grid of ages, smoothed, shrunk towards a prior.
//!
//! A look is a look at one stretch of a task's life: from its last pending look to this one. What
//! counts per cell of the grid is how many tasks went through it and how many of them settled in
//! it. So looks of the last minutes tell about these minutes, whatever became of the tasks since.

use super::ages::{self, POINTS};

/// Cells of the grid, between each point and the next.
pub const CELLS: usize = POINTS - 1;

/// A task settled after one point of the grid and not after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Pending here.
    pub after: u16,
    /// Settled here.
    pub by: u16,
}

impl Span {
    /// It settled between two ages, in seconds.
    #[must_use]
    pub fn new(after: f64, by: f64) -> Self {
        let (low, high) = (ages::nearest(after), ages::nearest(by));
        if low < high {
            return Self { after: point(low), by: point(high) };
        }
        // Both round to one point: the cell in which it happened is known well enough.
        let (cell, _) = ages::place(f64::midpoint(after, by));
        Self { after: point(cell), by: point(cell + 1) }
    }
}

fn point(point: usize) -> u16 {
    u16::try_from(point).unwrap_or(u16::MAX)
}

/// What there is to fit.
pub struct Evidence<'a> {
    /// Where tasks settled, each with its weight.
    pub spans: &'a [(Span, f64)],
    /// Tasks that went through each cell without settling, by weight.
    pub passed: &'a [f64],
    /// What is expected: the chance to settle in each cell.
    pub prior: &'a [f64],
}

/// So many tasks going through a cell count as much as the prior.
const PRIOR_WEIGHT: f64 = 5.0;
/// Rounds of fitting: it starts from the last fit, so few are enough.
pub const ROUNDS: u32 = 14;

/// Fits the chance to settle in each cell one round better than `chances`; the last round smooths
/// them with a kernel.
pub fn round(chances: &mut [f64], evidence: &Evidence<'_>, kernel: Option<&[f64]>) {
    let (settled, exposed) = expected(chances, evidence);
    let prior = &tempered(evidence.prior, &settled, &exposed);
    // Where little is known chances stay in proportion to the prior's.
    let would: Vec<f64> = exposed.iter().zip(prior).map(|(tasks, prior)| tasks * prior).collect();
    let (settled, would) = match kernel {
        Some(kernel) => (smooth(&settled, kernel), smooth(&would, kernel)),
        None => (settled, would),
    };
    for cell in 0..CELLS {
        let shrunk = PRIOR_WEIGHT * prior[cell];
        let ratio = (settled[cell] + shrunk) / (would[cell] + shrunk).max(1e-12);
        chances[cell] = (prior[cell] * ratio).min(CHANCE_MAX);
    }
}

/// Ages that count as before a cell: down to this part of its own, in cells.
const BEFORE: usize = 33;
/// So many expected ends that did not happen bring the prior down to half.
const PATIENCE: f64 = 20.0;

/// Of all tasks that settled, this share did so before the tail.
const BEFORE_TAIL: f64 = 0.99;

/// The prior, but in the tail less, where fewer tasks than it expects settled in the cells before:
/// tasks older than all others tell nothing of their own age yet, but if none settled for long
/// there is no reason to expect it just now. Without this a few hundred that never settle would
/// take a good part of the quota.
fn tempered(prior: &[f64], settled: &[f64], exposed: &[f64]) -> Vec<f64> {
    let whole: f64 = settled.iter().sum();
    let mut so_far = 0.0;
    let mut window = (PATIENCE, PATIENCE);
    let of = |cell: usize| (settled[cell], exposed[cell] * prior[cell]);
    let mut tempered = prior.to_vec();
    for cell in 0..CELLS {
        if so_far >= BEFORE_TAIL * whole {
            tempered[cell] *= (window.0 / window.1).min(1.0);
        }
        so_far += settled[cell];
        let (seen, expected) = of(cell);
        window = (window.0 + seen, window.1 + expected);
        if let Some(left) = cell.checked_sub(BEFORE) {
            let (seen, expected) = of(left);
            window = (window.0 - seen, window.1 - expected);
        }
    }
    tempered
}

/// No cell is certain to be the last.
const CHANCE_MAX: f64 = 0.95;

/// How many tasks settled in each cell, and how many went into it, as `chances` would have it.
fn expected(chances: &[f64], evidence: &Evidence<'_>) -> (Vec<f64>, Vec<f64>) {
    let mut below = vec![0.0; POINTS];
    let mut shares = vec![0.0; CELLS];
    let mut left = 1.0;
    for cell in 0..CELLS {
        shares[cell] = (left * chances[cell]).max(1e-12);
        below[cell + 1] = below[cell] + shares[cell];
        left -= left * chances[cell];
    }
    // Per unit of share: how many tasks settled there, and how much share lies before their end.
    let (mut density, mut ends) = (vec![0.0; POINTS], vec![0.0; POINTS]);
    for (span, weight) in evidence.spans {
        let (from, to) = (usize::from(span.after), usize::from(span.by).min(CELLS));
        let per_share = weight / (below[to] - below[from]).max(1e-12);
        density[from] += per_share;
        density[to] -= per_share;
        ends[from] += per_share * below[to];
        ends[to] -= per_share * below[to];
    }
    let (mut settled, mut exposed) = (vec![0.0; CELLS], vec![0.0; CELLS]);
    let (mut here, mut end) = (0.0, 0.0);
    for cell in 0..CELLS {
        here += density[cell];
        end += ends[cell];
        settled[cell] = shares[cell] * here;
        exposed[cell] = evidence.passed[cell].max(0.0) + (end - below[cell] * here).max(0.0);
    }
    (settled, exposed)
}

/// The smoothing width for one observation, in ln(1 + age); it shrinks with their fifth root. Of
/// 0.35 to 0.65 this came nearest to the bound over sixteen distributions and four loads.
const WIDTH: f64 = 0.55;
/// Less than the grid's own step would smooth nothing.
const WIDTH_MIN: f64 = 0.03;

/// The kernel of an estimate from so many observations, as weights by distance in cells.
#[must_use]
pub fn kernel(observations: f64) -> Vec<f64> {
    let width = (WIDTH * observations.max(1.0).powf(-0.2)).max(WIDTH_MIN) / ages::STEP;
    let mut weights = Vec::new();
    for distance in 0..POINTS / 4 {
        #[expect(clippy::cast_precision_loss, reason = "a few hundred points")]
        let off = distance as f64 / width;
        if off > 3.0 {
            break;
        }
        weights.push((-0.5 * off * off).exp());
    }
    let sum: f64 = weights[0] + 2.0 * weights[1..].iter().sum::<f64>();
    for weight in &mut weights {
        *weight /= sum;
    }
    weights
}

fn smooth(values: &[f64], kernel: &[f64]) -> Vec<f64> {
    let last = CELLS - 1;
    let mut smoothed = vec![0.0; CELLS];
    for (cell, value) in values.iter().enumerate() {
        smoothed[cell] += value * kernel[0];
        for (distance, weight) in kernel.iter().enumerate().skip(1) {
            // What would fall off an end is reflected back in.
            let left = if cell >= distance { cell - distance } else { distance - cell - 1 };
            let right = cell + distance;
            let right = if right <= last { right } else { 2 * last + 1 - right };
            smoothed[left] += value * weight;
            smoothed[right] += value * weight;
        }
    }
    smoothed
}
