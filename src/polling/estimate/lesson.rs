//! Estimating anew, a little at a time: a poll that is due meanwhile does not wait for the end.

use std::sync::Arc;

use super::fit::{self, Evidence, Span};
use super::lifetimes::Lifetimes;

/// What there is to learn, and how far that is.
#[derive(Debug)]
pub struct Lesson {
    /// What was learned before this is not comparable with what was learned after another drift.
    pub(super) era: u32,
    /// The chances to settle in each cell, better with each round.
    pub(super) chances: Vec<f64>,
    /// Where tasks settled, each with its weight.
    pub(super) spans: Vec<(Span, f64)>,
    /// Tasks that went through each cell without settling, by weight.
    pub(super) passed: Vec<f64>,
    /// What is expected where looks told nothing.
    pub(super) prior: Vec<f64>,
    /// How smooth the outcome is to be.
    pub(super) kernel: Vec<f64>,
    /// Rounds done.
    pub(super) rounds: u32,
}

impl Lesson {
    /// Goes one round further; how long tasks take once that is known.
    pub fn step(&mut self) -> Option<Arc<Lifetimes>> {
        self.rounds += 1;
        let last = self.rounds >= fit::ROUNDS;
        let evidence = Evidence { spans: &self.spans, passed: &self.passed, prior: &self.prior };
        fit::round(&mut self.chances, &evidence, last.then_some(self.kernel.as_slice()));
        last.then(|| Arc::new(Lifetimes::of_chances(&self.chances)))
    }
}
