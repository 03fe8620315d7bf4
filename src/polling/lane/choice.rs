//! Which task to poll next, and when. Planned polls, final polls and retries take turns, so that
//! none of them waits for all of another kind.

use super::{Lane, Stage, Step};
use crate::clock::Steady;
use crate::polling::failing::QUOTA_SHARE;
use crate::polling::plan::First;
use crate::task::TaskId;

/// Polls under way at once, whatever the quota says: bounds memory and sockets when replies hang.
/// Outcomes being stored count too: what the store does not take must not pile up.
const UNDER_WAY_MAX: usize = 256;
/// One poll in so many goes to a task that fails by itself even if others are due.
const OWN_FAULT_TURN: u64 = 8;
/// Spreads consecutive numbers over all there are (the golden ratio's bits).
const SCATTER: u64 = 0x9E37_79B9_7F4A_7C15;
/// Tasks looked through for one to ask when none was answered lately.
const SEARCHED_MAX: usize = 64;

/// When to send a poll and of which task, or when to choose again.
type Choice = (Steady, Option<TaskId>);

impl Lane {
    /// When to send the next poll, and of which task, or when to ask again; `None`: only an event
    /// can tell.
    pub(super) fn poll_at(&mut self, now: Steady) -> Option<Choice> {
        if self.waiting() == 0 || self.under_way + self.settling >= UNDER_WAY_MAX {
            return None;
        }
        if self.quota.permits() == 0 {
            return (!self.reserving).then_some((self.reserve_after, None));
        }
        if let Some(task) = self.witness(now) {
            return Some((self.quota.earliest(now), Some(task)));
        }
        let held_until = self.hold.opens(self.under_way)?;
        let (at, task) = self.choose(now)?;
        let at = if task.is_some() { self.quota.earliest(now) } else { at };
        Some((at.max(held_until), task))
    }

    pub(super) fn poll(&mut self, id: TaskId, now: Steady) -> Step {
        self.quota.spend(now);
        self.hold.sent(now);
        self.under_way += 1;
        self.sent += 1;
        if let Some(task) = self.tasks.get_mut(&id) {
            match task.stage {
                Stage::Planned => self.plan.sent(&task.watched.waiting(id)),
                Stage::Failing => self.failing.sent(id, self.quota.spacing(QUOTA_SHARE), now),
                _ => self.deadlines.sent(id),
            }
            task.stage = Stage::UnderWay;
        }
        Step::Poll { task: id }
    }

    fn choose(&mut self, now: Steady) -> Option<Choice> {
        let named = |(at, task)| (at, Some(task));
        let planned = match self.plan.first(now, &self.quota) {
            First::Nothing => None,
            First::Ask(at) => Some((at, None)),
            First::Look(task) => Some((now, Some(task))),
        };
        let finals = self.deadlines.first_final().map(named);
        let retry = self.failing.first().map(named);
        let own = self.failing.first_own(now).map(named);
        let mut order = [planned, finals, planned, retry];
        order.rotate_left(usize::try_from(self.sent % 4).unwrap_or(0));
        let last = if self.sent.is_multiple_of(OWN_FAULT_TURN) { [own, None] } else { [None, own] };
        let choices = [last[0]].into_iter().chain(order).chain([last[1]]).flatten();
        let due = |(at, task): &Choice| *at <= now && task.is_some();
        choices.clone().find(due).or_else(|| choices.map(|(at, _)| (at, None)).min())
    }

    /// A task to be asked at once, one that did not fail last: one that was answered lately, then
    /// the newest, then any, because tasks that were registered together may share a fault.
    fn witness(&self, now: Steady) -> Option<TaskId> {
        let wanted = self.hold.witnesses_wanted(now);
        if wanted == 0 || self.plan.is_empty() {
            return None;
        }
        let planned =
            |id: &TaskId| self.tasks.get(id).is_some_and(|task| task.stage == Stage::Planned);
        let lately = || self.witnesses.iter().find(planned);
        let newest = || self.tasks.keys().rev().take(SEARCHED_MAX).copied().find(planned);
        let any = || {
            let (first, last) = (self.tasks.keys().next()?.0, self.tasks.keys().next_back()?.0);
            let span = last.abs_diff(first).saturating_add(1);
            let from = self.sent.wrapping_mul(SCATTER) % span;
            let from = TaskId(first.saturating_add_unsigned(from));
            let onwards = self.tasks.range(from..).chain(self.tasks.range(..from));
            onwards.take(SEARCHED_MAX).map(|(id, _)| *id).find(planned)
        };
        match wanted % 3 {
            0 => lately().or_else(newest).or_else(any),
            2 => newest().or_else(any),
            _ => any().or_else(newest),
        }
    }

    /// Whether a task that did not fail last is waiting, or is under way.
    pub(super) fn has_others(&self) -> bool {
        self.under_way > 0 || !self.plan.is_empty()
    }
}
