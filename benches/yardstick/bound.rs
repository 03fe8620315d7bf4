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

    /// `W_μ(0)` where a look at each age costs `price(age)`.
    pub(crate) fn cost(&self, price: impl Fn(f64) -> f64, one_price: bool) -> f64 {
        let last = NODES - 1;
        let mut value = vec![0.0; NODES];
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
            value[from] = least;
        }
        value[0]
    }

    /// `max over μ of W_μ(0) − μ·B`, and the μ.
    pub(crate) fn bound(&self, polls_per_task: f64) -> (f64, f64) {
        let (mut low, mut high) = (1e-4_f64.ln(), 1e4_f64.ln());
        let gain = |log: f64| {
            let price = log.exp();
            self.cost(|_| price, true) - price * polls_per_task
        };
        for _ in 0..32 {
            let (left, right) = (low + (high - low) * 0.382, low + (high - low) * 0.618);
            if gain(left) < gain(right) { low = left } else { high = right }
        }
        (gain(low), low.exp())
    }

    /// The burst bound: one price per aligned minute, each minute's looks at most `quota`.
    pub(crate) fn burst(&self, tasks: f64, quota: f64, minutes: usize) -> f64 {
        let share = quota / tasks;
        let mut prices = vec![1.0_f64; minutes];
        let value = |prices: &[f64]| {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "minutes")]
            let at = |age: f64| prices.get((age / 60.0) as usize).copied().unwrap_or(0.0);
            self.cost(at, false) - prices.iter().sum::<f64>() * share
        };
        let mut most = value(&prices);
        let mut stride = 16.0;
        while stride > 0.05 {
            let mut moved = false;
            for minute in 0..minutes {
                for change in [stride, -stride] {
                    let mut tried = prices.clone();
                    tried[minute] = (tried[minute] + change).max(0.0);
                    let gained = value(&tried);
                    if gained > most + 1e-9 {
                        (most, prices, moved) = (gained, tried, true);
                    }
                }
            }
            if !moved {
                stride /= 2.0;
            }
        }
        most
    }
}
