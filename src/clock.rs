//! The only reader of the clock.
//!
//! Two kinds of time, because a wall clock may be stepped by an operator or by NTP:
//! [`Timestamp`] is what people and databases see, [`Steady`] is what quotas and schedules are
//! computed with. Both are integer milliseconds. Decisions take them as arguments.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

/// Wall time: milliseconds since the Unix epoch. Shown as RFC 3339 UTC with milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Timestamp(pub i64);

/// Time that never jumps: milliseconds on this process's own monotonic scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Steady(pub i64);

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
}

/// The machine's own clocks.
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock whose steady scale starts now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one file that reads the clock")]
    pub fn new() -> Self {
        Self { started: Instant::now() }
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
        Steady(millis(self.started.elapsed()))
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
    fn differences_never_go_below_zero() {
        assert_eq!(Steady(5).since(Steady(9)), Duration::ZERO);
        assert_eq!(Timestamp(9).since(Timestamp(5)), Duration::from_millis(4));
    }
}
