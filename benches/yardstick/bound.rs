//! The lower bound on the mean detection delay, by brute force, independent of the scheduler.

use super::settling::Settling;

#[expect(clippy::cast_precision_loss, reason = "a few thousand nodes")]
fn node(node: usize) -> f64 {
    (node as f64 * STEP).exp_m1()
}

const NODES: usize = 2_600;
const STEP: f64 = 0.0036;

/// Ages and the share settled by each.
pub(crate) struct Grid {
    age: Vec<f64>,
    settled: Vec<f64>,
}

impl Grid {
    pub(crate) fn new(settling: &Settling) -> Self {
        let age: Vec<f64> = (0..NODES).map(node).collect();
        let settled = age.iter().map(|age| settling.settled(*age)).collect();
        Self { age, settled }
    }

    /// `W_μ(0)` where a look at any age costs `price`.
    pub(crate) fn cost(&self, price: f64) -> f64 {
        self.solve(|_| price, true).0
    }

    /// `W(0)` where a look at each age costs `price(age)`, and the look after one at each node.
    fn solve(&self, price: impl Fn(f64) -> f64, one_price: bool) -> (f64, Vec<usize>) {
        let last = NODES - 1;
        let mut value = vec![0.0; NODES];
        let mut next = vec![last; NODES];
        let mut limit = last;
        for from in (0..last).rev() {
            let (mut area, mut least, mut at) = (0.0, f64::INFINITY, last);
            let pending = 1.0 - self.settled[from];
            #[expect(clippy::needless_range_loop, reason = "three arrays at once")]
            for to in from + 1..=limit {
                let width = self.age[to] - self.age[to - 1];
                area += width
                    * (f64::midpoint(self.settled[to], self.settled[to - 1]) - self.settled[from]);
                let total = area + price(self.age[to]) * pending + value[to];
                if total < least {
                    (least, at) = (total, to);
                }
                // No schedule is better than waiting alone.
                if area > least {
                    break;
                }
            }
            // Best looks are ordered as the looks before them, where the price is one for all ages.
            if one_price {
                limit = (at + 1).min(last);
            }
            (value[from], next[from]) = (least, at);
        }
        (value[0], next)
    }

    /// `max over μ of W_μ(0) − μ·B`, and the μ.
    pub(crate) fn bound(&self, polls_per_task: f64) -> (f64, f64) {
        let (mut low, mut high) = (1e-4_f64.ln(), 1e4_f64.ln());
        let gain = |log: f64| {
            let price = log.exp();
            self.cost(price) - price * polls_per_task
        };
        for _ in 0..32 {
            let (left, right) = (low + (high - low) * 0.382, low + (high - low) * 0.618);
            if gain(left) < gain(right) { low = left } else { high = right }
        }
        (gain(low), low.exp())
    }

    /// The burst bound: one price per aligned minute, each minute's looks at most `quota`.
    ///
    /// `W(0) − Σ price × quota` is concave in the prices but not smooth: going up one price at a
    /// time gets stuck on its edges. The ellipsoid method (Shor, Yudin and Nemirovski, 1976) does
    /// not: each step keeps the half of an ellipsoid in which a subgradient says the most lies.
    pub(crate) fn burst(&self, tasks: f64, quota: f64, minutes: usize) -> f64 {
        let share = quota / tasks;
        let n = f64::from(u32::try_from(minutes).unwrap_or(u32::MAX));
        let mut prices = vec![10.0_f64; minutes];
        let mut shape = vec![vec![0.0; minutes]; minutes];
        for (minute, row) in shape.iter_mut().enumerate() {
            row[minute] = n * PRICE_SPAN * PRICE_SPAN;
        }
        let mut most = 0.0_f64;
        for _ in 0..CUTS {
            let falls = if let Some(below) = prices.iter().position(|price| *price < 0.0) {
                (0..minutes).map(|minute| if minute == below { -1.0 } else { 0.0 }).collect()
            } else {
                let (cost, looks) = self.by_minute(&prices);
                most = most.max(cost - prices.iter().sum::<f64>() * share);
                looks.iter().map(|looks| share - looks).collect::<Vec<f64>>()
            };
            let dot = |one: &[f64]| one.iter().zip(&falls).map(|(a, b)| a * b).sum::<f64>();
            let along: Vec<f64> = shape.iter().map(|row| dot(row)).collect();
            let width = dot(&along);
            if width < 1e-12 {
                break;
            }
            for (price, along) in prices.iter_mut().zip(&along) {
                *price -= along / width.sqrt() / (n + 1.0);
            }
            for (row, one) in shape.iter_mut().zip(&along) {
                for (cell, other) in row.iter_mut().zip(&along) {
                    *cell = (*cell - 2.0 / (n + 1.0) * one * other / width) * n * n / (n * n - 1.0);
                }
            }
        }
        most
    }

    /// The cost at these prices, one a minute, and the looks of a task in each of the minutes.
    fn by_minute(&self, prices: &[f64]) -> (f64, Vec<f64>) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "minutes")]
        let minute = |age: f64| (age / 60.0) as usize;
        let price = |age: f64| prices.get(minute(age)).copied().unwrap_or(0.0);
        let (cost, next) = self.solve(price, false);
        let mut looks = vec![0.0; prices.len()];
        let mut at = 0;
        while at < NODES - 1 {
            let pending = 1.0 - self.settled[at];
            at = next[at];
            if let Some(looks) = looks.get_mut(minute(self.age[at])) {
                *looks += pending;
            }
        }
        (cost, looks)
    }
}

/// Prices looked for lie within so many seconds of the first guess.
const PRICE_SPAN: f64 = 60.0;
/// Each cut takes at least a hundredth off what six prices can be.
const CUTS: u32 = 700;
