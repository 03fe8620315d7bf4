//! What follows from one reply: the place in the schedule, and the etiquette of Standard Webhooks.

use std::time::Duration;

use crate::clock::Timestamp;

/// Jitter takes a wait at most this share up or down, so that what failed together does not come
/// back together.
const JITTER: f64 = 0.2;
/// A receiver cannot make us wait longer: the schedule's own longest wait by default.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// `Retry-After: 0`, or a date gone by, does not become a hot loop.
const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);

/// What one attempt heard, as far as the schedule cares.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heard<'a> {
    /// The HTTP status, if there was one.
    pub status: Option<u16>,
    /// The `Retry-After` header as sent.
    pub retry_after: Option<&'a str>,
    /// What broke: no reply, or one that did not arrive whole.
    pub broken: Option<&'a str>,
}

/// What is concluded from an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It arrived.
    Delivered,
    /// Once more, then.
    RetryAt {
        /// When.
        at: Timestamp,
        /// What was wrong with this one.
        reason: String,
    },
    /// The schedule is used up.
    GaveUp {
        /// What was wrong with the last one.
        reason: String,
    },
    /// The receiver wants nothing more at this URL (410).
    Gone,
}

impl Verdict {
    /// The word in the attempt log and the metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::RetryAt { .. } => "retry",
            Self::GaveUp { .. } => "gave_up",
            Self::Gone => "gone",
        }
    }

    /// The stable word for why, `asked` being whether the receiver named the wait.
    #[must_use]
    pub fn why(&self, asked: bool) -> &'static str {
        match self {
            Self::Delivered => "accepted",
            Self::RetryAt { .. } if asked => "retry_after",
            Self::RetryAt { .. } => "schedule",
            Self::GaveUp { .. } => "schedule_used_up",
            Self::Gone => "gone",
        }
    }
}

/// Judges the attempt number `round` (0 for the first) of a delivery. `jitter` is in [-1, 1].
#[must_use]
pub fn judge(
    round: u32,
    heard: Heard<'_>,
    delays: &[Duration],
    now: Timestamp,
    jitter: f64,
) -> Verdict {
    if heard.status == Some(410) {
        return Verdict::Gone;
    }
    let Some(reason) = complaint(heard) else { return Verdict::Delivered };
    let place = usize::try_from(round).unwrap_or(usize::MAX);
    let Some(delay) = delays.get(place) else { return Verdict::GaveUp { reason } };
    let wait = asked(heard, now).unwrap_or_else(|| jittered(*delay, jitter));
    Verdict::RetryAt { at: now.after(wait), reason }
}

/// How long the receiver asked to be left alone, bounded, if it did.
#[must_use]
pub fn asked(heard: Heard<'_>, now: Timestamp) -> Option<Duration> {
    if !matches!(heard.status, Some(429 | 502 | 503 | 504)) {
        return None;
    }
    let wait = retry_after(heard.retry_after?, now)?;
    Some(wait.clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX))
}

fn complaint(heard: Heard<'_>) -> Option<String> {
    if let Some(broken) = heard.broken {
        return Some(broken.to_owned());
    }
    match heard.status {
        Some(200..=299) => None,
        Some(status @ 300..=399) => Some(format!(
            "the receiver answered {status}: redirects are not followed, register the final URL"
        )),
        Some(status) => Some(format!("the receiver answered {status}")),
        None => Some("no reply".to_owned()),
    }
}

fn jittered(delay: Duration, jitter: f64) -> Duration {
    delay.mul_f64(1.0 + JITTER * jitter.clamp(-1.0, 1.0))
}

/// RFC 9110, 10.2.3: whole seconds, or a date in any of the three forms of 5.6.7.
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // Digits that do not fit are a very long time, not a malformed header.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let seconds =
        ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"]
            .iter()
            .find_map(|form| jiff::civil::DateTime::strptime(form, text).ok())?
            .to_zoned(jiff::tz::TimeZone::UTC)
            .ok()?
            .timestamp()
            .as_millisecond();
    Some(Timestamp(seconds).since(now))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);
    const SECOND: Duration = Duration::from_secs(1);

    fn default_delays() -> Vec<Duration> {
        // The contract's default, in seconds.
        [5, 30, 120, 600, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400]
            .map(Duration::from_secs)
            .to_vec()
    }

    fn status(status: u16) -> Heard<'static> {
        Heard { status: Some(status), ..Heard::default() }
    }

    fn wait(verdict: &Verdict) -> Duration {
        match verdict {
            Verdict::RetryAt { at, .. } => at.since(NOW),
            other => panic!("{other:?} is no retry"),
        }
    }

    #[test]
    fn the_status_decides() {
        let delays = default_delays();
        for code in 100..=599 {
            let verdict = judge(0, status(code), &delays, NOW, 0.0);
            let expected = match code {
                200..=299 => "delivered",
                410 => "gone",
                _ => "retry",
            };
            assert_eq!(verdict.name(), expected, "{code}");
        }
        assert_eq!(judge(0, Heard::default(), &delays, NOW, 0.0).name(), "retry");
    }

    #[test]
    fn a_2xx_that_did_not_arrive_whole_is_a_failure_but_a_410_is_a_410() {
        let broken = |code| Heard { broken: Some("timeout: 15 s"), ..status(code) };
        let verdict = judge(0, broken(200), &default_delays(), NOW, 0.0);
        let at = NOW.after(5 * SECOND);
        assert_eq!(verdict, Verdict::RetryAt { at, reason: "timeout: 15 s".into() });
        assert_eq!(judge(0, broken(410), &default_delays(), NOW, 0.0), Verdict::Gone);
    }

    #[test]
    fn twelve_attempts_over_more_than_72_hours_then_it_gives_up() {
        let delays = default_delays();
        let mut now = NOW;
        for round in 0..11 {
            let Verdict::RetryAt { at, .. } = judge(round, status(500), &delays, now, 0.0) else {
                panic!("gave up in round {round}");
            };
            now = at;
        }
        assert!(now.since(NOW) > 72 * 3_600 * SECOND);
        let last = judge(11, status(500), &delays, now, 0.0);
        assert_eq!(last, Verdict::GaveUp { reason: "the receiver answered 500".into() });
        assert_eq!(judge(u32::MAX, status(500), &delays, now, 0.0).name(), "gave_up");
    }

    #[test]
    fn jitter_is_twenty_percent_each_way_and_no_more() {
        let delays = [10 * SECOND];
        for (jitter, milliseconds) in
            [(-1.0, 8_000), (1.0, 12_000), (0.5, 11_000), (9.0, 12_000), (-9.0, 8_000)]
        {
            let verdict = judge(0, status(500), &delays, NOW, jitter);
            assert_eq!(wait(&verdict), Duration::from_millis(milliseconds), "{jitter}");
        }
    }

    #[test]
    fn retry_after_is_honoured_to_the_second_and_only_where_it_means_something() {
        let asking = |code, text| Heard { retry_after: Some(text), ..status(code) };
        let delays = [5 * SECOND];
        for code in [429, 502, 503, 504] {
            assert_eq!(wait(&judge(0, asking(code, "120"), &delays, NOW, 1.0)), 120 * SECOND);
        }
        for code in [400, 404, 428, 430, 500, 501, 505, 302] {
            assert_eq!(wait(&judge(0, asking(code, "120"), &delays, NOW, 0.0)), 5 * SECOND);
        }
        assert_eq!(judge(1, asking(503, "120"), &delays, NOW, 0.0).name(), "gave_up");
    }

    #[test]
    fn retry_after_is_bounded_both_ways() {
        let day = 24 * 3_600;
        for (text, seconds) in [
            ("0", 1),
            ("1", 1),
            ("2", 2),
            ("86400", day),
            ("86401", day),
            ("99999999999999999999999999", day),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 1),
            ("Fri, 01 Jan 2100 00:00:00 GMT", day),
        ] {
            let heard = Heard { retry_after: Some(text), ..status(503) };
            assert_eq!(asked(heard, NOW), Some(seconds * SECOND), "{text}");
        }
    }

    #[test]
    fn retry_after_reads_all_three_date_forms_of_rfc_9110() {
        // RFC 9110, 5.6.7: three spellings of one moment, 784111777 s after the epoch.
        let now = Timestamp((784_111_777 - 90) * 1_000);
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "  Sun, 06 Nov 1994 08:49:37 GMT ",
        ] {
            assert_eq!(retry_after(text, now), Some(90 * SECOND), "{text}");
        }
    }

    #[test]
    fn a_malformed_retry_after_leaves_the_schedule_alone() {
        for text in ["", "soon", "-5", "1.5", "5s", "Sun, 06 Nov 1994 08:49:37 CET"] {
            let heard = Heard { retry_after: Some(text), ..status(503) };
            assert_eq!(asked(heard, NOW), None, "{text}");
        }
        assert_eq!(asked(status(503), NOW), None);
    }

    #[test]
    fn every_verdict_says_why() {
        let why = |round, heard, asked| judge(round, heard, &[SECOND], NOW, 0.0).why(asked);
        assert_eq!(why(0, status(204), false), "accepted");
        assert_eq!(why(0, status(500), false), "schedule");
        assert_eq!(why(0, status(503), true), "retry_after");
        assert_eq!(why(1, status(503), true), "schedule_used_up");
        assert_eq!(why(0, status(410), false), "gone");
    }

    #[test]
    fn a_redirect_says_what_to_do() {
        let Verdict::RetryAt { reason, .. } = judge(0, status(302), &[SECOND], NOW, 0.0) else {
            panic!("no retry");
        };
        assert!(reason.contains("302") && reason.contains("register the final URL"), "{reason}");
    }

    proptest! {
        #[test]
        fn no_header_breaks_it_and_no_wait_leaves_its_bounds(text in "\\PC{0,60}") {
            let heard = Heard { retry_after: Some(&text), ..status(503) };
            if let Some(wait) = asked(heard, NOW) {
                prop_assert!((RETRY_AFTER_MIN..=RETRY_AFTER_MAX).contains(&wait));
            }
        }
    }
}
