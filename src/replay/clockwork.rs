//! The loop of a replay: time jumps from event to event.

use std::collections::VecDeque;
use std::time::Duration;

use super::policy::{Move, Poller};
use super::trace::Row;
use super::upstream::Upstream;
use crate::clock::Steady;

/// What came of a replay.
#[derive(Debug)]
pub struct Replayed {
    /// Every task, and when it was seen settled (ms).
    pub tasks: Vec<(Row, Option<i64>)>,
    /// Every poll: when it was sent (ms), and of which task.
    pub polls: Vec<(i64, usize)>,
}

struct UnderWay {
    task: usize,
    sent: Steady,
    settled: bool,
    answered_at: Steady,
}

/// Runs a policy over a trace whose polls take `rtt`. `progress` hears now and then how many tasks
/// have been registered.
#[must_use]
pub fn replay(
    rows: Vec<Row>,
    poller: &mut dyn Poller,
    rtt: Duration,
    mut progress: impl FnMut(usize),
) -> Replayed {
    let mut upstream = Upstream::new(rows);
    let mut polls = Vec::new();
    let mut under_way: VecDeque<UnderWay> = VecDeque::new();
    let mut registered = 0;
    let mut now = Steady(0);
    while !upstream.all_seen() || !under_way.is_empty() {
        while upstream.registered_at(registered).is_some_and(|at| at <= now.0) {
            poller.registered(registered, now);
            registered += 1;
        }
        while under_way.front().is_some_and(|poll| poll.answered_at <= now) {
            let Some(poll) = under_way.pop_front() else { break };
            poller.answered(poll.task, poll.sent, poll.settled, now);
        }
        let wait = match poller.next(now) {
            Move::Poll(task) => {
                polls.push((now.0, task));
                let answered_at = now.after(rtt);
                let settled = upstream.look(task, now.after(rtt / 2).0, answered_at.0);
                under_way.push_back(UnderWay { task, sent: now, settled, answered_at });
                continue;
            }
            Move::Wait(until) => until.map(|until| until.max(Steady(now.0 + 1))),
        };
        progress(registered);
        let registration = upstream.registered_at(registered).map(Steady);
        let answer = under_way.front().map(|poll| poll.answered_at);
        let Some(next) = [wait, registration, answer].into_iter().flatten().min() else { break };
        now = now.max(next);
    }
    Replayed { tasks: upstream.books(), polls }
}
