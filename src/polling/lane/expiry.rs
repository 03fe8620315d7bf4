//! Tasks whose time is over: each gets a final poll, then its end is stored. However many expire
//! together, a step works on a few of them, and few ends are being stored at once.

use std::time::Duration;

use super::{Lane, Stage};
use crate::clock::Steady;
use crate::task::TaskId;

/// How long a task past its deadline waits for its final poll.
pub(super) const FINAL_POLL_WAIT: Duration = Duration::from_secs(5);
/// A poll this shortly before the deadline is the final one.
const FINAL_POLL_FRESH: Duration = Duration::from_millis(500);
/// Tasks worked on in one step.
pub(super) const EXPIRED_MAX: usize = 64;
/// Ends being stored at once: enough to fill the store's commits, few enough that whoever else
/// writes does not wait behind them.
pub(super) const GIVE_UPS_MAX: usize = 64;

impl Lane {
    /// Works on tasks whose deadline, or wait for a final poll, has just come.
    pub(super) fn expire(&mut self, now: Steady) {
        for _ in 0..EXPIRED_MAX {
            let Some(id) = self.deadlines.pop_expired(now) else { break };
            self.expired(id, now);
        }
        for _ in 0..EXPIRED_MAX {
            let Some(id) = self.deadlines.pop_ended(now) else { break };
            if self.tasks.get(&id).is_some_and(|task| task.stage == Stage::Past) {
                self.deadlines.end(id);
            }
        }
    }

    fn expired(&mut self, id: TaskId, now: Steady) {
        let Some(task) = self.tasks.get(&id) else { return };
        match task.stage {
            Stage::Planned => self.plan.remove(&task.watched.waiting(id)),
            Stage::Failing => self.failing.take(id),
            Stage::UnderWay => {
                return self.deadlines.wait_for_final(id, now.after(FINAL_POLL_WAIT));
            }
            Stage::Past | Stage::Settling | Stage::GivingUp => return,
        }
        let fresh_from = task.watched.give_up_at.before(FINAL_POLL_FRESH);
        let answered = task.looked.is_some_and(|at| at >= fresh_from);
        self.wait_for_final(id, now.after(FINAL_POLL_WAIT));
        if answered {
            return self.deadlines.end(id);
        }
        // One that has just failed waits for its retry like any other.
        let failed = self.failing.get(id).filter(|failure| failure.at >= fresh_from);
        let retry_at = failed.and_then(|_| self.failing.retry_at(id));
        self.deadlines.poll_finally(id, retry_at.unwrap_or(now).max(now));
    }

    pub(super) fn wait_for_final(&mut self, id: TaskId, ends: Steady) {
        self.deadlines.wait_for_final(id, ends);
        if let Some(task) = self.tasks.get_mut(&id) {
            task.stage = Stage::Past;
        }
    }

    /// A task past its deadline has had an answer to a poll that was sent then.
    pub(super) fn answered_past(&mut self, id: TaskId, sent: Steady, ends: Steady, now: Steady) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.stage = Stage::Past;
        if sent >= task.watched.give_up_at.before(FINAL_POLL_FRESH) || now >= ends {
            self.deadlines.end(id);
        } else {
            self.deadlines.poll_finally(id, now);
        }
    }

    /// A poll of a task past its deadline got no answer.
    pub(super) fn failed_past(&mut self, id: TaskId, ends: Steady, now: Steady) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.stage = Stage::Past;
        let retry_at = self.failing.retry_at(id).unwrap_or(now);
        if now >= ends {
            self.deadlines.end(id);
        } else if retry_at < ends {
            self.deadlines.poll_finally(id, retry_at);
        }
    }

    /// The next task whose end is to be stored.
    pub(super) fn give_up(&mut self) -> Option<TaskId> {
        if self.giving_up >= GIVE_UPS_MAX {
            return None;
        }
        let id = self.deadlines.pop_over()?;
        let task = self.tasks.get_mut(&id)?;
        task.stage = Stage::GivingUp;
        self.giving_up += 1;
        Some(id)
    }
}
