//! How much one origin may have under way: a slow start, and a circuit breaker.
//!
//! A lone delivery is never held back by it: it takes several failures in a row to open, and the
//! cool-downs stay below the waits of the schedule ([`CoolDown::within`]). What it holds back is
//! the *other* deliveries to a receiver that is down, which would otherwise use up their attempts.

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::clock::Steady;

/// Failures in a row that open it.
const FAILURES_IN_A_ROW: u32 = 5;
/// How many of the latest attempts the failure share is taken over.
const WINDOW: u32 = 20;
/// Failures among the latest [`WINDOW`] attempts that open it: three quarters.
const FAILURES_IN_WINDOW: u32 = 15;
/// The first cool-down, unless the schedule is quicker.
const COOL_DOWN_FIRST: Duration = Duration::from_secs(1);
/// The longest cool-down: a receiver that is back is noticed within a minute.
const COOL_DOWN_MAX: Duration = Duration::from_secs(60);
/// The share of the schedule's waits below which cool-downs stay: they are jittered by -20 %.
const OF_THE_SCHEDULE: f64 = 0.8;
/// The longest pause of a whole origin on a receiver's word: others may share it. The delivery that
/// was told to wait waits as long as it was told.
const THROTTLE_MAX: Duration = Duration::from_secs(30);

/// What one attempt said about the origin, as opposed to about its delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulse {
    /// It answers. Its answer may still have been a refusal of this one callback.
    Alive,
    /// No answer, or one that says that it is unwell.
    Failing,
    /// It asked to be left alone for so long.
    Throttled(Duration),
    /// Nothing is known: the attempt was not made, or cut off by ourselves.
    Unknown,
}

/// How long an open breaker waits before each probe: doubling from `first` to `max`. Once an
/// origin has failed for as long as the whole schedule, `first` again: it will hardly come back,
/// and what is held back must come to its end too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoolDown {
    first: Duration,
    max: Duration,
    schedule: Duration,
}

impl CoolDown {
    /// Cool-downs that stay below the waits of this schedule.
    #[must_use]
    pub fn within(delays: &[Duration]) -> Self {
        let below = |delay: Option<&Duration>, limit: Duration| {
            delay.map_or(limit, |delay| delay.mul_f64(OF_THE_SCHEDULE).min(limit))
        };
        let max = below(delays.iter().max(), COOL_DOWN_MAX);
        let schedule = delays.iter().fold(Duration::ZERO, |sum, delay| sum.saturating_add(*delay));
        Self { first: below(delays.first(), COOL_DOWN_FIRST).min(max), max, schedule }
    }

    fn after(self, failed_probes: u32, failing_for: Duration) -> Duration {
        if failing_for > self.schedule {
            return self.first;
        }
        self.first.saturating_mul(1 << failed_probes.min(16)).min(self.max)
    }
}

/// One origin's breaker.
#[derive(Clone, Debug)]
pub struct Breaker {
    state: State,
    /// Attempts that may be under way: 1, 2, 4, … up to the configured limit.
    window: u32,
    failures_in_a_row: u32,
    failing_since: Option<Steady>,
    /// The latest attempts, one bit each, the newest lowest; 1 is a failure.
    latest: u32,
    proven: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Steady, failed_probes: u32 },
    Probing { failed_probes: u32 },
}

/// How much may be under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// At most so many at once.
    UpTo(u32),
    /// Nothing before then.
    NotBefore(Steady),
}

impl Default for Breaker {
    /// An origin nobody knows starts with one attempt at a time, so that hundreds of dead ones
    /// cannot fill the house before the first deadline has passed.
    fn default() -> Self {
        Self {
            state: State::Closed,
            window: 1,
            failures_in_a_row: 0,
            failing_since: None,
            latest: 0,
            proven: false,
        }
    }
}

impl Breaker {
    /// How much may be under way now, under the configured `limit`.
    #[must_use]
    pub fn room(&self, limit: u32, now: Steady) -> Room {
        match self.state {
            State::Closed => Room::UpTo(self.window.min(limit).max(1)),
            State::Open { until, .. } if now < until => Room::NotBefore(until),
            State::Open { .. } | State::Probing { .. } => Room::UpTo(1),
        }
    }

    /// Whether the last word heard from the origin was that it is alive.
    #[must_use]
    pub fn proven(&self) -> bool {
        self.proven
    }

    /// Failures since the last sign of life.
    #[must_use]
    pub fn failures_in_a_row(&self) -> u32 {
        self.failures_in_a_row
    }

    /// Whether it lets nothing but probes through.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.state != State::Closed
    }

    /// An attempt begins. After a cool-down this is the probe.
    pub fn started(&mut self) {
        if let State::Open { failed_probes, .. } = self.state {
            self.state = State::Probing { failed_probes };
        }
    }

    /// An attempt ended.
    pub fn heard(&mut self, pulse: Pulse, cool_down: CoolDown, now: Steady) {
        match pulse {
            Pulse::Alive => self.alive(),
            Pulse::Failing => self.failing(cool_down, now),
            Pulse::Throttled(wait) => self.throttled(wait, now),
            Pulse::Unknown => {
                if let State::Probing { failed_probes } = self.state {
                    self.state = State::Open { until: now, failed_probes };
                }
            }
        }
    }

    fn alive(&mut self) {
        self.proven = true;
        self.failures_in_a_row = 0;
        self.failing_since = None;
        self.latest <<= 1;
        if let State::Open { .. } = self.state {
            // An attempt from before it opened: no reason to let everything through.
            return;
        }
        if self.state == State::Closed {
            self.window = self.window.saturating_mul(2);
        } else {
            self.state = State::Closed;
            self.window = 1;
            self.latest = 0;
        }
    }

    fn failing(&mut self, cool_down: CoolDown, now: Steady) {
        self.proven = false;
        self.failures_in_a_row += 1;
        self.latest = (self.latest << 1).wrapping_add(1);
        self.window = (self.window / 2).max(1);
        let failing_for = now.since(*self.failing_since.get_or_insert(now));
        match self.state {
            State::Closed => {
                let in_window = (self.latest & ((1 << WINDOW) - 1)).count_ones();
                if self.failures_in_a_row >= FAILURES_IN_A_ROW || in_window >= FAILURES_IN_WINDOW {
                    let until = now.after(cool_down.after(0, failing_for));
                    self.state = State::Open { until, failed_probes: 0 };
                }
            }
            State::Probing { failed_probes } => {
                let failed_probes = failed_probes.saturating_add(1);
                let until = now.after(cool_down.after(failed_probes, failing_for));
                self.state = State::Open { until, failed_probes };
            }
            // An attempt from before it opened tells nothing new.
            State::Open { .. } => {}
        }
    }

    fn throttled(&mut self, wait: Duration, now: Steady) {
        self.proven = true;
        self.window = 1;
        let until = now.after(wait.min(THROTTLE_MAX));
        let (until, failed_probes) = match self.state {
            State::Open { until: earlier, failed_probes } => (until.max(earlier), failed_probes),
            State::Probing { failed_probes } => (until, failed_probes),
            State::Closed => (until, 0),
        };
        self.state = State::Open { until, failed_probes };
    }
}
