//! The distribution behind interval-censored observations: expectation maximisation on the grid of
//! ages, smoothed after every round, shrunk towards a prior.

use super::ages::{self, POINTS};

/// What watching one task told: it settled after point `after` and not after point `by`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Pending here.
    pub after: u16,
    /// Settled here; [`Span::NEVER`] if it was still pending when watching it ended.
    pub by: u16,
}

/// Cells of the grid; the last one is "later, or never".
pub const CELLS: usize = POINTS;

impl Span {
    /// Not settled as far as anybody looked.
    #[expect(clippy::cast_possible_truncation, reason = "a few hundred points")]
    pub const NEVER: u16 = POINTS as u16;

    /// It settled between two ages, in seconds.
    #[must_use]
    pub fn settled(after: f64, by: f64) -> Self {
        let (low, high) = (ages::nearest(after), ages::nearest(by));
        if low < high {
            return Self { after: point(low), by: point(high) };
        }
        // Both round to one point: the cell in which it happened is known well enough.
        let (cell, _) = ages::place(f64::midpoint(after, by));
        Self { after: point(cell), by: point(cell + 1) }
    }

    /// It was still pending at an age, in seconds.
    #[must_use]
    pub fn pending(at: f64) -> Self {
        Self { after: point(ages::nearest(at)), by: Self::NEVER }
    }
}

fn point(point: usize) -> u16 {
    u16::try_from(point).unwrap_or(u16::MAX)
}

/// The kernel with which shares are smoothed, as weights by distance in cells.
#[must_use]
pub fn kernel(observations: f64) -> Vec<f64> {
    // As wide as an estimate from so many observations deserves, in ln(1 + age).
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
    weights.iter_mut().for_each(|weight| *weight /= sum);
    weights
}

/// The smoothing width for one observation; it shrinks with their fifth root.
const WIDTH: f64 = 0.3;
/// Less than the grid's own step would smooth nothing.
const WIDTH_MIN: f64 = 0.03;

/// One round: every observation is spread over its span in proportion to `shares`.
pub fn round(
    shares: &mut Vec<f64>,
    spans: &[(Span, f64)],
    prior: &[f64],
    prior_weight: f64,
    kernel: &[f64],
) {
    let mut below = vec![0.0; CELLS + 1];
    for cell in 0..CELLS {
        below[cell + 1] = below[cell] + shares[cell];
    }
    let mut change = vec![0.0; CELLS + 1];
    let mut total = prior_weight;
    for (span, weight) in spans {
        let (from, to) = (usize::from(span.after), usize::from(span.by));
        let within = (below[to] - below[from]).max(1e-12);
        change[from] += weight / within;
        change[to] -= weight / within;
        total += weight;
    }
    let mut density = 0.0;
    for cell in 0..CELLS {
        density += change[cell];
        shares[cell] = (shares[cell] * density + prior_weight * prior[cell]) / total;
    }
    smooth(shares, prior, kernel);
}

/// Smooths all cells but the last, keeping their sum. What is smoothed is how the shares differ
/// from the prior's: where nothing is known, they become like the prior.
fn smooth(shares: &mut Vec<f64>, prior: &[f64], kernel: &[f64]) {
    let last = CELLS - 1;
    let mut smoothed = vec![0.0; CELLS];
    smoothed[last] = shares[last];
    for cell in 0..last {
        let share = shares[cell] / prior[cell];
        smoothed[cell] += share * kernel[0];
        for (distance, weight) in kernel.iter().enumerate().skip(1) {
            // What would fall off an end is reflected back in.
            let left = if cell >= distance { cell - distance } else { distance - cell - 1 };
            let right = cell + distance;
            let right = if right < last { right } else { 2 * last - 1 - right };
            smoothed[left] += share * weight;
            smoothed[right] += share * weight;
        }
    }
    let whole: f64 = shares[..last].iter().sum();
    let mut sum = 0.0;
    for cell in 0..last {
        smoothed[cell] *= prior[cell];
        sum += smoothed[cell];
    }
    for share in &mut smoothed[..last] {
        *share *= whole / sum.max(1e-12);
    }
    *shares = smoothed;
}
