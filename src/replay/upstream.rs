//! The trace's side of a replay: what Feishu would know. Policies never see it.

use super::trace::Row;

const NANOS_PER_MILLI: i64 = 1_000_000;

/// Answers polls from a trace.
#[derive(Debug)]
pub struct Upstream {
    rows: Vec<Row>,
    seen: Vec<Option<i64>>,
    /// Settling tasks that no poll has seen settled.
    unseen: usize,
}

impl Upstream {
    /// The upstream of a trace.
    #[must_use]
    pub fn new(rows: Vec<Row>) -> Self {
        let unseen = rows.iter().filter(|row| row.settles_after.is_some()).count();
        Self { seen: vec![None; rows.len()], rows, unseen }
    }

    /// When a task was registered: the first whole millisecond of which that is true.
    #[must_use]
    pub fn registered_at(&self, task: usize) -> Option<i64> {
        let row = self.rows.get(task)?;
        Some(-(-row.registered_at).div_euclid(NANOS_PER_MILLI))
    }

    /// Whether a task has settled when a poll looks at `at` (ms): the one way to learn it. The
    /// answer arrives at `answered_at`.
    pub fn look(&mut self, task: usize, at: i64, answered_at: i64) -> bool {
        let row = self.rows[task];
        let Some(after) = row.settles_after else { return false };
        let settled = row.registered_at + after <= at * NANOS_PER_MILLI;
        if settled && self.seen[task].is_none() {
            self.seen[task] = Some(answered_at);
            self.unseen -= 1;
        }
        settled
    }

    /// Whether every task that settles has been seen settled: the replay is over. (Policies are
    /// not told; the tasks that never settle would be polled until their deadline.)
    #[must_use]
    pub fn all_seen(&self) -> bool {
        self.unseen == 0
    }

    /// Opens the books when the replay is over: every task, and when it was seen settled (ms).
    #[must_use]
    pub fn books(self) -> Vec<(Row, Option<i64>)> {
        self.rows.into_iter().zip(self.seen).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_settled_from_its_very_moment_on() {
        let row = Row { registered_at: 1_000_000_001, settles_after: Some(1_000_000_000) };
        let mut upstream = Upstream::new(vec![row]);
        assert_eq!(upstream.registered_at(0), Some(1_001));
        assert!(!upstream.look(0, 2_000, 2_000));
        assert!(!upstream.all_seen());
        assert!(upstream.look(0, 2_001, 2_050));
        assert!(upstream.all_seen());
        assert_eq!(upstream.books(), [(row, Some(2_050))]);
    }
}
