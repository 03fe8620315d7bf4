//! What follows from one reply: the place in the schedule, and the etiquette of Standard Webhooks.

use std::time::Duration;

use crate::clock::Timestamp;

/// Jitter takes a wait at most this share up or down, so that what failed together does not come
/// back together.
const JITTER: f64 = 0.2;
/// A receiver cannot make us wait longer: the schedule's own longest wait by default.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(24);
/// `Retry-After: 0`, or a date gone by, does not become a hot loop.
const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
/// A wait that a receiver asks for is never shorter than this part of the time since the first
/// attempt: three days of `Retry-After: 1` are some 330 attempts instead of 270,000.
const ELAPSED_PART: u32 = 32;

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

/// How far a delivery, or its last redelivery, has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// Attempts before this one.
    pub attempts: u32,
    /// When the first of them began; this one, if it is the first.
    pub began_at: Timestamp,
}

/// Judges an attempt that ended at `now`. `jitter` is in [-1, 1].
#[must_use]
pub fn judge(
    round: Round,
    heard: Heard<'_>,
    delays: &[Duration],
    now: Timestamp,
    jitter: f64,
) -> Verdict {
    if heard.status == Some(410) {
        return Verdict::Gone;
    }
    let Some(reason) = complaint(heard) else { return Verdict::Delivered };
    let elapsed = now.since(round.began_at);
    let Some(delay) = next_delay(round.attempts, elapsed, delays, jitter) else {
        return Verdict::GaveUp { reason };
    };
    let wait = match asked(heard, now) {
        Some(wait) => wait.max(delay.min(elapsed / ELAPSED_PART)),
        None => delay,
    };
    Verdict::RetryAt { at: now.after(wait), reason }
}

/// The schedule's next wait; `None`: it is used up, by attempts and by time. A place in it is
/// passed only with both: many attempts in a short time, as receivers ask for that restart, use
/// up nothing, nor does time in which we made no attempt.
fn next_delay(
    attempts: u32,
    elapsed: Duration,
    delays: &[Duration],
    jitter: f64,
) -> Option<Duration> {
    let total = delays.iter().fold(Duration::ZERO, |sum, delay| sum.saturating_add(*delay));
    let attempts = usize::try_from(attempts).unwrap_or(usize::MAX);
    // A schedule whose waits jitter made short is over in time.
    let shortest = |sum: Duration| sum.mul_f64(1.0 - JITTER);
    let last = if attempts > delays.len() { total } else { shortest(total) };
    if attempts >= delays.len() && elapsed >= last {
        return None;
    }
    let passed = delays.iter().scan(Duration::ZERO, |sum, delay| {
        *sum = sum.saturating_add(*delay);
        (elapsed >= shortest(*sum)).then_some(())
    });
    let place = attempts.min(passed.count()).min(delays.len() - 1);
    let delay = jittered(delays[place], jitter);
    // Of more attempts than there are waits, the last one ends the schedule when it is over.
    let is_over = attempts >= delays.len();
    Some(if is_over { delay.min(total.saturating_sub(elapsed)) } else { delay })
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
mod tests;
