//! Exact sliding windows, written apart from the scheduler's own: a mistake in one shows in the
//! other.

use std::collections::VecDeque;
use std::str::FromStr;
use std::time::Duration;

use super::options::duration;
use crate::clock::Steady;

/// Limits that all hold at once: no window of a limit's length, wherever it starts, holds more
/// calls than the limit allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows(pub Vec<Window>);

/// At most `calls` in any `length`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// How many.
    pub calls: usize,
    /// In how long.
    pub length: Duration,
}

impl Default for Windows {
    /// Feishu's published limit of the delivery task API.
    fn default() -> Self {
        Self(vec![
            Window { calls: 1000, length: Duration::from_secs(60) },
            Window { calls: 50, length: Duration::from_secs(1) },
        ])
    }
}

impl Windows {
    /// No limit at all.
    #[must_use]
    pub fn unlimited() -> Self {
        Self(Vec::new())
    }
}

impl FromStr for Windows {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::unlimited());
        }
        let window = |part: &str| {
            let (calls, length) = part.split_once('/')?;
            let calls = calls.trim().parse().ok().filter(|calls| *calls > 0)?;
            let length = duration(length.trim()).ok().filter(|length| !length.is_zero())?;
            Some(Window { calls, length })
        };
        let windows: Option<Vec<Window>> = text.split(',').map(window).collect();
        windows.map(Self).ok_or_else(|| {
            format!(
                "`{text}` is not a quota; give COUNT/DURATION[,…] such as 1000/60s,50/1s, or off"
            )
        })
    }
}

/// The calls that were let through and may still count.
#[derive(Clone, Debug, Default)]
pub(super) struct Log(VecDeque<Steady>);

/// A spent quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spent {
    /// The limit that was hit.
    pub window: Window,
    /// How long until one more call fits.
    pub reset: Duration,
}

impl Log {
    /// Lets a call at `now` through and counts it, or says which limit is spent.
    pub(super) fn admit(&mut self, windows: &Windows, now: Steady) -> Result<(), Spent> {
        let longest = windows.0.iter().map(|window| window.length).max().unwrap_or_default();
        while self.0.front().is_some_and(|first| now.since(*first) >= longest) {
            self.0.pop_front();
        }
        let spent = windows.0.iter().filter_map(|window| self.spent(*window, now));
        if let Some(spent) = spent.max_by_key(|spent| spent.reset) {
            return Err(spent);
        }
        self.0.push_back(now);
        Ok(())
    }

    /// A call at `now` shares a window with the `calls`-th last one unless a whole length passed.
    fn spent(&self, window: Window, now: Steady) -> Option<Spent> {
        let nth_last = self.0.len().checked_sub(window.calls)?;
        let frees_at = self.0.get(nth_last)?.after(window.length);
        (frees_at > now).then(|| Spent { window, reset: frees_at.since(now) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_window_wherever_it_starts_holds_more_than_allowed() {
        let windows: Windows = "7/1s,20/5s".parse().unwrap();
        let mut log = Log::default();
        let admitted: Vec<i64> =
            (0..30_000).step_by(37).filter(|at| log.admit(&windows, Steady(*at)).is_ok()).collect();
        for start in &admitted {
            let within = |length: i64| {
                admitted.iter().filter(|at| (*start..*start + length).contains(*at)).count()
            };
            assert!(within(1000) <= 7, "at {start}");
            assert!(within(5000) <= 20, "at {start}");
        }
        assert!(admitted.len() >= 20 * 5, "it lets {} through", admitted.len());
    }

    #[test]
    fn a_spent_quota_says_when_one_more_call_fits() {
        let windows: Windows = "2/1s".parse().unwrap();
        let mut log = Log::default();
        assert!(log.admit(&windows, Steady(0)).is_ok());
        assert!(log.admit(&windows, Steady(300)).is_ok());
        let spent = log.admit(&windows, Steady(400)).unwrap_err();
        assert_eq!(spent.reset, Duration::from_millis(600));
        assert!(log.admit(&windows, Steady(999)).is_err());
        assert!(log.admit(&windows, Steady(1000)).is_ok());
        assert!(log.admit(&windows, Steady(1299)).is_err());
    }

    #[test]
    fn refused_calls_do_not_count() {
        let windows: Windows = "1/1s".parse().unwrap();
        let mut log = Log::default();
        assert!(log.admit(&windows, Steady(0)).is_ok());
        assert!((1..1000).all(|at| log.admit(&windows, Steady(at)).is_err()));
        assert!(log.admit(&windows, Steady(1000)).is_ok());
    }

    #[test]
    fn a_quota_is_read_and_nonsense_refused() {
        assert_eq!("1000/60s,50/1s".parse(), Ok(Windows::default()));
        assert_eq!("off".parse(), Ok(Windows::unlimited()));
        for text in ["", "50", "0/1s", "50/0s", "x/1s"] {
            assert!(text.parse::<Windows>().is_err(), "{text}");
        }
    }
}
