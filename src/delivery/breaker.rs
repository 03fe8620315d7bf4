//! How much one origin may have under way: a slow start, and a circuit breaker.
//!
//! A lone delivery is never held back by it: it takes several failures in a row to open, and the
//! cool-downs stay below the waits of the schedule ([`CoolDown::within`]). What it holds back is
//! the *other* deliveries to a receiver that is down, which would otherwise use up their attempts.

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
        self.latest = (self.latest << 1) | 1;
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

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u32 = 16;
    const T0: Steady = Steady(1_000_000);

    fn cool_down() -> CoolDown {
        CoolDown::within(&[5, 30, 86_400].map(Duration::from_secs))
    }

    fn after(breaker: &mut Breaker, pulses: &[Pulse], now: Steady) -> Room {
        for pulse in pulses {
            breaker.started();
            breaker.heard(*pulse, cool_down(), now);
        }
        breaker.room(LIMIT, now)
    }

    fn at(milliseconds: i64) -> Steady {
        Steady(T0.0 + milliseconds)
    }

    #[test]
    fn a_healthy_origin_gets_1_2_4_8_16_and_never_more_than_its_limit() {
        let mut breaker = Breaker::default();
        assert!(!breaker.proven());
        let mut seen = vec![breaker.room(LIMIT, T0)];
        for _ in 0..6 {
            seen.push(after(&mut breaker, &[Pulse::Alive], T0));
        }
        assert_eq!(seen, [1, 2, 4, 8, 16, 16, 16].map(Room::UpTo));
        assert!(breaker.proven());
        assert_eq!(breaker.room(3, T0), Room::UpTo(3));
        assert_eq!(breaker.room(0, T0), Room::UpTo(1));
    }

    #[test]
    fn the_fifth_failure_in_a_row_opens_it() {
        let mut breaker = Breaker::default();
        assert_eq!(after(&mut breaker, &[Pulse::Failing; 4], T0), Room::UpTo(1));
        assert!(!breaker.is_held());
        assert_eq!(after(&mut breaker, &[Pulse::Failing], T0), Room::NotBefore(at(1_000)));
        assert!(breaker.is_held());
    }

    #[test]
    fn a_success_in_between_starts_the_count_again() {
        let mut breaker = Breaker::default();
        after(&mut breaker, &[Pulse::Failing; 4], T0);
        after(&mut breaker, &[Pulse::Alive], T0);
        after(&mut breaker, &[Pulse::Failing; 4], T0);
        assert!(!breaker.is_held());
    }

    #[test]
    fn fifteen_failures_of_twenty_open_it_even_if_never_five_in_a_row() {
        let mut breaker = Breaker::default();
        let round = [Pulse::Alive, Pulse::Failing, Pulse::Failing, Pulse::Failing, Pulse::Failing];
        // 4 of 5 fail: the 15th failure is the last but one of the fourth round.
        for _ in 0..3 {
            after(&mut breaker, &round, T0);
        }
        after(&mut breaker, &round[..3], T0);
        assert!(!breaker.is_held());
        after(&mut breaker, &[Pulse::Failing], T0);
        assert!(breaker.is_held());
    }

    #[test]
    fn failures_older_than_the_window_are_forgotten() {
        let mut breaker = Breaker::default();
        let round = [Pulse::Alive, Pulse::Failing, Pulse::Failing, Pulse::Alive, Pulse::Failing];
        for _ in 0..50 {
            after(&mut breaker, &round, T0);
            assert!(!breaker.is_held(), "three of five is below the share");
        }
    }

    #[test]
    fn it_probes_with_one_and_doubles_the_wait_up_to_a_minute() {
        let mut breaker = Breaker::default();
        let mut now = T0;
        after(&mut breaker, &[Pulse::Failing; 5], now);
        let mut waits = Vec::new();
        for _ in 0..8 {
            let Room::NotBefore(until) = breaker.room(LIMIT, now) else { panic!("not open") };
            waits.push(until.since(now).as_secs());
            assert_eq!(breaker.room(LIMIT, Steady(until.0 - 1)), Room::NotBefore(until));
            now = until;
            assert_eq!(breaker.room(LIMIT, now), Room::UpTo(1));
            breaker.started();
            assert_eq!(breaker.room(LIMIT, now), Room::UpTo(1));
            breaker.heard(Pulse::Failing, cool_down(), now);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn an_origin_dead_for_the_whole_schedule_is_probed_quickly_so_that_all_come_to_an_end() {
        let mut breaker = Breaker::default();
        after(&mut breaker, &[Pulse::Failing; 12], T0);
        let schedule = T0.after(Duration::from_secs(86_435));
        assert_eq!(
            after(&mut breaker, &[Pulse::Failing], schedule),
            Room::NotBefore(schedule.after(COOL_DOWN_MAX))
        );
        let later = schedule.after(Duration::from_millis(1));
        let quick = Room::NotBefore(later.after(COOL_DOWN_FIRST));
        assert_eq!(after(&mut breaker, &[Pulse::Failing], later), quick);
        after(&mut breaker, &[Pulse::Alive], later);
        after(&mut breaker, &[Pulse::Failing; 6], later);
        let slow = Room::NotBefore(later.after(2 * COOL_DOWN_FIRST));
        assert_eq!(breaker.room(LIMIT, later), slow, "a sign of life starts it anew");
    }

    #[test]
    fn a_recovered_origin_is_ramped_up_gently() {
        let mut breaker = Breaker::default();
        after(&mut breaker, &[Pulse::Alive; 6], T0);
        after(&mut breaker, &[Pulse::Failing; 5], T0);
        let mut seen = Vec::new();
        for _ in 0..5 {
            seen.push(after(&mut breaker, &[Pulse::Alive], at(60_000)));
        }
        assert_eq!(seen, [1, 2, 4, 8, 16].map(Room::UpTo));
        after(&mut breaker, &[Pulse::Failing; 4], T0);
        assert!(!breaker.is_held(), "what failed before the recovery does not count");
    }

    #[test]
    fn late_replies_from_before_it_opened_neither_close_it_nor_prolong_it() {
        let mut breaker = Breaker::default();
        after(&mut breaker, &[Pulse::Failing; 5], T0);
        breaker.heard(Pulse::Failing, cool_down(), at(500));
        assert_eq!(breaker.room(LIMIT, at(500)), Room::NotBefore(at(1_000)));
        breaker.heard(Pulse::Alive, cool_down(), at(600));
        assert_eq!(breaker.room(LIMIT, at(600)), Room::NotBefore(at(1_000)));
    }

    #[test]
    fn each_failure_halves_what_may_be_under_way() {
        let mut breaker = Breaker::default();
        after(&mut breaker, &[Pulse::Alive; 4], T0);
        assert_eq!(after(&mut breaker, &[Pulse::Failing], T0), Room::UpTo(8));
        assert_eq!(after(&mut breaker, &[Pulse::Failing; 3], T0), Room::UpTo(1));
        assert!(!breaker.proven());
    }

    #[test]
    fn an_origin_that_asks_to_be_left_alone_is_for_half_a_minute_at_most() {
        let mut breaker = Breaker::default();
        let wait = |seconds| Pulse::Throttled(Duration::from_secs(seconds));
        after(&mut breaker, &[Pulse::Alive; 4], T0);
        assert_eq!(after(&mut breaker, &[wait(7)], T0), Room::NotBefore(at(7_000)));
        breaker.heard(wait(3), cool_down(), T0);
        assert_eq!(breaker.room(LIMIT, T0), Room::NotBefore(at(7_000)), "the longer wait stands");
        assert!(breaker.proven(), "it answers");
        breaker.heard(wait(3_600), cool_down(), T0);
        assert_eq!(breaker.room(LIMIT, T0), Room::NotBefore(at(30_000)));
        assert_eq!(breaker.room(LIMIT, at(30_000)), Room::UpTo(1));
        assert_eq!(after(&mut breaker, &[Pulse::Alive], at(30_000)), Room::UpTo(1));
    }

    #[test]
    fn a_probe_that_was_not_made_may_be_made_again_at_once() {
        let mut breaker = Breaker::default();
        after(&mut breaker, &[Pulse::Failing; 5], T0);
        let late = at(1_000);
        breaker.started();
        breaker.heard(Pulse::Unknown, cool_down(), late);
        assert_eq!(breaker.room(LIMIT, late), Room::UpTo(1));
        after(&mut breaker, &[Pulse::Failing], late);
        assert_eq!(breaker.room(LIMIT, late), Room::NotBefore(late.after(Duration::from_secs(2))));
    }

    #[test]
    fn cool_downs_stay_below_the_schedule_so_that_a_lone_delivery_is_never_late() {
        let quick = CoolDown::within(&[Duration::from_millis(100); 12]);
        let after = |cool_down: CoolDown, probes| cool_down.after(probes, Duration::ZERO);
        assert_eq!(after(quick, 0), Duration::from_millis(80));
        assert_eq!(after(quick, 31), Duration::from_millis(80));
        assert_eq!(after(cool_down(), 0), COOL_DOWN_FIRST);
        assert_eq!(after(cool_down(), 99), COOL_DOWN_MAX);
        assert_eq!(after(CoolDown::within(&[]), 99), COOL_DOWN_MAX);
    }
}
