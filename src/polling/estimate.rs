//! What a lane has learned about how long its tasks take.

pub mod ages;
pub mod drift;
pub mod fit;
pub mod lesson;
pub mod lifetimes;
pub mod looks;
mod memory;

use std::collections::VecDeque;
use std::sync::Arc;

use drift::Drift;
use fit::{CELLS, Span};
use lesson::Lesson;
use lifetimes::Lifetimes;
use looks::Looks;

/// The first fit waits for so many settled tasks, the next ones for a share more, later ones for
/// so many.
const FRESH_FIRST: f64 = 8.0;
const FRESH_SHARE: f64 = 0.25;
const FRESH_MAX: f64 = 400.0;
/// Probes kept, and what each counts: nothing else tells about early ages when looks are dear.
const PROBES_MAX: usize = 150;
const PROBE_WEIGHT: f64 = 4.0;

/// Estimates of so many settled tasks are believed, and each fit adds so much of itself.
const BELIEF_WEIGHT_MIN: f64 = 500.0;
const BELIEF_STEP: f64 = 0.05;

/// One lane's estimate.
#[derive(Clone, Debug)]
pub struct Estimate {
    life: Arc<Lifetimes>,
    /// The chances to settle in each cell behind `life`; none while it is the prior.
    chances: Vec<f64>,
    /// What is expected where looks tell nothing: the prior at first, then slowly what was learned
    /// when they did. Without it, a lane whose looks come late would forget what happens early.
    belief: Vec<f64>,
    looks: Looks,
    probes: VecDeque<(u16, bool)>,
    fresh: f64,
    drift: Drift,
    drifted: bool,
    /// Counts how often what was learned turned out to be out of date.
    era: u32,
    /// A lesson is out: the next one waits for it.
    studying: bool,
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
            chances: Vec::new(),
            belief: Vec::new(),
            looks: Looks::default(),
            probes: VecDeque::new(),
            fresh: 0.0,
            drift: Drift::default(),
            drifted: false,
            era: 0,
            studying: false,
        }
    }

    /// How long tasks take, as far as known.
    #[must_use]
    pub fn life(&self) -> &Arc<Lifetimes> {
        &self.life
    }

    /// A look found a task of age `at` settled, that was pending at age `last` (seconds).
    pub fn settled(&mut self, last: f64, at: f64) {
        self.test(last, at, true);
        self.looks.settled(last, at);
        self.fresh += 1.0;
    }

    /// A look found a task of age `at` still pending, as it was at age `last` (seconds).
    pub fn pending(&mut self, last: f64, at: f64) {
        self.test(last, at, false);
        self.looks.pending(last, at);
    }

    /// A look out of curiosity at a new task of age `at` found it settled or not. Told besides
    /// [`Estimate::settled`] and [`Estimate::pending`], and kept for longer.
    pub fn probed(&mut self, at: f64, settled: bool) {
        if self.probes.len() >= PROBES_MAX {
            self.probes.pop_front();
        }
        let point = u16::try_from(ages::nearest(at)).unwrap_or(u16::MAX);
        self.probes.push_back((point, settled));
    }

    /// Whether anything is known beyond the prior.
    #[must_use]
    pub fn known(&self) -> bool {
        !self.belief.is_empty()
    }

    /// What was learned, in a few hundred bytes; `None` while that is nothing.
    #[must_use]
    pub fn memory(&self) -> Option<Vec<u8>> {
        (!self.chances.is_empty()).then(|| memory::write(&self.chances))
    }

    /// Takes up what was learned before; whether it could be read.
    pub fn remember(&mut self, bytes: &[u8]) -> bool {
        let Some(chances) = memory::read(bytes) else { return false };
        self.life = Arc::new(Lifetimes::of_chances(&chances));
        self.belief.clone_from(&chances);
        self.chances = chances;
        true
    }

    /// Whether enough is new to be worth estimating anew.
    fn stale(&self) -> bool {
        let wanted = (self.looks.weight() * FRESH_SHARE).clamp(FRESH_FIRST, FRESH_MAX);
        self.drifted || self.fresh >= wanted
    }

    /// Whether what was learned has just been found out of date.
    #[must_use]
    pub fn drifted(&self) -> bool {
        self.drifted
    }

    /// What is to be learned from what was seen, if that is worth its while. Takes effect with
    /// [`Estimate::learned`].
    pub fn lesson(&mut self) -> Option<Lesson> {
        if self.studying || !self.stale() {
            return None;
        }
        self.fresh = 0.0;
        self.drifted = false;
        self.studying = true;
        if self.chances.is_empty() {
            self.belief = lifetimes::prior_chances().to_vec();
            self.chances.clone_from(&self.belief);
        }
        let (mut spans, mut passed) = self.looks.evidence();
        for (point, settled) in &self.probes {
            if *settled && *point > 0 {
                spans.push((Span { after: 0, by: *point }, PROBE_WEIGHT));
            } else {
                passed[..usize::from(*point)].iter_mut().for_each(|tasks| *tasks += PROBE_WEIGHT);
            }
        }
        Some(Lesson {
            era: self.era,
            chances: self.chances.clone(),
            spans,
            passed,
            prior: self.belief.clone(),
            kernel: fit::kernel(self.looks.weight()),
            rounds: 0,
        })
    }

    /// A lesson is worked out: tasks take so long. Whether it still counts.
    pub fn learned(&mut self, lesson: Lesson, life: Arc<Lifetimes>) -> bool {
        self.studying = false;
        if lesson.era != self.era {
            return false;
        }
        self.chances = lesson.chances;
        self.life = life;
        if self.looks.weight() >= BELIEF_WEIGHT_MIN {
            for (belief, chance) in self.belief.iter_mut().zip(&self.chances) {
                *belief += BELIEF_STEP * (chance - *belief);
            }
        }
        true
    }

    /// Settled tasks that the estimate rests on, fading.
    #[must_use]
    pub fn observations(&self) -> f64 {
        self.looks.weight()
    }

    fn test(&mut self, last: f64, at: f64, settled: bool) {
        let chance = self.life.settled_between(last, at);
        self.drift.looked(ages::nearest(at), chance, settled);
        if self.drift.alarm(self.looks.weight()) {
            self.looks.keep_latest();
            self.probes.clear();
            self.chances.clear();
            self.drift.clear();
            self.drifted = true;
            self.era += 1;
        }
    }
}

const _: () = assert!(CELLS < u16::MAX as usize, "points of the grid fit into 16 bits");
