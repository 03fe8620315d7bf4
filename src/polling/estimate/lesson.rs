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

#[cfg(test)]
mod tests {
    use super::super::Estimate;
    use super::*;

    fn worked_out(mut lesson: Lesson) -> (Lesson, Arc<Lifetimes>) {
        loop {
            if let Some(life) = lesson.step() {
                return (lesson, life);
            }
        }
    }

    fn settle(estimate: &mut Estimate, tasks: usize, age: f64) {
        for _ in 0..tasks {
            estimate.pending(0.0, age * 0.9);
            estimate.settled(age * 0.9, age);
        }
    }

    #[test]
    fn one_lesson_at_a_time_and_nothing_changes_before_it_is_learned() {
        let mut estimate = Estimate::new();
        settle(&mut estimate, 10, 5.0);
        let Some(lesson) = estimate.lesson() else { panic!("ten tasks are news") };
        settle(&mut estimate, 10, 5.0);
        assert!(estimate.lesson().is_none(), "the first is still being worked out");
        assert_eq!(estimate.life(), &Lifetimes::prior());
        let (lesson, life) = worked_out(lesson);
        assert!(estimate.learned(lesson, life));
        let expected = Lifetimes::prior().settled_between(4.0, 5.5);
        assert!(estimate.life().settled_between(4.0, 5.5) > 2.0 * expected);
        assert!(estimate.lesson().is_some(), "what came meanwhile is learned next");
    }

    #[test]
    fn a_lesson_from_before_a_drift_is_void() {
        let mut estimate = Estimate::new();
        for _ in 0..20 {
            settle(&mut estimate, 100, 5.0);
            if let Some(lesson) = estimate.lesson() {
                let (lesson, life) = worked_out(lesson);
                assert!(estimate.learned(lesson, life));
            }
        }
        settle(&mut estimate, 400, 5.0);
        let Some(old) = estimate.lesson() else { panic!("four hundred tasks are news") };
        while !estimate.drifted() {
            settle(&mut estimate, 1, 40.0);
        }
        let (old, life) = worked_out(old);
        let known = Arc::clone(estimate.life());
        assert!(!estimate.learned(old, life));
        assert_eq!(estimate.life(), &known);
    }
}
