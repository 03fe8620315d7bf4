//! What a lane has learned about how long its tasks take.
//!
//! Every task that ends tells an interval in which it settled. The last few thousand intervals and
//! those still open make the estimate; when looks come out otherwise than it predicts, all but the
//! latest are dropped.

pub mod ages;
pub mod drift;
pub mod fit;
pub mod lifetimes;

use std::collections::VecDeque;
use std::sync::Arc;

use drift::Drift;
use fit::{CELLS, Span};
use lifetimes::Lifetimes;

/// Intervals kept: four bytes each, and more would tell little.
const SPANS_MAX: usize = 3_000;
/// Intervals kept when the past no longer holds.
const SPANS_AFTER_DRIFT: usize = 80;
/// The prior counts as much as so many observations.
const PRIOR_WEIGHT: f64 = 6.0;
/// Rounds of fitting: it starts from the last estimate, so few are enough.
const ROUNDS: u32 = 12;
/// The first fit waits for so many settled tasks, the next ones for a share more.
const FRESH_FIRST: u32 = 8;

/// One lane's estimate.
#[derive(Clone, Debug)]
pub struct Estimate {
    life: Arc<Lifetimes>,
    /// The shares behind `life`; none while it is the prior.
    shares: Vec<f64>,
    spans: VecDeque<Span>,
    fresh: u32,
    drift: Drift,
    drifted: bool,
}

impl Default for Estimate {
    fn default() -> Self {
        Self::new()
    }
}

impl Estimate {
    /// Nothing learned yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            life: Lifetimes::prior(),
            shares: Vec::new(),
            spans: VecDeque::new(),
            fresh: 0,
            drift: Drift::default(),
            drifted: false,
        }
    }

    /// How long tasks take, as far as known.
    #[must_use]
    pub fn life(&self) -> &Arc<Lifetimes> {
        &self.life
    }

    /// A look found a task of age `at` settled, that was pending at age `last` (seconds).
    pub fn settled(&mut self, last: f64, at: f64) {
        self.looked(last, at, true);
        self.keep(Span::settled(last, at));
    }

    /// A look found a task of age `at` still pending, as it was at age `last` (seconds).
    pub fn pending(&mut self, last: f64, at: f64) {
        self.looked(last, at, false);
    }

    /// A task is no longer watched; it was pending at age `last` (seconds).
    pub fn abandoned(&mut self, last: f64) {
        if last > 0.0 {
            self.keep(Span::pending(last));
        }
    }

    /// Whether enough is new for [`Estimate::learn`] to be worth its while.
    #[must_use]
    pub fn stale(&self) -> bool {
        let known = u32::try_from(self.spans.len()).unwrap_or(u32::MAX);
        self.drifted || self.fresh >= FRESH_FIRST.max((known / 4).min(FRESH_MAX))
    }

    /// Estimates anew from what was seen, and from `open`: how many tasks are pending at which
    /// age (seconds).
    pub fn learn(&mut self, open: impl Iterator<Item = (f64, f64)>) {
        self.fresh = 0;
        self.drifted = false;
        let spans: Vec<(Span, f64)> = self
            .spans
            .iter()
            .map(|span| (*span, 1.0))
            .chain(open.map(|(age, tasks)| (Span::pending(age), tasks)))
            .collect();
        let mut prior = lifetimes::prior_cells();
        prior.push((1.0 - prior.iter().sum::<f64>()).max(1e-6));
        if self.shares.is_empty() {
            self.shares.clone_from(&prior);
        }
        // A share that fell to nothing would never rise again.
        for (share, prior) in self.shares.iter_mut().zip(&prior) {
            *share = 0.98 * *share + 0.02 * prior;
        }
        #[expect(clippy::cast_precision_loss, reason = "a few thousand spans")]
        let kernel = fit::kernel(self.spans.len() as f64);
        for _ in 0..ROUNDS {
            fit::round(&mut self.shares, &spans, &prior, PRIOR_WEIGHT, &kernel);
        }
        let known: f64 = spans.iter().map(|(_, weight)| weight).sum();
        self.life = Arc::new(Lifetimes::of_cells(&with_tail(&self.shares, known)));
    }

    /// Whether what was learned has just been found out of date.
    #[must_use]
    pub fn drifted(&self) -> bool {
        self.drifted
    }

    /// Settled tasks that the estimate rests on.
    #[must_use]
    pub fn observations(&self) -> usize {
        self.spans.len()
    }

    fn looked(&mut self, last: f64, at: f64, settled: bool) {
        let chance = self.life.settled_between(last, at);
        self.drift.looked(ages::nearest(at), chance, settled);
        #[expect(clippy::cast_precision_loss, reason = "a few thousand spans")]
        let observations = self.spans.len() as f64;
        if self.drift.alarm(observations) {
            let forgotten = self.spans.len().saturating_sub(SPANS_AFTER_DRIFT);
            self.spans.drain(..forgotten);
            self.drift.clear();
            self.drifted = true;
            self.shares.clear();
        }
    }

    fn keep(&mut self, span: Span) {
        if self.spans.len() >= SPANS_MAX {
            self.spans.pop_front();
        }
        self.spans.push_back(span);
        self.fresh += 1;
    }
}

/// What a handful of observations says about late ages is not to be trusted: there, a task keeps
/// settling at a rate of [`TAIL_RATE`] over its age, the way heavy tails do, which counts as much
/// as [`TAIL_WEIGHT`] tasks watched at that age. Otherwise the last stragglers would starve.
fn with_tail(shares: &[f64], known: f64) -> Vec<f64> {
    let (mut left, mut lifted_left) = (1.0, 1.0);
    let mut lifted = Vec::with_capacity(CELLS - 1);
    for (cell, share) in shares[..CELLS - 1].iter().enumerate() {
        let watched = known * left;
        let age = ages::age(cell + 1);
        let tail = TAIL_RATE * ages::STEP * age / (1.0 + age);
        let chance = (known * share + TAIL_WEIGHT * tail) / (watched + TAIL_WEIGHT);
        let settles = lifted_left * chance.min(1.0);
        lifted.push(settles);
        lifted_left -= settles;
        left = f64::max(left - share, 0.0);
    }
    lifted
}

const TAIL_RATE: f64 = 0.8;
const TAIL_WEIGHT: f64 = 4.0;

/// Later fits wait for so many settled tasks.
const FRESH_MAX: u32 = 200;
