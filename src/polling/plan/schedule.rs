//! The best schedule of looks at one task for one price of a look: the optimum-checking problem of
//! Barlow, Hunter and Proschan (1963), solved backwards over the grid of ages.
//!
//! With `V(t)` the cost of a task from its last pending look at age `t` on, times the share still
//! pending then,
//!
//! ```text
//! V(t) = min over s > t of  ∫ₜˢ (s−x) f(x) dx  +  μ S(t)  +  V(s)
//! ```
//!
//! the best `s` makes `F(s) − F(t) = f(s) (g(s) + μ)`, where `g(s)` is the gap that follows, and
//! `V′(t) = −f(t) (g(t) + μ)`. Both hold between the points of the grid too, which is what makes
//! gaps shorter than the grid's own steps exact.

use std::collections::VecDeque;

use crate::polling::estimate::ages::{self, POINTS};
use crate::polling::estimate::lifetimes::Lifetimes;

/// The schedule for one price.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Seconds from a pending look at each point's age to the next look.
    gaps: Box<[f32]>,
    /// Looks that a task has had on average when it reaches each point.
    looks: Box<[f32]>,
}

impl Schedule {
    /// The best schedule where a look costs `price` seconds of waiting.
    #[must_use]
    pub fn solve(life: &Lifetimes, price: f64) -> Self {
        let mut solver = Solver::new(life, price);
        for point in (0..POINTS - 1).rev() {
            solver.step(point);
        }
        let gaps: Box<[f32]> = solver.gap.iter().map(|gap| narrow(*gap)).collect();
        let looks = looks_by_age(life, &solver.gap);
        Self { gaps, looks }
    }

    /// Seconds from a pending look at this place to the next look.
    #[must_use]
    pub fn gap(&self, place: (usize, f64)) -> f64 {
        ages::at(&self.gaps, place)
    }

    /// Looks that a task has had on average when it reaches an age (seconds).
    #[must_use]
    pub fn looks(&self, age: f64) -> f64 {
        ages::at(&self.looks, ages::place(age))
    }

    /// Expected looks and expected delay (seconds) of a new task under this schedule.
    #[must_use]
    pub fn expected(&self, life: &Lifetimes) -> (f64, f64) {
        let last = ages::age(POINTS - 1);
        let (mut age, mut looks, mut delay) = (0.0, 0.0, 0.0);
        while age < last {
            let place = ages::place(age);
            let left = ages::at(life.survive(), place);
            if left <= UNCOUNTED {
                break;
            }
            let next = (age + self.gap(place).max(1e-3)).min(last);
            looks += left;
            delay += waiting_of(left, life, age, next);
            age = next;
        }
        (looks, delay)
    }
}

/// The share of stragglers that the figures shown to people leave out: following them to the end
/// costs more than planning their looks.
const UNCOUNTED: f64 = 2e-3;

/// `∫ (s−x) f(x) dx` from `t` to `s`: the area between `F` and its value at `t`.
#[must_use]
pub fn waiting(life: &Lifetimes, t: f64, s: f64) -> f64 {
    waiting_of(life.survival(t), life, t, s)
}

/// The same where the share `before` is pending at `t`.
fn waiting_of(before: f64, life: &Lifetimes, t: f64, s: f64) -> f64 {
    const SLICES: u32 = 4;
    let width = (s - t) / f64::from(SLICES);
    (0..SLICES)
        .map(|slice| (before - life.survival(t + (f64::from(slice) + 0.5) * width)) * width)
        .sum()
}

/// A look every gap, weighted by who is still pending: the integral of `S(x) / g(x)`.
fn looks_by_age(life: &Lifetimes, gap: &[f64]) -> Box<[f32]> {
    let rate = |point: usize| f64::from(life.survive()[point]) / gap[point].max(1e-3);
    let mut sum = 0.0;
    let mut looks = Vec::with_capacity(POINTS);
    looks.push(0.0);
    for point in 1..POINTS {
        let width = ages::age(point) - ages::age(point - 1);
        sum += width * f64::midpoint(rate(point - 1), rate(point));
        looks.push(narrow(sum));
    }
    looks.into()
}

/// However old, a task may settle within its age again with at least about this chance: otherwise
/// a few digits of rounding could keep it from ever being looked at again.
const LEAST_HAZARD: f64 = 1e-3;

struct Solver {
    price: f64,
    age: &'static [f64; POINTS],
    settled: Vec<f64>,
    density: Vec<f64>,
    value: Vec<f64>,
    /// The area under `settled` up to each point, and the value there.
    total: Vec<f64>,
    gap: Vec<f64>,
    /// Points for the next look that may be best for this one or an earlier one, oldest first.
    lines: VecDeque<usize>,
}

impl Solver {
    fn new(life: &Lifetimes, price: f64) -> Self {
        let age = ages::all();
        let density: Vec<f64> = life.density().iter().map(|at| f64::from(*at)).collect();
        // Summed here, not taken from the shares: their seven digits are too few for short gaps.
        let (mut settled, mut area) = (vec![0.0; POINTS], vec![0.0; POINTS]);
        for point in 1..POINTS {
            let width = age[point] - age[point - 1];
            let (before, here) = (density[point - 1], density[point]);
            settled[point] = settled[point - 1] + width * f64::midpoint(before, here);
            let rises = (2.0 * before + here) * width / 6.0;
            area[point] = area[point - 1] + width * (settled[point - 1] + rises);
        }
        // One more look at whoever is still pending there.
        let mut value = vec![0.0; POINTS];
        value[POINTS - 1] = price * f64::from(life.survive()[POINTS - 1]);
        let mut total = area;
        total[POINTS - 1] += value[POINTS - 1];
        let (gap, lines) = (vec![0.0; POINTS], VecDeque::new());
        let mut solver = Self { price, age, settled, density, value, total, gap, lines };
        // What happens past the grid is as in its last cell.
        solver.gap[POINTS - 1] = solver.short_gap(POINTS - 1);
        solver
    }

    fn step(&mut self, point: usize) {
        let best = self.best(point);
        let (gap, value) = self.refined(point, best);
        self.gap[point] = gap;
        self.value[point] = value;
        self.total[point] += value;
    }

    /// The best point for the look after one at `point`.
    ///
    /// What differs between later points is a total of each less its age times the share settled
    /// by `point`: straight lines in that share, which falls from step to step, while each step
    /// adds a flatter line. So the lowest line is the first of those that may still become it.
    fn best(&mut self, point: usize) -> usize {
        self.add_line(point + 1);
        let share = self.settled[point];
        let cost = |next: usize| self.total[next] - share * self.age[next];
        while self.lines.len() > 1 && cost(self.lines[1]) <= cost(self.lines[0]) {
            self.lines.pop_front();
        }
        self.lines[0]
    }

    /// Adds the line of a point, and drops those that it keeps from ever being the lowest.
    fn add_line(&mut self, point: usize) {
        // The share below which the later line of two is lower.
        let below = |one: usize, other: usize| {
            (self.total[one] - self.total[other]) / (self.age[one] - self.age[other])
        };
        while let [.., before, last] = self.lines.make_contiguous()[..]
            && below(last, point) >= below(before, last)
        {
            self.lines.pop_back();
        }
        self.lines.push_back(point);
    }

    /// How the cost changes as the look after `point` moves past `next`.
    fn slope(&self, point: usize, next: usize) -> f64 {
        self.settled[next]
            - self.settled[point]
            - self.density[next] * (self.gap[next] + self.price)
    }

    /// The gap after a look at `point` and the value there, between the grid's points.
    fn refined(&self, point: usize, best: usize) -> (f64, f64) {
        let here = self.age[point];
        let cell = self.age[point + 1] - here;
        // Only near a look that the grid itself would have soon can there be one sooner still.
        let short = (best <= point + 2).then(|| self.short_gap(point)).filter(|gap| *gap < cell);
        let gap = if let Some(short) = short {
            short
        } else {
            let at_best = self.slope(point, best);
            let other = if at_best > 0.0 { best - 1 } else { (best + 1).min(POINTS - 1) };
            let at_other = self.slope(point, other);
            let share = if at_best * at_other < 0.0 { at_best / (at_best - at_other) } else { 0.0 };
            self.age[best] + (self.age[other] - self.age[best]) * share - here
        };
        let (f, later_f) = (self.density[point], self.density[point + 1]);
        let (pays, later_pays) = (gap + self.price, self.gap[point + 1] + self.price);
        let falls = f * (2.0 * pays + later_pays) + later_f * (pays + 2.0 * later_pays);
        (gap, self.value[point + 1] + cell * falls / 6.0)
    }

    /// The best gap under a constant hazard `h`: `e^(hg) − 1 = h (g + μ)`.
    fn short_gap(&self, point: usize) -> f64 {
        let left = (1.0 - self.settled[point]).max(1e-9);
        let least = LEAST_HAZARD / (1.0 + self.age[point]);
        let hazard = (self.density[point] / left).max(least);
        let mut gap = (2.0 * self.price / hazard).sqrt();
        for _ in 0..3 {
            let grown = (hazard * gap).exp();
            let excess = grown - 1.0 - hazard * (gap + self.price);
            gap -= excess / (hazard * (grown - 1.0)).max(1e-12);
        }
        gap
    }
}

#[expect(clippy::cast_possible_truncation, reason = "seconds: seven digits are plenty")]
fn narrow(value: f64) -> f32 {
    value as f32
}
