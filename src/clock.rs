//! The only reader of the clock.
//!
//! Two kinds of time, because a wall clock may be stepped by an operator or by NTP:
//! [`Timestamp`] is what people and databases see, [`Steady`] is what quotas and schedules are
//! computed with. Both are integer milliseconds. Decisions take them as arguments.
//!
//! Steady time counts suspend, which tokio's timers do not: no wait for a deadline may be longer
//! than what it may come late after a resume, and the first thing after waking is to read the clock.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Wall time: milliseconds since the Unix epoch. Shown as RFC 3339 UTC with milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Timestamp(pub i64);

/// Time that never jumps, and counts suspend: milliseconds since the machine started.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Steady(pub i64);

/// Both kinds of time at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// For people and databases.
    pub wall: Timestamp,
    /// For quotas and schedules.
    pub steady: Steady,
}

impl Reading {
    /// How far apart the two are: the same for as long as both go on together.
    #[must_use]
    pub fn apart(self) -> i64 {
        self.wall.0.saturating_sub(self.steady.0)
    }
}

/// Whole milliseconds of a duration, saturating.
#[must_use]
pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

macro_rules! arithmetic {
    ($time:ident) => {
        impl $time {
            /// This time, `duration` later (saturating).
            #[must_use]
            pub fn after(self, duration: Duration) -> Self {
                Self(self.0.saturating_add(millis(duration)))
            }

            /// This time, `duration` earlier (saturating).
            #[must_use]
            pub fn before(self, duration: Duration) -> Self {
                Self(self.0.saturating_sub(millis(duration)))
            }

            /// How long after `earlier` this is; zero if it is not.
            #[must_use]
            pub fn since(self, earlier: Self) -> Duration {
                Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
            }
        }
    };
}
arithmetic!(Timestamp);
arithmetic!(Steady);

impl Timestamp {
    /// Whole seconds since the Unix epoch, as `webhook-timestamp` wants them.
    #[must_use]
    pub fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = jiff::Timestamp::from_millisecond(self.0).map_err(|_| fmt::Error)?;
        write!(f, "{time:.3}")
    }
}

impl FromStr for Timestamp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time: jiff::Timestamp = text.parse().map_err(|_| {
            format!("`{text}` is not an RFC 3339 time such as 2026-11-22T10:00:00Z")
        })?;
        Ok(Self(time.as_millisecond()))
    }
}

impl From<Timestamp> for String {
    fn from(time: Timestamp) -> Self {
        time.to_string()
    }
}

impl TryFrom<String> for Timestamp {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Reads the time. Shells hold one; pure code is handed its readings.
pub trait Clock: Send + Sync {
    /// Now, for people and databases.
    fn wall(&self) -> Timestamp;
    /// Now, for quotas and schedules.
    fn steady(&self) -> Steady;

    /// Both at once.
    fn read(&self) -> Reading {
        Reading { wall: self.wall(), steady: self.steady() }
    }

    /// Which start of the machine steady time counts from, if that is known.
    fn boot(&self) -> Option<Uuid> {
        None
    }
}

/// Where Linux says which start of the machine this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Two readings further apart do not count as one moment.
const MOMENT: Duration = Duration::from_millis(10);
/// Readings of a moment tried before the last one has to do, on a machine that is so busy.
const MOMENTS_MAX: u32 = 8;

/// The machine's own clocks.
pub struct SystemClock {
    boot: Option<Uuid>,
}

impl SystemClock {
    /// The clocks, and which start of the machine this is.
    #[must_use]
    pub fn new() -> Self {
        let boot = std::fs::read_to_string(BOOT_ID).ok();
        Self { boot: boot.and_then(|text| text.trim().parse().ok()) }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one file that reads the clock")]
    fn wall(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Timestamp(since_epoch.map_or(0, millis))
    }

    fn steady(&self) -> Steady {
        let time = clock_gettime(ClockId::Boottime);
        Steady(time.tv_sec.saturating_mul(1_000).saturating_add(time.tv_nsec / 1_000_000))
    }

    /// Whoever is interrupted between the two would take them for having parted.
    fn read(&self) -> Reading {
        let mut tries = 1;
        loop {
            let reading = Reading { wall: self.wall(), steady: self.steady() };
            let before = self.steady();
            let wall = self.wall();
            let moment =
                wall.since(reading.wall) <= MOMENT && before.since(reading.steady) <= MOMENT;
            if moment || tries >= MOMENTS_MAX {
                return reading;
            }
            tries += 1;
        }
    }

    fn boot(&self) -> Option<Uuid> {
        self.boot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_reads_and_prints_rfc_3339_with_milliseconds() {
        let time: Timestamp = "2026-11-22T10:00:00.123Z".parse().unwrap();
        assert_eq!(time.to_string(), "2026-11-22T10:00:00.123Z");
        assert_eq!(Timestamp(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert!("yesterday".parse::<Timestamp>().is_err());
    }

    #[test]
    fn steady_time_is_that_since_the_machine_started_suspend_included() {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let seconds: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        let clock = SystemClock::new();
        #[expect(clippy::cast_precision_loss, reason = "an uptime is small")]
        let apart = (clock.steady().0 as f64 / 1_000.0 - seconds).abs();
        assert!(apart < 5.0, "{apart} s from /proc/uptime");
        assert!(clock.boot().is_some());
        let (one, two) = (clock.read(), clock.read());
        assert!(one.apart().abs_diff(two.apart()) < 1_000, "{one:?} {two:?}");
    }

    #[test]
    fn differences_never_go_below_zero() {
        assert_eq!(Steady(5).since(Steady(9)), Duration::ZERO);
        assert_eq!(Timestamp(9).since(Timestamp(5)), Duration::from_millis(4));
    }
}
