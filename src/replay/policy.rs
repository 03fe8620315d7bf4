//! Who decides in a replay: the daemon's own lane, or what people write instead.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

use crate::clock::Steady;
use crate::config::QuotaLimits;
use crate::outcome::{Ids, Outcome};
use crate::polling::lane::{Lane, Step, Watched};
use crate::polling::quota::Quota;
use crate::source::Observation;
use crate::task::TaskId;

/// A replay has no deadlines, so that no task of a trace is lost to them: this one is 30 years off.
const NO_DEADLINE: Duration = Duration::from_secs(1_000_000_000);
/// No trace has unknown tasks.
const NOT_FOUND_GRACE: Duration = Duration::from_secs(30);
/// The default of `polling.poll_worth`.
const POLL_WORTH: Duration = Duration::from_millis(10);

/// A policy, as a person names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// `planned`: the daemon's.
    Planned,
    /// `fixed:1s`: every so often.
    Fixed(Duration),
    /// `backoff:1s,60s`: doubling from the first wait to the last.
    Backoff(Duration, Duration),
}

/// What a policy does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// Poll this task now.
    Poll(usize),
    /// Nothing before then, or before the next event.
    Wait(Option<Steady>),
}

/// A policy at work.
pub trait Poller {
    /// A task was registered.
    fn registered(&mut self, task: usize, now: Steady);
    /// What to do; asked until it waits.
    fn next(&mut self, now: Steady) -> Move;
    /// The poll that was sent then is answered.
    fn answered(&mut self, task: usize, sent: Steady, settled: bool, now: Steady);
}

impl Policy {
    /// The policy at work under a quota.
    #[must_use]
    pub fn poller(self, limits: QuotaLimits, seed: u64) -> Box<dyn Poller> {
        match self {
            Self::Planned => Box::new(Planned::new(limits, seed)),
            Self::Fixed(wait) => Box::new(Simple::new(limits, wait, wait)),
            Self::Backoff(first, last) => Box::new(Simple::new(limits, first, last)),
        }
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` must be planned, fixed:1s or backoff:1s,60s");
        match text.split_once(':') {
            None if text == "planned" => Ok(Self::Planned),
            Some(("fixed", wait)) => Ok(Self::Fixed(duration(wait).ok_or_else(bad)?)),
            Some(("backoff", waits)) => {
                let (first, last) = waits.split_once(',').ok_or_else(bad)?;
                let first = duration(first).ok_or_else(bad)?;
                let last = duration(last).filter(|last| *last >= first).ok_or_else(bad)?;
                Ok(Self::Backoff(first, last))
            }
            _ => Err(bad()),
        }
    }
}

/// `250ms`, `1s`, `1.5s`, `2m`, `1h`; at least a millisecond.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    zero_or_more(text).filter(|duration| *duration >= Duration::from_millis(1))
}

/// As [`duration`], or zero.
#[must_use]
pub fn zero_or_more(text: &str) -> Option<Duration> {
    const DAY_SECONDS: f64 = 86_400.0;
    let unit = text.find(|c: char| c.is_ascii_alphabetic())?;
    let seconds_per_unit = match &text[unit..] {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return None,
    };
    let seconds = text[..unit].parse::<f64>().ok()? * seconds_per_unit;
    (0.0..=DAY_SECONDS).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}

/// The daemon's lane: the same code, asked in virtual time.
struct Planned {
    lane: Lane,
}

impl Planned {
    fn new(limits: QuotaLimits, seed: u64) -> Self {
        let mut lane = Lane::new(limits, NOT_FOUND_GRACE, POLL_WORTH);
        lane.reseed(seed);
        Self { lane }
    }
}

impl Poller for Planned {
    fn registered(&mut self, task: usize, now: Steady) {
        let watched = Watched {
            born: now,
            give_up_at: now.after(NO_DEADLINE),
            polls: 0,
            last_pending: None,
            not_found_since: None,
        };
        self.lane.watch(id(task), watched, now);
    }

    fn next(&mut self, now: Steady) -> Move {
        loop {
            match self.lane.next(now) {
                Step::Reserve { polls } => self.lane.reserved(polls, now),
                Step::Prepare => self.lane.prepared(Ok(()), now),
                Step::Poll { task } => return Move::Poll(row(task)),
                Step::GiveUp { task } => self.lane.gave_up(task, None, now),
                Step::Wait { until } => {
                    // Virtual time stands still meanwhile.
                    if let Some(study) = self.lane.study() {
                        self.lane.learned(study.finished());
                    }
                    return Move::Wait(until);
                }
            }
        }
    }

    fn answered(&mut self, task: usize, sent: Steady, settled: bool, now: Steady) {
        let observation = if settled {
            Observation::Settled(Outcome::succeeded(Ids::default()))
        } else {
            Observation::Pending { unknown_status: None }
        };
        self.lane.replied(id(task), sent, Ok(observation), now);
        if settled {
            self.lane.forget(id(task));
        }
    }
}

/// A wait after each look, doubling up to a limit; whoever is due first goes first.
struct Simple {
    quota: Quota,
    due: BTreeSet<(Steady, usize)>,
    waits: Vec<Duration>,
    first: Duration,
    last: Duration,
}

impl Simple {
    fn new(limits: QuotaLimits, first: Duration, last: Duration) -> Self {
        Self { quota: Quota::new(limits), due: BTreeSet::new(), waits: Vec::new(), first, last }
    }
}

impl Poller for Simple {
    fn registered(&mut self, task: usize, now: Steady) {
        self.waits.resize(task + 1, self.first);
        self.due.insert((now.after(self.first), task));
    }

    fn next(&mut self, now: Steady) -> Move {
        let Some((due, task)) = self.due.first().copied() else { return Move::Wait(None) };
        let at = due.max(self.quota.earliest(now));
        if at > now {
            return Move::Wait(Some(at));
        }
        self.due.pop_first();
        self.quota.reserved(1, now);
        self.quota.spend(now);
        Move::Poll(task)
    }

    fn answered(&mut self, task: usize, sent: Steady, settled: bool, now: Steady) {
        self.quota.replied(sent, now);
        if !settled {
            self.waits[task] = (self.waits[task] * 2).min(self.last);
            self.due.insert((now.after(self.waits[task]), task));
        }
    }
}

fn id(task: usize) -> TaskId {
    TaskId(i64::try_from(task).unwrap_or(i64::MAX))
}

fn row(task: TaskId) -> usize {
    usize::try_from(task.0).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read_as_it_is_written() {
        let second = Duration::from_secs(1);
        assert_eq!("planned".parse(), Ok(Policy::Planned));
        assert_eq!("fixed:1s".parse(), Ok(Policy::Fixed(second)));
        assert_eq!("fixed:250ms".parse(), Ok(Policy::Fixed(Duration::from_millis(250))));
        assert_eq!("backoff:1s,60s".parse(), Ok(Policy::Backoff(second, second * 60)));
        for bad in ["", "fixed", "fixed:", "fixed:0s", "fixed:1", "backoff:60s,1s", "planned:1s"] {
            assert!(bad.parse::<Policy>().is_err(), "{bad}");
        }
    }
}
