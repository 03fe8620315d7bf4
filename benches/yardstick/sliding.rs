//! The floor for a burst under the quota as it really is: windows that slide, and a limit a second.
//!
//! The bound with one price per aligned minute lets a thousand polls go at second 60 although a
//! thousand went at second 59. Here every window has a price of its own; whatever these prices
//! are, `W(0) − Σ price × room` is a floor for every policy. They are found by subgradient ascent.

use crate::settling::Settling;

/// Seconds looked ahead; what is later is free, which can only lower the floor.
const AHEAD: usize = 300;
/// Steps to a second.
const FINE: usize = 2;
const STEPS: usize = AHEAD * FINE;
const WINDOW: usize = 60 * FINE;
const ROUNDS: u32 = 6_000;

/// The floor of the mean delay of so many tasks registered at once, seconds.
#[expect(clippy::cast_precision_loss, reason = "a few hundred steps")]
pub(crate) fn floor(settling: &Settling, tasks: f64, per_minute: f64, per_second: f64) -> f64 {
    let age = |step: usize| step as f64 / FINE as f64;
    let settled: Vec<f64> = (0..=STEPS).map(|step| settling.settled(age(step))).collect();
    let (minute, second) = (per_minute / tasks, per_second / FINE as f64 / tasks);
    // A price for the window that begins at each step, and one for the step itself.
    let (mut windows, mut steps) = (vec![0.0; STEPS + 1], vec![0.0; STEPS + 1]);
    let mut best = 0.0_f64;
    for round in 0..ROUNDS {
        let mut price = steps.clone();
        let mut open = 0.0;
        for step in 0..=STEPS {
            open += windows[step];
            if step >= WINDOW {
                open -= windows[step - WINDOW];
            }
            price[step] += open;
        }
        let (cost, looks) = schedule(&settled, &price);
        let paid = windows.iter().sum::<f64>() * minute + steps.iter().sum::<f64>() * second;
        best = best.max(cost - paid);
        let stride = 30.0 / (1.0 + f64::from(round)).sqrt();
        let mut within: f64 = looks[..WINDOW].iter().sum();
        for step in 0..=STEPS {
            windows[step] = f64::max(windows[step] + stride / 20.0 * (within - minute), 0.0);
            steps[step] = f64::max(steps[step] + stride * (looks[step] - second), 0.0);
            within -= looks[step];
            within += looks.get(step + WINDOW).copied().unwrap_or(0.0);
        }
    }
    best
}

/// The least cost of a task where a look at each step has its price, and the looks it takes.
fn schedule(settled: &[f64], price: &[f64]) -> (f64, Vec<f64>) {
    let last = settled.len() - 1;
    let width = 1.0 / f64::from(u32::try_from(FINE).unwrap_or(1));
    let mut value = vec![0.0; last + 1];
    let mut next = vec![last; last + 1];
    for from in (0..last).rev() {
        let pending = 1.0 - settled[from];
        let (mut area, mut least) = (0.0, f64::INFINITY);
        for to in from + 1..=last {
            area += width * (f64::midpoint(settled[to], settled[to - 1]) - settled[from]);
            let cost = area + price[to] * pending + value[to];
            if cost < least {
                (least, next[from]) = (cost, to);
            }
            if area > least {
                break;
            }
        }
        value[from] = least;
    }
    let mut looks = vec![0.0; last + 1];
    let mut at = 0;
    while at < last {
        let pending = 1.0 - settled[at];
        at = next[at];
        looks[at] += pending;
    }
    (value[0], looks)
}
