//! What recent looks told, in a few kilobytes: fading counts of who went through which age
//! unsettled, and the last spans in which tasks settled.

use std::collections::VecDeque;

use super::ages::{self, POINTS};
use super::fit::{CELLS, Span};

/// Looks fade over so many settled tasks.
const MEMORY: f64 = 2_500.0;
/// Spans kept: four bytes each; what is older counts for little.
const SPANS_MAX: usize = 4_000;
/// When the past no longer holds, looks of the last so many settled tasks are kept.
const RECENT: f64 = 30.0;
const RECENT_SPANS: usize = 30;
/// Units grow instead of all counts fading; past this they are rescaled.
const UNIT_MAX: f32 = 1e6;

/// Counts of stretches passed, as differences from point to point, in units of the newest look.
#[derive(Clone, Debug)]
struct Passed {
    steps: Vec<f32>,
    unit: f32,
    settled: f64,
    memory: f64,
}

impl Passed {
    fn new(memory: f64) -> Self {
        Self { steps: Vec::new(), unit: 1.0, settled: 0.0, memory }
    }

    fn pass(&mut self, from: usize, to: usize) {
        if self.steps.is_empty() {
            self.steps = vec![0.0; POINTS];
        }
        self.steps[from] += self.unit;
        self.steps[to] -= self.unit;
    }

    #[expect(clippy::cast_possible_truncation, reason = "a factor near one")]
    fn fade(&mut self) {
        let factor = (1.0 / self.memory).exp();
        self.settled = self.settled / factor + 1.0;
        self.unit *= factor as f32;
        if self.unit > UNIT_MAX {
            for step in &mut self.steps {
                *step /= self.unit;
            }
            self.unit = 1.0;
        }
    }

    fn by_cell(&self, scale: f64) -> Vec<f64> {
        let mut through = 0.0;
        let step = |cell| self.steps.get(cell).map_or(0.0, |step| f64::from(*step));
        (0..CELLS)
            .map(|cell| {
                through += step(cell);
                through * scale / f64::from(self.unit)
            })
            .collect()
    }
}

/// What recent looks told.
#[derive(Clone, Debug)]
pub struct Looks {
    spans: VecDeque<Span>,
    passed: Passed,
    passed_lately: Passed,
}

impl Default for Looks {
    fn default() -> Self {
        Self {
            spans: VecDeque::new(),
            passed: Passed::new(MEMORY),
            passed_lately: Passed::new(RECENT),
        }
    }
}

impl Looks {
    /// A task pending at age `last` was still pending at age `at` (seconds).
    pub fn pending(&mut self, last: f64, at: f64) {
        let (from, to) = (ages::nearest(last), ages::nearest(at));
        if from < to {
            self.passed.pass(from, to);
            self.passed_lately.pass(from, to);
        }
    }

    /// A task pending at age `last` had settled by age `at` (seconds).
    pub fn settled(&mut self, last: f64, at: f64) {
        if self.spans.len() >= SPANS_MAX {
            self.spans.pop_front();
        }
        self.spans.push_back(Span::new(last, at));
        self.passed.fade();
        self.passed_lately.fade();
    }

    /// Forgets all but the latest.
    pub fn keep_latest(&mut self) {
        let forgotten = self.spans.len().saturating_sub(RECENT_SPANS);
        self.spans.drain(..forgotten);
        self.passed = Passed { memory: MEMORY, ..self.passed_lately.clone() };
    }

    /// Settled tasks that were seen, fading.
    #[must_use]
    pub fn weight(&self) -> f64 {
        self.passed.settled
    }

    /// The spans with their weights, and the tasks that went through each cell.
    #[must_use]
    pub fn evidence(&self) -> (Vec<(Span, f64)>, Vec<f64>) {
        let fade = (-1.0 / MEMORY).exp();
        let mut weight = 1.0;
        let mut total = 0.0;
        let mut spans = Vec::with_capacity(self.spans.len());
        for span in self.spans.iter().rev() {
            spans.push((*span, weight));
            total += weight;
            weight *= fade;
        }
        // The counts remember a little more than the spans that are kept.
        let scale = if self.passed.settled > 0.0 { total / self.passed.settled } else { 1.0 };
        (spans, self.passed.by_cell(scale))
    }
}
