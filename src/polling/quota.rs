//! The quota of one lane: both windows exact for every position, across restarts.
//!
//! A poll reaches Feishu at some moment between its sending and its reply, so that is the span in
//! which it counts as "now": it starts to age only when its reply is in (or, for a reply that
//! hangs, `ARRIVAL_MAX` after it was sent). Whatever the jitter on the way, no window at
//! Feishu's end then holds more than the limit.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::clock::Steady;
use crate::config::QuotaLimits;

/// By then a poll that was sent has certainly reached Feishu, or never will.
const ARRIVAL_MAX: Duration = Duration::from_secs(2);
/// Added to both windows, because clocks tick in milliseconds and not at the same rate.
const ALLOWANCE: Duration = Duration::from_millis(20);
const SECOND: Duration = Duration::from_millis(1_020);
const MINUTE: Duration = Duration::from_millis(60_020);
/// A refusal means that somebody else polls with the same credentials: of what was used so many
/// hundredths are kept, at most this often, and never fewer than the last.
const SHARE_KEPT: u32 = 70;
const SHARE_CUT_EVERY: Duration = Duration::from_secs(10);
const SHARE_MIN: u32 = 5;
/// Then so many hundredths of the limits are tried again, every so often.
const SHARE_PROBE: u32 = 5;
const SHARE_PROBE_EVERY: Duration = Duration::from_secs(60);
/// Polls reserved in one step. Whatever is reserved and not spent is lost to a crash, so the first
/// steps are small: a crash loop must not burn the minute that it starts in.
const RESERVE_FIRST: u32 = 8;
/// Steps grow to this while one follows the other soon, so that a busy lane writes rarely.
const RESERVE_MAX: u32 = 50;
const RESERVE_MORE_WITHIN: Duration = Duration::from_secs(2);
const RESERVE_LESS_AFTER: Duration = Duration::from_secs(15);
/// At a graceful stop polls are written down in groups of this span: a few kilobytes at most.
const CLOSING_SPAN: Duration = Duration::from_millis(250);

/// One lane's quota.
#[derive(Debug)]
pub struct Quota {
    limits: QuotaLimits,
    /// Arrived polls, by the latest moment at which they can have arrived, oldest first.
    arrived: VecDeque<Steady>,
    /// Polls without a reply, by the time they were sent.
    under_way: BTreeMap<Steady, u32>,
    /// Polls that may be sent without another reservation.
    permits: u32,
    /// How many to reserve next, and when that was last done.
    step: u32,
    stepped: Option<Steady>,
    /// Reservations that still matter, oldest first.
    reserved: VecDeque<(Steady, u32)>,
    /// Feishu said no: nothing until then.
    closed_until: Option<Steady>,
    /// How much of the limits is used, hundredths, and since when: less than all of them while a
    /// stranger seems to share the credentials.
    share: u32,
    share_since: Steady,
}

impl Quota {
    /// A quota of which nothing is spent.
    #[must_use]
    pub fn new(limits: QuotaLimits) -> Self {
        Self {
            limits,
            arrived: VecDeque::new(),
            under_way: BTreeMap::new(),
            permits: 0,
            step: RESERVE_FIRST,
            stepped: None,
            reserved: VecDeque::new(),
            closed_until: None,
            share: 100,
            share_since: Steady(i64::MIN),
        }
    }

    /// From now on other limits hold.
    pub fn set_limits(&mut self, limits: QuotaLimits) {
        self.limits = limits;
    }

    /// Counts what an earlier owner reserved, each reservation as late as it can have arrived: when
    /// the next one was made, and of the last one, which may be under way, a while from now.
    pub fn restore(&mut self, reservations: &[(Steady, u32)], now: Steady) {
        for (index, (at, polls)) in reservations.iter().enumerate() {
            let next = reservations.get(index + 1);
            let spent_by = next.map_or(now.after(ARRIVAL_MAX), |(next, _)| (*next).min(now));
            self.reserved.push_back((*at, *polls));
            for _ in 0..*polls {
                self.arrive(spent_by);
            }
        }
        self.forget(now);
    }

    /// When the next poll may be sent, by what is known now.
    #[must_use]
    pub fn earliest(&mut self, now: Steady) -> Steady {
        self.overdue(now);
        self.forget(now);
        let second = self.window_opens(now, SECOND, self.working(self.limits.per_second));
        let minute = self.window_opens(now, MINUTE, self.working(self.limits.per_minute));
        now.max(second).max(minute).max(self.closed_until.unwrap_or(now))
    }

    /// How many polls may be sent within `ahead` from now, if each is sent as early as it may.
    #[must_use]
    pub fn room(&self, now: Steady, ahead: Duration) -> u32 {
        let still = now.after(ahead).before(MINUTE);
        let first = self.arrived.partition_point(|at| *at <= still);
        let kept = u32::try_from(self.arrived.len() - first).unwrap_or(u32::MAX);
        let under_way: u32 = self.under_way.values().sum();
        self.working(self.limits.per_minute).saturating_sub(kept).saturating_sub(under_way)
    }

    /// How many polls may be sent a second.
    #[must_use]
    pub fn pace(&self) -> f64 {
        f64::from(self.working(self.limits.per_second))
    }

    /// How far apart polls are that use up one part in `share` of both windows.
    #[must_use]
    pub fn spacing(&self, share: u32) -> Duration {
        let second = SECOND * share / self.working(self.limits.per_second);
        second.max(MINUTE * share / self.working(self.limits.per_minute))
    }

    /// A poll is sent.
    pub fn spend(&mut self, now: Steady) {
        debug_assert!(self.permits > 0, "a poll without a reservation");
        self.permits = self.permits.saturating_sub(1);
        *self.under_way.entry(now).or_default() += 1;
    }

    /// The reply to the poll that was sent then is in, or its sending failed.
    pub fn replied(&mut self, sent: Steady, now: Steady) {
        let Some(count) = self.under_way.get_mut(&sent) else { return };
        *count -= 1;
        if *count == 0 {
            self.under_way.remove(&sent);
        }
        self.arrive(now.min(sent.after(ARRIVAL_MAX)));
    }

    /// Feishu refused a poll for lack of quota: nothing more for `reset`.
    pub fn refused(&mut self, reset: Duration, now: Steady) {
        self.closed_until = self.closed_until.max(Some(now.after(reset)));
        // Polls under way at the first refusal are refused for the same reason.
        if self.share == 100 || now.since(self.share_since) >= SHARE_CUT_EVERY {
            self.share = (self.share * SHARE_KEPT / 100).max(SHARE_MIN);
            self.share_since = now;
        }
    }

    /// What is used of a limit.
    fn working(&self, limit: u32) -> u32 {
        (limit * self.share / 100).max(1)
    }

    /// Polls that may be sent without another reservation.
    #[must_use]
    pub fn permits(&self) -> u32 {
        self.permits
    }

    /// How many polls to reserve, if it is time to.
    #[must_use]
    pub fn reservation_wanted(&self) -> Option<u32> {
        (self.permits < self.step / 2).then_some(self.step)
    }

    /// A reservation is durable.
    pub fn reserved(&mut self, polls: u32, now: Steady) {
        self.reserved = self.booked(polls, now);
        self.permits += polls;
        self.step = match self.stepped.replace(now).map(|last| now.since(last)) {
            Some(gone) if gone < RESERVE_MORE_WITHIN => (self.step * 2).min(RESERVE_MAX),
            Some(gone) if gone >= RESERVE_LESS_AFTER => (self.step / 2).max(RESERVE_FIRST),
            _ => self.step,
        };
        self.forget(now);
    }

    /// The reservations that still matter, with one of `polls` made now.
    #[must_use]
    pub fn reservations_with(&self, polls: u32, now: Steady) -> Vec<(Steady, u32)> {
        self.booked(polls, now).into()
    }

    /// A reservation counts as spent when the next one is made. What has not arrived by then is
    /// the next one's: permits that are left, and polls under way.
    fn booked(&self, polls: u32, now: Steady) -> VecDeque<(Steady, u32)> {
        let carried = self.permits + self.under_way.values().sum::<u32>();
        let mut booked = self.reserved.clone();
        let mut left = carried;
        for (_, polls) in booked.iter_mut().rev() {
            let moved = left.min(*polls);
            (*polls, left) = (*polls - moved, left - moved);
        }
        booked.push_back((now, polls + carried));
        booked
    }

    /// What was really spent in the last minute, as reservations for [`Quota::restore`]: the next
    /// owner of a lane that stops in good order need not count what was only reserved.
    #[must_use]
    pub fn closing(&self, now: Steady) -> Vec<(Steady, u32)> {
        let since = now.before(MINUTE);
        let mut groups: Vec<(Steady, Steady, u32)> = Vec::new();
        for at in self.arrived.iter().copied().filter(|at| *at > since) {
            match groups.last_mut() {
                Some((first, last, polls)) if at.since(*first) < CLOSING_SPAN => {
                    (*last, *polls) = (at, *polls + 1);
                }
                _ => groups.push((at, at, 1)),
            }
        }
        // A reservation counts as spent when the next one was made, the last one at the restart.
        let mut closing = Vec::with_capacity(groups.len() + 2);
        let mut from = groups.first().map_or(now, |(first, ..)| *first);
        for (_, last, polls) in groups {
            closing.push((from, polls));
            from = last;
        }
        // The last entry is made now, whatever it holds: by it the next owner tells the clocks apart.
        closing.extend([(from, 0), (now, self.under_way.values().sum())]);
        closing
    }

    /// Polls in the last second and in the last minute.
    #[must_use]
    pub fn used(&self, now: Steady) -> (u32, u32) {
        (self.count(now, SECOND), self.count(now, MINUTE))
    }

    /// The quota's limits.
    #[must_use]
    pub fn limits(&self) -> QuotaLimits {
        self.limits
    }

    fn count(&self, now: Steady, window: Duration) -> u32 {
        let since = now.before(window);
        let first = self.arrived.partition_point(|at| *at <= since);
        let arrived = self.arrived.len() - first;
        u32::try_from(arrived).unwrap_or(u32::MAX) + self.under_way.values().sum::<u32>()
    }

    /// When the window holds fewer than `limit`.
    fn window_opens(&self, now: Steady, window: Duration, limit: u32) -> Steady {
        let under_way: u32 = self.under_way.values().sum();
        let room = limit.saturating_sub(under_way) as usize;
        if room == 0 {
            // Only a reply can tell, or the moment at which the oldest counts as arrived.
            let oldest = self.under_way.keys().next().copied().unwrap_or(now);
            return oldest.after(ARRIVAL_MAX).after(ALLOWANCE);
        }
        match self.arrived.len().checked_sub(room) {
            Some(index) => self.arrived[index].after(window),
            None => now,
        }
    }

    /// Polls whose reply hangs have arrived, or never will.
    fn overdue(&mut self, now: Steady) {
        while let Some((sent, count)) = self.under_way.first_key_value().map(|(s, c)| (*s, *c)) {
            if sent.after(ARRIVAL_MAX) > now {
                break;
            }
            self.under_way.remove(&sent);
            for _ in 0..count {
                self.arrive(sent.after(ARRIVAL_MAX));
            }
        }
    }

    fn arrive(&mut self, at: Steady) {
        let place = self.arrived.partition_point(|other| *other <= at);
        self.arrived.insert(place, at);
    }

    fn forget(&mut self, now: Steady) {
        let since = now.before(MINUTE);
        while self.arrived.front().is_some_and(|at| *at <= since) {
            self.arrived.pop_front();
        }
        // A reservation counts until the next one was made.
        while self.reserved.get(1).is_some_and(|(next, _)| *next <= since) {
            self.reserved.pop_front();
        }
        while self.share < 100 && now.since(self.share_since) >= SHARE_PROBE_EVERY {
            self.share = (self.share + SHARE_PROBE).min(100);
            self.share_since = self.share_since.after(SHARE_PROBE_EVERY);
        }
        if self.closed_until.is_some_and(|until| until <= now) {
            self.closed_until = None;
        }
    }
}

#[cfg(test)]
mod tests;
