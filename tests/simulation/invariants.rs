//! What must hold, whatever happened.

use std::sync::Arc;

use outcomed::config::QuotaLimits;
use outcomed::outcome::{Class, Reason, Report};
use outcomed::store::Store;
use outcomed::task::{Registration, State, webhook_id};

use super::world::{EPOCH, Life, Shared};

/// The quota, for every position of both windows, by the time polls reached the upstream.
pub fn quota_was_kept(world: &Shared, limits: QuotaLimits) {
    let mut arrivals = world.lock().arrivals.clone();
    arrivals.sort_unstable();
    for (window, limit) in [(1_000, limits.per_second), (60_000, limits.per_minute)] {
        for (index, end) in arrivals.iter().enumerate() {
            let first = arrivals.partition_point(|at| *at <= end - window);
            let count = index + 1 - first;
            assert!(count <= limit as usize, "{count} polls within {window} ms before {end}");
        }
    }
}

/// Every promise is kept: told once and truly, or called off.
pub async fn nothing_is_lost(world: &Shared, store: &Arc<dyn Store>) {
    let promises = world.lock().promises.clone();
    for (id, promise) in promises {
        let row = store.find(&id).await.unwrap().unwrap_or_else(|| panic!("{id} vanished"));
        if promise.cancelled && row.state == State::Cancelled {
            continue;
        }
        assert_eq!(row.state, State::Delivered, "{id}: {row:?}");
        let accepted = world.lock().accepted.get(&webhook_id(&id)).cloned();
        let (body, _) = accepted.unwrap_or_else(|| panic!("{id} was never accepted"));
        let report = row.outcome.clone().unwrap();
        let told = outcomed::outcome::read(&body).unwrap();
        assert_eq!(told, report, "what was told is what is stored");
        let life = world.lock().lives[&promise.task];
        told_truly(&row, &report, life);
    }
}

fn told_truly(row: &Registration, report: &Report, life: Life) {
    let reason = report.failure.as_ref().map(|failure| failure.reason);
    let settled_at = report.observed.settled_at.0 - EPOCH;
    match (report.outcome, reason) {
        (Class::Unresolved, Some(reason @ (Reason::TimedOut | Reason::NotObserved))) => {
            let pending = report.observed.last_pending_at.is_some();
            assert_eq!(pending, reason == Reason::TimedOut, "{row:?}");
            assert!(report.observed.settled_at >= row.give_up_at, "given up too early: {row:?}");
        }
        (Class::Unresolved, Some(Reason::TaskNotFound)) => {
            assert_eq!(life.end, None, "a task that Feishu knows was called unknown: {row:?}");
        }
        (class, _) => {
            assert_eq!(Some(class), life.end, "{row:?}");
            assert!(settled_at >= life.settles_at, "seen before it happened: {row:?}");
            let pending = report.observed.last_pending_at.map(|at| at.0 - EPOCH);
            assert!(pending.is_none_or(|at| at <= life.settles_at), "{life:?} {row:?}");
        }
    }
}
