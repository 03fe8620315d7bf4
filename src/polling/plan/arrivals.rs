//! How many tasks a second a lane is given.

use std::time::Duration;

use super::classes::seconds;
use crate::clock::Steady;

/// Arrivals are counted in spans of this length.
const SPAN: Duration = Duration::from_secs(5);
/// Counts fade with this time constant, seconds: long enough that chance does not move the price,
/// short enough to follow a day's rush.
const MEMORY: f64 = 150.0;
/// A span counts at most so many times the expected arrivals, and so many more: a burst is work to
/// do once, not a rate to expect.
const BURST: f64 = 2.0;
const BURST_MORE: f64 = 20.0;

/// The rate of arrivals.
#[derive(Clone, Debug, Default)]
pub struct Arrivals {
    started: Option<Steady>,
    counted: f64,
    tasks: f64,
    time: f64,
}

impl Arrivals {
    /// A task arrived.
    pub fn arrived(&mut self, now: Steady) {
        self.pass(now);
        self.counted += 1.0;
    }

    /// Time passes.
    pub fn pass(&mut self, now: Steady) {
        let started = *self.started.get_or_insert(now);
        let elapsed = now.since(started);
        if elapsed < SPAN {
            return;
        }
        let length = seconds(now.0 - started.0);
        let usual = self.rate() * length;
        let counted = if self.time < 60.0 {
            self.counted
        } else {
            self.counted.min(usual * BURST + BURST_MORE)
        };
        let fade = (-length / MEMORY).exp();
        self.tasks = self.tasks * fade + counted;
        self.time = self.time * fade + length;
        self.counted = 0.0;
        self.started = Some(now);
    }

    /// Tasks a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.tasks / (self.time + 5.0)
    }
}
